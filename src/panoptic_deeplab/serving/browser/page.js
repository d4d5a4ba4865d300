// The page that predicts by itself: the model runs in worker.js, and the image never leaves this machine.

import {overlay, classes, photograph} from "./paint.js";
import {encodeLabels} from "./png.js";
import {withoutWeakThings} from "./result.js";
import {$, element, fail, listen, offer, present, samples, save, show, slider, stem, summary, view} from "./stage.js";
import {tableCsv} from "./table.js";

const VIEWS = {overlay: "Overlay", semantic: "Classes", image: "Image"};
const SLIDERS = {
  min_score: {label: "Least score", min: 0, max: 1, step: 0.01},
  alpha: {label: "Opacity", min: 0, max: 1, step: 0.05},
};
const FIRST = {min_score: 0, alpha: 0.55};
const DOWNLOADS = {overlay: "overlay.png", labels: "labels.png", table: "table.csv"};
const BACKENDS = {webgpu: "WebGPU", wasm: "WebAssembly"};
const NO_MEMORY = /overflow|out of memory|bad_alloc|out of bounds|allocation|aborted|unreachable/i; // of WebAssembly and its programs

let models = [], image = null, name = "image", answer = null, visible = null, turn = 0;
let worker = null, calls = 0, waiting = new Map(), ready = null;

/** Ask the worker; its problems become errors. */
function ask(message) {
  worker ??= start();
  return new Promise((resolve, reject) => {
    waiting.set(++calls, {resolve, reject});
    worker.postMessage({number: calls, ...message});
  });
}

function start() {
  const made = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
  made.onmessage = ({data: {number, found, problem}}) => {
    const {resolve, reject} = waiting.get(number);
    waiting.delete(number);
    if (problem === undefined) resolve(found);
    else reject(new Error(problem));
  };
  made.onerror = (event) => {
    event.preventDefault();
    stop(new Error("The part of the page that predicts has stopped. Load the page again, or use another browser."));
  };
  return made;
}

/** End the worker; the next image gets a new one. */
function stop(error) {
  worker?.terminate();
  for (const {reject} of waiting.values()) reject(error);
  waiting = new Map();
  worker = ready = null;
}

const model = () => models.find((one) => one.name === $("model").value);

/** The model that is chosen, ready in the worker. */
function load() {
  const chosen = model();
  if (ready?.name !== chosen.name) {
    $("status").textContent = `Loading the model, ${Math.round(chosen.bytes / 1e6)} MB…`;
    const loaded = ask({model: chosen, backend: new URLSearchParams(location.search).get("backend")});
    const mine = ready = {name: chosen.name, loaded};
    loaded.catch(() => { if (ready === mine) ready = null; });
  }
  return ready.loaded;
}

/** Predict the image; of calls that overtake one another, the last one counts. */
async function update() {
  if (!models.length) return; // something is missing, and the page says so
  const mine = ++turn;
  answer = null;
  fail(null);
  try {
    await load();
    if (mine !== turn || !image) return;
    $("status").textContent = "Predicting…";
    const found = await ask({image});
    if (mine !== turn) return;
    answer = found;
    paint();
    const {seconds, backend, threads} = found, several = backend === "wasm" && threads > 1 ? ` with ${threads} threads` : "";
    const time = `${seconds.toFixed(2)} s by ${BACKENDS[backend]}${several} on this machine`;
    $("status").textContent = summary(visible, time);
    document.body.dataset.turn = mine; // for programs that wait for the page
  } catch (error) {
    if (mine === turn) fail(explained(error));
  }
}

/** What the runtime says when memory ends, as a sentence. */
function explained(error) {
  if (!NO_MEMORY.test(error.message)) return error;
  stop(error); // its memory may be damaged
  return new Error(`The image is too large for the memory that a page gets, or the model does not run here. Make it smaller. (${error.message})`);
}

/** Draw what there is with the sliders of now. */
function paint() {
  if (!answer) return;
  const {base, result} = answer, {width, height} = result, chosen = model();
  visible = withoutWeakThings(result, Number($("min_score").value));
  const pixels = view() === "image" ? photograph(base) : view() === "semantic" ? classes(visible, chosen)
    : overlay(base, visible, chosen, Number($("alpha").value));
  show(new ImageData(pixels, width, height));
  present({...visible, colors: Object.fromEntries(chosen.categories.map(({id, color}) => [id, color]))});
}

function open(blob, title) {
  [image, name] = [blob, stem(title)];
  update();
}

async function fileOf(output) {
  const {width, height} = visible;
  if (output === "labels") return encodeLabels(visible.ids, width, height);
  if (output === "table") return new Blob([tableCsv(visible)], {type: "text/csv"});
  const canvas = new OffscreenCanvas(width, height), pixels = overlay(answer.base, visible, model(), Number($("alpha").value));
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas.convertToBlob({type: "image/png"});
}

function build() {
  document.title = "Panoptic segmentation in the browser";
  $("file").accept = "image/*"; // whatever the browser reads
  offer(VIEWS, paint);
  let resting;
  const heard = () => {
    clearTimeout(resting);
    resting = setTimeout(paint, 40);
  };
  for (const [key, how] of Object.entries(SLIDERS)) {
    slider(key, how, heard);
    $(key).value = $(`${key}_value`).textContent = FIRST[key];
  }
  for (const [output, file] of Object.entries(DOWNLOADS)) {
    const button = element("button", {type: "button", textContent: file});
    button.dataset.output = output;
    button.onclick = async () => answer && save(await fileOf(output), `${name}_${file}`);
    $("downloads").append(button);
  }
  $("about").textContent = "Images stay on this machine: the model runs in this page.";
}

build();
listen(open);
$("model").onchange = update;
try {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, which the model runs in. Use a current Firefox, Chrome, Edge or Safari.");
  }
  const response = await fetch("models.json");
  if (!response.ok) throw new Error("The page lacks its part models.json. Was its whole folder copied?");
  models = await response.json();
  $("model").append(...models.map(({name: title}) => new Option(title, title)));
  $("model").parentElement.hidden = models.length < 2;
  await samples(open);
  document.body.dataset.ready = "true";
} catch (error) {
  fail(error);
}
