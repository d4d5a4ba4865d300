// The page of the service. Everything that it shows comes from /v1/panoptic; it only asks, draws and points.

import {$, element, fail, listen, offer, present, samples, save, show, slider, stem, summary, view} from "./stage.js";

const VIEWS = {overlay: "Overlay", semantic: "Classes", instances: "Instances", heatmap: "Centers", offset: "Offsets", image: "Image"};
const DOWNLOADS = {json: "json", overlay: "png", panoptic: "png", labels: "png", table: "csv", geojson: "geojson"};
const SLIDERS = { // of the configuration, by its names; `at` and `to` turn the slider's place into a value and back
  center_threshold: {label: "Center threshold", min: 0, max: 1, step: 0.01},
  nms_kernel: {label: "Window of a center", min: 1, max: 99, step: 2},
  top_k: {label: "Most objects", min: 1, max: 500, step: 1},
  stuff_area_limit: {label: "Least stuff area", min: 0, max: 128, step: 1, at: (p) => p * p, to: (v) => Math.sqrt(v)},
  min_score: {label: "Least score", min: 0, max: 1, step: 0.01},
  alpha: {label: "Opacity", min: 0, max: 1, step: 0.05},
};

let models = [], image = null, name = "image", answer = null, turn = 0;
let token = sessionStorage.getItem("token") || "";

/** Ask the service; its problems become errors with their sentence. */
async function ask(path, options = {}) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The service does not answer. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await login();
    return ask(path, options);
  }
  const problem = await response.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail || `The service answered ${response.status}.`), {status: response.status});
}

function login() {
  const input = element("input", {id: "token", type: "password", autocomplete: "current-password"});
  const form = element("form", {method: "dialog"}, element("label", {}, "This service wants a token ", input), element("button", {}, "Go on"));
  const dialog = element("dialog", {}, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    sessionStorage.setItem("token", token = input.value);
    dialog.remove();
    resolve();
  }, {once: true}));
}

const model = () => models.find((m) => m.name === $("model").value);

function query(output, more = {}) {
  const asked = new URLSearchParams({output, ...more});
  for (const [key, {at = Number}] of Object.entries(SLIDERS)) {
    const input = $(key);
    if (input.disabled || input.value === input.dataset.first) continue; // the model's own value, to the last digit
    asked.set(key, at(Number(input.value)));
  }
  return asked;
}

/** An answer about the image, from the maps that the service keeps; where it keeps them no more, the image is sent. */
async function again(output, more = {}, signal = undefined) {
  if (answer) {
    try {
      return await ask(`v1/panoptic/${answer.image_id}?${query(output, more)}`, {signal});
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  const asked = query(output, more);
  asked.set("model", model().name);
  return ask(`v1/panoptic?${asked}`, {method: "POST", body: image, signal});
}

let running = null;

/** Bring picture, table and pointing up to date; of calls that overtake one another, the last one counts. */
async function update() {
  if (!image) return;
  running?.abort();
  running = new AbortController();
  const {signal} = running, mine = ++turn, start = performance.now();
  $("status").textContent = answer ? "Grouping…" : "Predicting…";
  try {
    const found = await (await again("json", {masks: "png"}, signal)).json();
    if (mine !== turn) return;
    answer = found;
    const png = Uint8Array.from(atob(found.panoptic_png), (c) => c.charCodeAt(0));
    const [map, shown] = await Promise.all([pixels(new Blob([png])), picture(signal)]);
    if (mine !== turn) return;
    const byPng = new Map(found.segments.map((s) => [s.png_id, s.id]));
    map.ids = map.ids.map((value) => byPng.get(value) || 0);
    const colors = Object.fromEntries(model().categories.map((c) => [c.id, c.color]));
    show(shown);
    present({...map, segments: found.segments, colors});
    $("status").textContent = summary({...map, segments: found.segments}, `${Math.round(performance.now() - start)} ms`);
    fail(null);
    document.body.dataset.turn = mine; // for programs that wait for the page
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

async function picture(signal) {
  if (view() === "image") return createImageBitmap(image).catch(() => again("overlay", {alpha: 0, labels: false}, signal).then(bitmap));
  return bitmap(await again(view(), {}, signal));
}

const plain = {colorSpaceConversion: "none", premultiplyAlpha: "none"};
const bitmap = async (response) => createImageBitmap(await response.blob(), plain);

/** The values in a PNG of R + 256 G + 65536 B. */
async function pixels(blob) {
  const drawn = await createImageBitmap(blob, plain), {width, height} = drawn;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(drawn, 0, 0);
  const {data} = context.getImageData(0, 0, width, height), found = new Uint32Array(width * height);
  for (let at = 0; at < found.length; at++) found[at] = data[4 * at] | data[4 * at + 1] << 8 | data[4 * at + 2] << 16;
  return {width, height, ids: found};
}

function open(blob, title) {
  [image, answer, name] = [blob, null, stem(title)];
  update();
}

async function download(output) {
  try {
    save(await (await again(output)).blob(), `${name}_${output}.${DOWNLOADS[output]}`);
  } catch (error) {
    fail(error);
  }
}

function chooseModel() {
  const {postprocess, keeps_maps, has_instances} = model();
  for (const [key, {max, to = Number}] of Object.entries(SLIDERS)) {
    const input = $(key), first = key in postprocess ? postprocess[key] : key === "alpha" ? 0.55 : 0;
    input.disabled = key in postprocess && !keeps_maps;
    input.max = Math.max(max, to(first));
    input.value = to(first);
    input.dataset.first = input.value;
    $(`${key}_value`).textContent = first;
  }
  for (const input of document.querySelectorAll("#views input")) {
    input.disabled = ["heatmap", "offset"].includes(input.value) && !(keeps_maps && has_instances);
    if (input.disabled && input.checked) document.querySelector("#views input").checked = true;
  }
  answer = null;
}

function build() {
  offer(VIEWS, () => answer && update());
  let waiting;
  const heard = () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 40);
  };
  for (const [key, how] of Object.entries(SLIDERS)) slider(key, how, heard);
  const reset = element("button", {type: "button", textContent: "The model's own settings", className: "wide"});
  reset.onclick = () => { const kept = answer; chooseModel(); answer = kept; update(); };
  $("settings").append(reset);
  for (const output of Object.keys(DOWNLOADS)) {
    const textContent = `${output}.${DOWNLOADS[output]}`.replace("geojson.geojson", ".geojson").replace("json.json", ".json");
    const button = element("button", {type: "button", textContent});
    button.dataset.output = output;
    button.onclick = () => answer && download(output);
    $("downloads").append(button);
  }
  $("about").append("HTTP interface: ", element("a", {href: "openapi.json", textContent: "openapi.json"}), ".");
}

build();
listen(open);
$("model").onchange = () => { chooseModel(); update(); };
try {
  models = (await (await ask("v1/models")).json()).models;
  $("model").append(...models.map(({name: title}) => new Option(title, title)));
  $("model").parentElement.hidden = models.length < 2;
  chooseModel();
  await samples(open);
  document.body.dataset.ready = "true";
} catch (error) {
  fail(error);
}
