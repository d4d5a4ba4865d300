// The page of the service. Everything that it shows comes from /v1/panoptic; it only asks, draws and points.

const $ = (id) => document.getElementById(id);
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

let models = [], image = null, name = "image", answer = null, ids = null, on = 0, turn = 0;
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
  $("login").showModal();
  return new Promise((resolve) => $("login").addEventListener("close", () => {
    sessionStorage.setItem("token", token = $("token").value);
    resolve();
  }, {once: true}));
}

const model = () => models.find((m) => m.name === $("model").value);
const view = () => document.querySelector("#views input:checked").value;

function query(output, more = {}) {
  const asked = new URLSearchParams({output, ...more});
  for (const [key, slider] of Object.entries(SLIDERS)) {
    const input = $(key);
    if (input.disabled || input.value === input.dataset.first) continue; // the model's own value, to the last digit
    asked.set(key, (slider.at || Number)(Number(input.value)));
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
    ids = map;
    show(shown);
    table();
    point(0);
    const things = found.segments.filter((s) => s.isthing).length;
    $("status").textContent = `${found.segments.length} segments, ${things} of them things, in `
      + `${Math.round(performance.now() - start)} ms. ${found.size[1]} × ${found.size[0]} pixels.`;
    $("error").hidden = true;
    document.body.dataset.turn = mine; // for programs that wait for the page
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function fail(error) {
  $("status").textContent = "";
  $("error").textContent = error.message;
  $("error").hidden = false;
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

function show(drawn) {
  const canvas = $("picture");
  [canvas.width, canvas.height] = [drawn.width, drawn.height];
  canvas.getContext("2d").drawImage(drawn, 0, 0);
  canvas.hidden = $("glow").hidden = false;
  $("hint").hidden = true;
  $("stage").classList.add("full");
}

function table() {
  const colors = Object.fromEntries(model().categories.map((c) => [c.id, c.color]));
  $("segments").replaceChildren(...answer.segments.map((segment) => {
    const row = document.createElement("tr"), dot = document.createElement("span");
    row.dataset.id = segment.id;
    dot.className = "dot";
    dot.style.background = `rgb(${colors[segment.category_id]})`;
    row.insertCell().append(dot);
    row.insertCell().textContent = segment.name;
    for (const text of [segment.score?.toFixed(2) ?? "–", segment.area.toLocaleString("en")]) {
      Object.assign(row.insertCell(), {textContent: text, className: "n"});
    }
    row.onpointerenter = () => point(segment.id);
    row.onpointerleave = () => point(0);
    return row;
  }));
}

/** Light one segment up, in the picture and in the table; 0 = none. */
function point(id, place = null) {
  const segment = answer?.segments.find((s) => s.id === id);
  if (id !== on) {
    on = segment ? id : 0;
    for (const row of $("segments").rows) row.classList.toggle("on", Number(row.dataset.id) === on);
    glow();
  }
  $("tip").hidden = !segment;
  if (!segment) return;
  const score = segment.score === null ? "" : `, score ${segment.score.toFixed(2)}`;
  $("tip").textContent = `${segment.name}${score}, ${segment.area.toLocaleString("en")} pixels`;
  const stage = $("stage").getBoundingClientRect();
  const at = place || center(segment);
  const left = Math.min(Math.max(at.x - stage.left + 14, 4), stage.width - $("tip").offsetWidth - 4);
  const top = Math.min(Math.max(at.y - stage.top + 18, 4), stage.height - $("tip").offsetHeight - 4);
  Object.assign($("tip").style, {left: `${left}px`, top: `${top}px`});
}

/** All other segments in shade. */
function glow() {
  const canvas = $("glow"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [ids.width, ids.height];
  if (!on) return;
  const shade = context.createImageData(ids.width, ids.height), words = new Uint32Array(shade.data.buffer);
  for (let at = 0; at < words.length; at++) words[at] = ids.ids[at] === on ? 0 : 0x90000000;
  context.putImageData(shade, 0, 0);
}

/** Where the picture lies in its canvas: `object-fit` leaves a rim. */
function frame() {
  const box = $("picture").getBoundingClientRect(), scale = Math.min(box.width / ids.width, box.height / ids.height);
  return {scale, left: box.left + (box.width - ids.width * scale) / 2, top: box.top + (box.height - ids.height * scale) / 2};
}

function center({bbox: [x, y, width, height]}) {
  const {scale, left, top} = frame();
  return {x: left + scale * (x + width / 2), y: top + scale * (y + height / 2)};
}

function under(event) {
  const {scale, left, top} = frame();
  const x = Math.floor((event.clientX - left) / scale), y = Math.floor((event.clientY - top) / scale);
  return x >= 0 && y >= 0 && x < ids.width && y < ids.height ? ids.ids[y * ids.width + x] : 0;
}

function open(blob, title) {
  if (!blob) return;
  [image, answer, name] = [blob, null, (title || "image").replace(/\.[^.]*$/, "")];
  update();
}

async function save(output) {
  try {
    const blob = await (await again(output)).blob(), link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${name}_${output}.${DOWNLOADS[output]}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    fail(error);
  }
}

function chooseModel() {
  const {postprocess, keeps_maps, has_instances} = model();
  for (const [key, slider] of Object.entries(SLIDERS)) {
    const input = $(key), first = key in postprocess ? postprocess[key] : key === "alpha" ? 0.55 : 0;
    input.disabled = key in postprocess && !keeps_maps;
    input.max = Math.max(slider.max, (slider.to || Number)(first));
    input.value = (slider.to || Number)(first);
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
  for (const [value, label] of Object.entries(VIEWS)) {
    const choice = document.createElement("label");
    choice.append(Object.assign(document.createElement("input"), {type: "radio", name: "view", value, checked: value === "overlay"}), label);
    $("views").append(choice);
  }
  let waiting;
  for (const [key, {label, min, max, step, at}] of Object.entries(SLIDERS)) {
    const input = Object.assign(document.createElement("input"), {type: "range", id: key, min, max, step});
    const shown = Object.assign(document.createElement("output"), {id: `${key}_value`});
    shown.htmlFor = key;
    input.oninput = () => {
      shown.textContent = (at || Number)(Number(input.value));
      clearTimeout(waiting);
      waiting = setTimeout(update, 40);
    };
    $("settings").append(Object.assign(document.createElement("label"), {htmlFor: key, textContent: label}), input, shown);
  }
  const reset = Object.assign(document.createElement("button"), {type: "button", textContent: "The model's own settings", className: "wide"});
  reset.onclick = () => { const kept = answer; chooseModel(); answer = kept; update(); };
  $("settings").append(reset);
  for (const output of Object.keys(DOWNLOADS)) {
    const button = Object.assign(document.createElement("button"), {type: "button", textContent: `${output}.${DOWNLOADS[output]}`.replace("geojson.geojson", ".geojson").replace("json.json", ".json"), disabled: false});
    button.dataset.output = output;
    button.onclick = () => answer && save(output);
    $("downloads").append(button);
  }
}

function listen() {
  const stage = $("stage");
  for (const id of ["file", "shot"]) $(id).onchange = (event) => { open(event.target.files[0], event.target.files[0]?.name); event.target.value = ""; };
  stage.ondragover = (event) => { event.preventDefault(); stage.classList.add("over"); };
  stage.ondragleave = () => stage.classList.remove("over");
  stage.ondrop = (event) => { event.preventDefault(); stage.classList.remove("over"); open(event.dataTransfer.files[0], event.dataTransfer.files[0]?.name); };
  document.onpaste = (event) => open([...event.clipboardData.files][0], "pasted");
  $("picture").onpointermove = $("picture").onpointerdown = (event) => ids && point(under(event), {x: event.clientX, y: event.clientY});
  $("picture").onpointerleave = (event) => event.pointerType === "mouse" && point(0);
  $("views").onchange = () => answer && update();
  $("model").onchange = () => { chooseModel(); update(); };
  stage.onkeydown = (event) => {
    if (!answer?.segments.length) return;
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") point(0);
    if (!step) return;
    event.preventDefault();
    const all = answer.segments.map((s) => s.id), place = all.indexOf(on);
    point(all[(place + step + all.length + (place < 0 && step < 0 ? 1 : 0)) % all.length]);
    document.querySelector("#segments tr.on")?.scrollIntoView({block: "nearest"});
  };
}

async function samples() {
  const response = await fetch("samples/samples.json");
  if (!response.ok) return;
  const list = await response.json();
  for (const {file, title} of list) {
    const button = Object.assign(document.createElement("button"), {type: "button", title});
    button.append(Object.assign(document.createElement("img"), {src: `samples/${file}`, alt: title, loading: "lazy"}));
    button.onclick = async () => open(await (await fetch(`samples/${file}`)).blob(), file);
    $("samples").append(button);
  }
  $("credits").textContent = list.length ? `Samples: ${[...new Set(list.map((s) => s.credit))].join("; ")}.` : "";
}

build();
listen();
try {
  models = (await (await ask("v1/models")).json()).models;
  $("model").append(...models.map(({name: title}) => new Option(title, title)));
  $("model").parentElement.hidden = models.length < 2;
  chooseModel();
  await samples();
  document.body.dataset.ready = "true";
} catch (error) {
  fail(error);
}
