// Forms that change something by the API.
//
//   <form data-api="PUT /v1/links/{link}" data-then="reload">
//
// Fields become members of the JSON that is sent: "gate.success" stands inside "gate". A field named in the address goes there.
// data-as="number|json|list|flag|pairs|grants|days" says what a field is if not text; empty ones are left out unless data-keep is there.
// data-then: "reload"; "go /studio/rollouts/{id}", filled in from the answer; or "show": the element data-shown="NAME" gets the
// answer's member, and the form's [data-result] is shown. Errors stand in the form's <output>.
// Buttons: data-opens="ID" opens a dialog, data-closes closes the one around it.

const csrf = () => document.querySelector("meta[name=csrf]")?.content ?? "";

export class Refused extends Error {}

// Ask the API; the decoded answer, or Refused with the hub's own words.
export async function ask(method, path, body, headers = {}) {
  const given = { "X-CSRF-Token": csrf(), ...headers };
  if (body !== undefined) given["Content-Type"] = "application/json";
  const text = body === undefined ? (method === "GET" || method === "DELETE" ? undefined : "{}") : JSON.stringify(body);
  const answer = await fetch(path, { method, headers: given, body: text });
  const told = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(told?.error?.message ?? `${answer.status} ${answer.statusText}`);
  return told;
}

function value(field) {
  if (field.type === "checkbox") return field.checked;
  const text = field.value.trim();
  if (text === "" && !("keep" in field.dataset)) return undefined;
  if (field.dataset.as === "number") return Number(text);
  if (field.dataset.as === "flag") return text === "true";
  if (field.dataset.as === "list") return text.split(/[,\s]+/).filter(Boolean);
  if (field.dataset.as === "days") return Math.round(86400 * Number(text));
  if (field.dataset.as === "grants") return text.split(/[,\s]+/).filter(Boolean).map(granted);
  if (field.dataset.as === "pairs") return pairs(text);
  if (field.dataset.as === "json") return JSON.parse(text);
  return text;
}

// "operator:north" is a role on one fleet, "operator" on every one.
function granted(text) {
  const [role, fleet] = text.split(":");
  return { role, fleet: fleet || "*" };
}

// Lines of KEY=VALUE; "KEY=" takes the key away.
function pairs(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const [key, ...rest] = line.split("=");
    return [key.trim(), rest.join("=").trim() || null];
  }));
}

// What the form says, as the API takes it.
export function members(form) {
  const found = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === "radio" && !field.checked)) continue;
    const one = value(field);
    if (one === undefined) continue;
    const path = field.name.split(".");
    let place = found;
    for (const step of path.slice(0, -1)) place = place[step] ??= {};
    place[path.at(-1)] = one;
  }
  return found;
}

function filled(address, from, takes) {
  return address.replace(/\{(\w+)\}/g, (_, name) => {
    const found = encodeURIComponent(from[name] ?? "");
    if (takes) delete from[name];
    return found;
  });
}

export function say(form, text, wrong = true) {
  const said = form.querySelector("output");
  if (!said) return;
  said.textContent = text;
  said.hidden = !text;
  said.classList.toggle("bad", wrong);
}

async function send(form, button) {
  say(form, "");
  const [method, address] = form.dataset.api.split(" ");
  const controls = [...form.querySelectorAll("button")];
  try {
    const said = members(form);
    if (button?.name) said[button.name] = button.value;
    const path = filled(address, said, true);
    for (const one of controls) one.disabled = true;
    const answer = await ask(method, path, method === "DELETE" ? undefined : said);
    form.dispatchEvent(new CustomEvent("answered", { bubbles: true, detail: answer }));
    const [then, where] = (form.dataset.then ?? "reload").split(" ");
    if (then === "go") location.assign(filled(where, answer ?? {}, false));
    else if (then === "reload") location.reload();
    else show(form, answer ?? {});
  } catch (error) {
    say(form, error instanceof Refused || error instanceof SyntaxError ? error.message : `${error}`);
  } finally {
    for (const one of controls) one.disabled = false;
  }
}

function show(form, answer) {
  for (const one of form.querySelectorAll("[data-shown]")) one.textContent = answer[one.dataset.shown] ?? "";
  for (const one of form.querySelectorAll("[data-result]")) one.hidden = false;
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.api) return;
  event.preventDefault();
  send(event.target, event.submitter);
});

document.addEventListener("click", (event) => {
  const opens = event.target.closest("[data-opens]");
  if (opens) document.getElementById(opens.dataset.opens)?.showModal();
  if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
  const copies = event.target.closest("[data-copies]");
  if (copies) navigator.clipboard?.writeText(document.getElementById(copies.dataset.copies)?.textContent ?? "");
});
