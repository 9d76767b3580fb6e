// A new version from the browser: files are sent, the hub says what it recognised, then they are pushed.
import { dropping, element, size } from "./drop.js";
import { ask, members, say } from "./forms.js";

const drop = document.getElementById("drop");
const push = document.getElementById("push");
const said = document.getElementById("said");
const command = document.getElementById("command");
let files = [];

const tell = (text, wrong = true) => {
  said.textContent = text;
  said.hidden = !text;
  said.classList.toggle("bad", wrong);
};

// XMLHttpRequest, since fetch does not say how far it is.
function send(file, bar) {
  return new Promise((done, refused) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/blobs");
    request.setRequestHeader("X-CSRF-Token", document.querySelector("meta[name=csrf]").content);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => { bar.value = event.loaded; });
    request.addEventListener("error", () => refused(new Error(drop.dataset.failed)));
    request.addEventListener("load", () => {
      if (request.status === 201 && request.response.size === file.size) done(request.response.digest);
      else refused(new Error(request.response?.error?.message ?? drop.dataset.failed));
    });
    request.send(file);
  });
}

async function take(given) {
  const list = document.getElementById("sent");
  list.hidden = given.length + files.length === 0;
  tell("");
  for (const file of given) {
    const line = element("li", "", "sent");
    const bar = document.createElement("progress");
    bar.max = Math.max(file.size, 1);
    bar.value = 0;
    bar.setAttribute("aria-label", file.name);
    line.append(element("span", file.name), bar, element("span", size(file.size), "soft"));
    list.append(line);
    try {
      const digest = await send(file, bar);
      bar.value = bar.max;
      files = [...files.filter((one) => one.path !== file.name), { path: file.name, digest }];
    } catch (error) {
      line.append(element("span", error.message, "gone"));
    }
  }
  push.hidden = files.length === 0;
  if (files.length) await recognise();
}

async function recognise() {
  const overrides = members(push).overrides;
  try {
    const told = await ask("POST", "/v1/recognitions", { files, ...(overrides ? { overrides } : {}) });
    show(told);
    tell("");
  } catch (error) {
    document.getElementById("recognised").hidden = true;
    tell(error.message);
  }
}

const shapes = (tensors) => tensors.map((one) => `${one.name} ${one.dtype} [${one.shape.join(", ")}]`).join("; ");

function show(told) {
  const rows = told.content.variants.map((one) => {
    const row = document.createElement("tr");
    const name = element("th", one.name);
    name.scope = "row";
    const weight = one.files.reduce((sum, file) => sum + file.size, 0);
    const cells = [one.pipeline.task, one.pipeline.decoder, shapes(one.inputs), shapes(one.outputs)].map((text) => element("td", text));
    row.append(name, ...cells, element("td", size(weight), "num"));
    return row;
  });
  document.getElementById("variants").replaceChildren(...rows);
  document.getElementById("notes").replaceChildren(...told.notes.map((note) => element("li", note)));
  document.getElementById("recognised").hidden = false;
}

// What publishes the same on the command line, for whoever holds the publisher's key.
function asCommand(name, about) {
  const quoted = (text) => (/^[\w.@/=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const flags = ["description", "alias", "parent", "operation"].filter((key) => about[key]).map((key) => `--${key} ${quoted(about[key])}`);
  const tags = Object.entries(about.tags ?? {}).map(([key, value]) => `--tag ${quoted(`${key}=${value}`)}`);
  return ["farshore model push", name, ...files.map((one) => quoted(one.path)), ...flags, ...tags, "--keys RING"].join(" ");
}

push.addEventListener("submit", async (event) => {
  event.preventDefault();
  say(push, "");
  const { name, ...about } = members(push);
  const button = push.querySelector("button.primary");
  button.disabled = true;
  try {
    const made = await ask("POST", `/v1/models/${encodeURIComponent(name)}/versions`, { files, ...about });
    if (made.role) {
      say(push, push.dataset.unsigned, false);
      command.textContent = asCommand(name, about);
      command.hidden = false;
    } else location.assign(`/studio/models/${encodeURIComponent(made.model)}/versions/${made.version}`);
  } catch (error) {
    say(push, error.message);
  } finally {
    button.disabled = false;
  }
});

push.overrides.addEventListener("change", recognise);
document.getElementById("again").addEventListener("click", () => location.assign(location.pathname));
dropping(drop, document.getElementById("files"), take);
