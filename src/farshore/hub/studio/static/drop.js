// A place to drop files on, or to choose them.
export function dropping(place, field, take) {
  for (const kind of ["dragenter", "dragover"]) {
    place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
  }
  place.addEventListener("dragleave", (event) => { if (!place.contains(event.relatedTarget)) place.classList.remove("over"); });
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
  field.addEventListener("change", () => { take([...field.files]); field.value = ""; });
}

export function element(name, text = "", classes = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (classes) made.className = classes;
  return made;
}

export function size(count) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 999.5 && unit < 3) { count /= 1000; unit += 1; }
  return `${count.toFixed(unit && count < 99.95 ? 1 : 0)} ${units[unit]}`;
}
