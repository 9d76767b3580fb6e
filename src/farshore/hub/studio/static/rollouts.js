// A rollout is planned before it can be started: what it moves and costs, and who cannot have it. A change of the form asks for a new plan.
import { ask, members, say } from "./forms.js";

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const SHOWN = 12;
const form = document.getElementById("start");
const go = document.getElementById("go");
const slot = (name) => document.querySelector(`[data-plan=${name}]`);
let asked = null;

function size(count) {
  let unit = 0;
  for (; count >= 999.5 && unit < UNITS.length - 1; unit += 1) count /= 1000;
  return `${count.toFixed(unit === 0 || count >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

function span(seconds) {
  const [unit, length] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, one]) => seconds >= one) ?? ["s", 1];
  return seconds ? `${Number((seconds / length).toPrecision(3))} ${unit}` : "–";
}

// The form as the API takes it: percentages, minutes and megabytes in its units.
function said() {
  const found = members(form);
  for (const field of form.querySelectorAll("[data-times]")) {
    if (field.value.trim() === "") continue;
    const [group, name] = field.name.split(".");
    found[group][name] = Number((Number(field.value) * Number(field.dataset.times)).toPrecision(12));
  }
  delete found.plan;
  return found;
}

function item(text, strong = "") {
  const made = document.createElement("li");
  if (strong) {
    const name = document.createElement("b");
    name.textContent = `${strong} `;
    made.append(name);
  }
  made.append(text);
  return made;
}

function show(plan) {
  const sum = (name) => plan.devices.reduce((total, one) => total + (one[name] ?? 0), 0);
  const troubled = plan.devices.filter((one) => one.trouble);
  const money = new Map();
  for (const one of plan.devices) if (one.money) money.set(one.currency, (money.get(one.currency) ?? 0) + one.money);
  slot("brings").textContent = `${plan.model}@${plan.version}`;
  slot("selector").textContent = plan.selector;
  slot("devices").textContent = plan.devices.length.toLocaleString();
  slot("bytes").textContent = size(sum("bytes"));
  slot("whole").textContent = slot("whole").dataset.text.replace("{size}", size(sum("whole")));
  slot("money").textContent = [...money].map(([currency, amount]) => `${amount.toFixed(2)} ${currency}`).join(" + ") || "–";
  slot("time").textContent = span(plan.devices.reduce((most, one) => Math.max(most, one.seconds ?? 0), 0));
  slot("cannot").textContent = troubled.length.toLocaleString();
  slot("inexact").hidden = plan.exact;
  slot("trouble").replaceChildren(...troubled.slice(0, SHOWN).map((one) => item(one.trouble, one.device)));
  const others = Object.entries(plan.others ?? {});
  slot("others").replaceChildren(...others.map(([who, count]) => item(slot("others").dataset.text.replace("{n}", count).replace("{who}", who))));
  document.getElementById("unplanned").hidden = true;
  document.getElementById("planned").hidden = false;
  document.getElementById("planned").scrollIntoView({ block: "nearest" });
}

async function work(call) {
  const buttons = [...form.querySelectorAll("button")];
  const were = buttons.map((one) => one.disabled);
  for (const one of buttons) one.disabled = true;
  try {
    await call();
  } catch (error) {
    say(form, error.message);
  } finally {
    buttons.forEach((one, at) => { one.disabled = were[at]; });
  }
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  say(form, form.dataset.planning, false);
  const wanted = said();
  await work(async () => {
    show(await ask("POST", "/v1/rollouts/plan", wanted));
    say(form, "");
    asked = JSON.stringify(wanted);
  });
  go.disabled = asked === null;
  go.classList.toggle("primary", !go.disabled);
});

form?.addEventListener("input", () => {
  asked = null;
  go.disabled = true;
  go.classList.remove("primary");
});

go?.addEventListener("click", () => work(async () => {
  if (asked === null) return;
  const made = await ask("POST", "/v1/rollouts", JSON.parse(asked));
  location.assign(`/studio/rollouts/${encodeURIComponent(made.id)}`);
}));
