// Devices: editing a twin with what was read of it, trying a version again, and the QR code of an enrolment.
import { ask, Refused, say } from "./forms.js";

const SVG = "http://www.w3.org/2000/svg";
const QUIET = 4;

// Where a JSON text breaks, as line and column; browsers say it in words of their own or not at all.
function broken(text, error) {
  const place = /position (\d+)/.exec(error.message);
  if (!place) return error.message;
  const before = text.slice(0, Number(place[1])).split("\n");
  return `${before.length}:${before.at(-1).length + 1} ${error.message}`;
}

function read(form, name) {
  const text = form.elements[name].value;
  try {
    const found = JSON.parse(text);
    if (found && typeof found === "object" && !Array.isArray(found)) return found;
    throw new SyntaxError("{ … }");
  } catch (error) {
    form.elements[name].setAttribute("aria-invalid", "true");
    form.elements[name].focus();
    throw new Refused(`${name}: ${form.dataset.wrong} ${broken(text, error)}`);
  }
}

async function save(form) {
  for (const one of form.elements) one.removeAttribute("aria-invalid");
  say(form, "");
  try {
    const tags = read(form, "tags");
    // With its $version the hub knows that this was read: models that only repeat what deployments say are not held by hand.
    const desired = { ...read(form, "desired"), $version: Number(form.dataset.version) };
    const headers = { "If-Match": `"${form.dataset.etag}"` };
    await ask("PUT", `/v1/devices/${form.dataset.device}/twin`, { tags, properties: { desired } }, headers);
    location.reload();
  } catch (error) {
    say(form, error.message);
  }
}

async function retry(form) {
  say(form, "");
  const path = `/v1/devices/${form.dataset.retry}/twin`;
  try {
    const told = await ask("GET", path);
    const models = told.properties.desired.models ?? {};
    const key = Object.keys(models).find((one) => decodeURIComponent(one) === form.dataset.model) ?? form.dataset.model;
    const next = (models[key]?.retry ?? 0) + 1;
    await ask("PATCH", path, { properties: { desired: { models: { [key]: { retry: next } } } } });
    location.reload();
  } catch (error) {
    say(form, error.message);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id === "twin") { event.preventDefault(); save(form); }
  if (form.dataset.retry) { event.preventDefault(); retry(form); }
});

document.addEventListener("input", (event) => {
  if (!event.target.dataset.pairs) return;
  const pairs = event.target.value.split(",").map((one) => one.split("=")).filter(([name]) => name.trim());
  const tags = Object.fromEntries(pairs.map(([name, ...rest]) => [name.trim(), rest.join("=").trim()]));
  event.target.form.elements[event.target.dataset.pairs].value = pairs.length ? JSON.stringify(tags) : "";
});

function draw(rows) {
  const side = rows.length + 2 * QUIET;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${side} ${side}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", rows.flatMap((row, y) => [...row].map((one, x) => (one === "1" ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : ""))).join(""));
  picture.append(path);
  return picture;
}

document.addEventListener("answered", (event) => {
  if (event.target.id !== "enrol") return;
  document.getElementById("command").textContent = event.detail.command;
  document.getElementById("qr").replaceChildren(draw(event.detail.qr));
  document.getElementById("made").hidden = false;
});
