// News: the hub says what kinds of things changed, and the parts of the page that show them (data-live="device rollout", with
// an id) are asked for again and put in place. Hidden pages hold no connection: a browser has six of them for one hub.
import { localise } from "./times.js";

const PAUSE = 1500;
let source = null;
let waiting = null;
let wanted = new Set();

const parts = (root) => [...root.querySelectorAll("[data-live][id]")];
const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
const touched = (part) => part.dataset.live.split(" ").some((kind) => kind === "*" || wanted.has(kind));

export async function refresh(all = false) {
  waiting = null;
  if (all) wanted.add("*");
  const meant = parts(document).filter((part) => all || touched(part));
  wanted = new Set();
  if (!meant.length) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected) { location.reload(); return; }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localise(fresh);
  for (const part of meant) {
    const next = fresh.getElementById(part.id);
    if (!next || busy(part) || part.querySelector("dialog[open]") || next.innerHTML === part.innerHTML) continue;
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.replaceChildren(...next.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus();
    part.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
  }
}

function hear(event) {
  for (const kind of JSON.parse(event.data).kinds) wanted.add(kind);
  if (!waiting) waiting = setTimeout(refresh, PAUSE);
}

function listen() {
  const wants = !document.hidden && parts(document).length > 0;
  if (wants && !source) {
    source = new EventSource("/v1/events");
    source.addEventListener("message", hear);
  } else if (!wants && source) {
    source.close();
    source = null;
  }
}

export function follow() {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh(true);
    listen();
  });
  listen();
}
