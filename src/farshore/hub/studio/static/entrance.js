// The way in. A link from elsewhere comes without the session's cookie: whoever is logged in already goes on from here. A setup
// link's secret stands behind "#", where no server sees it.
const setup = document.getElementById("setup");

if (setup) {
  const said = document.getElementById("said");
  const say = (text, wrong) => {
    said.textContent = text;
    said.hidden = false;
    said.classList.toggle("bad", wrong);
  };
  setup.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (setup.one.value !== setup.two.value) { say(setup.dataset.unequal, true); return; }
    const secret = location.hash.slice(1).replace(/^farshore1\./, "").split(".")[0];
    const answer = await fetch("/v1/setup", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ secret, password: setup.one.value }),
    });
    const told = await answer.json();
    say(answer.ok ? told.name : told.error.message, !answer.ok);
    if (answer.ok) {
      setup.remove();
      document.getElementById("done").hidden = false;
      history.replaceState(null, "", location.pathname);
    }
  });
} else {
  const answer = await fetch("/v1/me");
  const next = document.querySelector("input[name=next]");
  if (answer.ok && next) location.replace(next.value);
}
