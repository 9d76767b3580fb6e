// A picture to a version beside the hub, and what it found drawn on it.
import { dropping, element } from "./drop.js";
import { Refused } from "./forms.js";

const COLOURS = ["#17bebb", "#e4572e", "#ffc914", "#76b041", "#b388eb", "#f79256"];
const $ = (id) => document.getElementById(id);
const drop = $("drop");
const threshold = $("threshold");
let picture = null;
let bitmap = null;
let turn = 0;
let chosen = false;

const tell = (text, wrong = false) => {
  $("said").textContent = text;
  $("said").hidden = !text;
  $("said").classList.toggle("bad", wrong);
};

async function take([file]) {
  if (!file) return;
  picture = file;
  const mine = ++turn;
  const opened = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (mine !== turn) return;
  bitmap = opened;
  $("hint").hidden = bitmap !== null;
  $("canvas").hidden = bitmap === null;
  $("again").hidden = false;
  drop.classList.toggle("full", bitmap !== null);
  draw({}, () => COLOURS[0]);
  await look();
}

async function look() {
  if (!picture) return;
  const mine = ++turn;
  tell(drop.dataset.asking);
  try {
    const csrf = document.querySelector("meta[name=csrf]").content;
    const query = chosen ? `?threshold=${threshold.value}` : "";
    const answer = await fetch(drop.dataset.path + query, { method: "POST", headers: { "X-CSRF-Token": csrf }, body: picture });
    const told = await answer.json();
    if (mine !== turn) return;
    if (!answer.ok) throw new Refused(told.error.message);
    show(told);
  } catch (error) {
    if (mine === turn) { tell(error.message, true); draw({}, () => COLOURS[0]); $("found").replaceChildren(); }
  }
}

function findings(told) {
  if (told.poses) return told.poses.map((one, at) => ({ ...one, class: `${at + 1}` }));
  const found = told.detections ?? told.segments ?? told.classes;
  return found?.map((one) => ({ ...one, score: one.score ?? one.share }));
}

function show(told) {
  const found = findings(told);
  const names = [...new Set((found ?? []).map((one) => one.class))].sort();
  const colour = (name) => COLOURS[names.indexOf(name) % COLOURS.length];
  draw(told, colour);
  tell(found ? (found.length ? "" : drop.dataset.nothing) : drop.dataset.other);
  $("found").replaceChildren(...(found ?? []).map((one) => {
    const row = document.createElement("tr");
    const name = element("th", one.class);
    name.scope = "row";
    row.append(name, element("td", one.score.toFixed(2), "num"));
    return row;
  }));
  const timing = told.timing ?? {};
  $("timing").textContent = Object.entries(timing).map(([key, value]) => `${key.replace("_ms", "")} ${value.toFixed(1)} ms`).join(" · ");
}

function draw(told, colour) {
  if (!bitmap) return;
  const canvas = $("canvas");
  const scale = Math.min(1, 1600 / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (told.map) {
    const shown = new Map(told.classes.slice(1).map((one) => [one.number, colour(one.class)]));
    tint(pen, told.map, (value) => shown.get(value));
  }
  for (const one of told.segments ?? []) tint(pen, one.mask, (value) => (value ? colour(one.class) : undefined));
  const letters = Math.max(13, Math.round(canvas.width / 48));
  pen.font = `600 ${letters}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  pen.lineWidth = Math.max(2, letters / 6);
  for (const one of findings(told) ?? []) {
    if (one.box) frame(pen, one.box.map((edge) => edge * scale), `${one.class} ${one.score.toFixed(2)}`, colour(one.class), letters);
    pen.fillStyle = colour(one.class);
    for (const { point: [y, x] } of one.keypoints ?? []) {
      pen.beginPath();
      pen.arc(x * scale, y * scale, letters / 3, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}

function frame(pen, [top, left, bottom, right], text, colour, letters) {
  pen.strokeStyle = colour;
  pen.strokeRect(left, top, right - left, bottom - top);
  const wide = pen.measureText(text).width + letters * 0.6;
  const high = letters * 1.3;
  const x = Math.max(0, Math.min(left, pen.canvas.width - wide));
  const y = top > high ? top - high : Math.min(bottom, pen.canvas.height - high);
  pen.fillStyle = colour;
  pen.fillRect(x, y, wide, high);
  pen.fillStyle = "#000";
  pen.fillText(text, x + letters * 0.3, y + letters * 0.2);
}

function tint(pen, { height, width, runs }, colourOf) {
  const layer = new OffscreenCanvas(width, height);
  const ground = layer.getContext("2d");
  const image = ground.createImageData(width, height);
  let at = 0;
  for (const [value, length] of runs) {
    const colour = colourOf(value);
    if (colour) {
      const [r, g, b] = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
      for (let n = at; n < at + length; n += 1) image.data.set([r, g, b, 128], 4 * n);
    }
    at += length;
  }
  ground.putImageData(image, 0, 0);
  pen.drawImage(layer, 0, 0, pen.canvas.width, pen.canvas.height);
}

threshold?.addEventListener("change", () => { chosen = true; look(); });
$("again")?.addEventListener("click", () => $("picture").click());
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => take([await (await fetch(button.dataset.sample)).blob()]));
}
if (drop) dropping(drop, $("picture"), take);
