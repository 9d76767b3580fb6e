// The keyboard: "/" goes to the search box, "g" and a letter to a page (data-key in the menu), "?" shows the list.
let began = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog[open]")) return;
  if (event.key === "/") {
    const box = document.querySelector("input[type=search], [data-search]");
    if (box) { event.preventDefault(); box.focus(); box.select(); }
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  } else if (event.key === "g") {
    began = event.timeStamp;
  } else if (event.timeStamp - began < 1500) {
    began = 0;
    document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
  }
});
