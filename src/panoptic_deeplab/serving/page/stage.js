// What both pages show alike: the picture, the table of segments, pointing at one, ways to open an image, errors.
// The page of the service (page.js) and the page that predicts by itself (../browser/page.js) fill it.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

let found = null; // {width, height, ids, segments, colors}
let on = 0;

/** Take a result: `ids` of the pixels, 0 = void, its segments, and the color of each category by its id. */
export function present(result) {
  found = result;
  $("segments").replaceChildren(...result.segments.map(row));
  point(0);
}

/** Draw a picture: an ImageBitmap, or ImageData. */
export function show(drawn) {
  const canvas = $("picture"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [drawn.width, drawn.height];
  if (drawn instanceof ImageData) context.putImageData(drawn, 0, 0);
  else context.drawImage(drawn, 0, 0);
  canvas.hidden = $("glow").hidden = false;
  $("hint").hidden = true;
  $("stage").classList.add("full");
}

/** Say what went wrong; `null` takes it away. */
export function fail(error) {
  if (error) $("status").textContent = "";
  $("error").textContent = error ? error.message : "";
  $("error").hidden = !error;
}

/** What there is, in words: for the line below the picture. */
export function summary({segments, width, height}, time) {
  const things = segments.filter((segment) => segment.isthing).length;
  return `${segments.length} segments, ${things} of them things, in ${time}. ${width} × ${height} pixels.`;
}

function row(segment) {
  const dot = element("span", {className: "dot"}), made = element("tr");
  made.dataset.id = segment.id;
  dot.style.background = `rgb(${found.colors[segment.category_id]})`;
  made.insertCell().append(dot);
  made.insertCell().textContent = segment.name;
  for (const text of [segment.score?.toFixed(2) ?? "–", segment.area.toLocaleString("en")]) {
    Object.assign(made.insertCell(), {textContent: text, className: "n"});
  }
  made.onpointerenter = () => point(segment.id);
  made.onpointerleave = () => point(0);
  return made;
}

/** Light one segment up, in the picture and in the table; 0 = none. */
function point(id, place = null) {
  const segment = found?.segments.find((each) => each.id === id);
  if (id !== on) {
    on = segment ? id : 0;
    for (const each of $("segments").rows) each.classList.toggle("on", Number(each.dataset.id) === on);
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
  [canvas.width, canvas.height] = [found.width, found.height];
  if (!on) return;
  const shade = context.createImageData(found.width, found.height), words = new Uint32Array(shade.data.buffer);
  for (let at = 0; at < words.length; at++) words[at] = found.ids[at] === on ? 0 : 0x90000000;
  context.putImageData(shade, 0, 0);
}

/** Where the picture lies in its canvas: `object-fit` leaves a rim. */
function frame() {
  const box = $("picture").getBoundingClientRect();
  const scale = Math.min(box.width / found.width, box.height / found.height);
  const left = box.left + (box.width - found.width * scale) / 2, top = box.top + (box.height - found.height * scale) / 2;
  return {scale, left, top};
}

function center({bbox: [x, y, width, height]}) {
  const {scale, left, top} = frame();
  return {x: left + scale * (x + width / 2), y: top + scale * (y + height / 2)};
}

function under(event) {
  const {scale, left, top} = frame();
  const x = Math.floor((event.clientX - left) / scale), y = Math.floor((event.clientY - top) / scale);
  return x >= 0 && y >= 0 && x < found.width && y < found.height ? found.ids[y * found.width + x] : 0;
}

/** Go from segment to segment by the keys. */
function step(event) {
  if (!found?.segments.length) return;
  const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (event.key === "Escape") point(0);
  if (!by) return;
  event.preventDefault();
  const all = found.segments.map((segment) => segment.id), place = all.indexOf(on);
  point(all[(place + by + all.length + (place < 0 && by < 0 ? 1 : 0)) % all.length]);
  document.querySelector("#segments tr.on")?.scrollIntoView({block: "nearest"});
}

/** Hear of images and of pointing. `open(blob, name)` gets an image that was chosen, dropped or pasted. */
export function listen(open) {
  const stage = $("stage"), picture = $("picture");
  const take = (files, name) => files[0] && open(files[0], name || files[0].name);
  for (const id of ["file", "shot"]) {
    $(id).onchange = ({target}) => {
      take(target.files);
      target.value = ""; // so that the same file can be chosen again
    };
  }
  stage.ondragover = (event) => { event.preventDefault(); stage.classList.add("over"); };
  stage.ondragleave = () => stage.classList.remove("over");
  stage.ondrop = (event) => { event.preventDefault(); stage.classList.remove("over"); take(event.dataTransfer.files); };
  document.onpaste = (event) => take([...event.clipboardData.files], "pasted");
  picture.onpointermove = picture.onpointerdown = (event) => found && point(under(event), {x: event.clientX, y: event.clientY});
  picture.onpointerleave = (event) => event.pointerType === "mouse" && point(0);
  stage.onkeydown = step;
}

/** Buttons for the bundled images. */
export async function samples(open) {
  const response = await fetch("samples/samples.json");
  if (!response.ok) return;
  const list = await response.json();
  for (const {file, title} of list) {
    const button = element("button", {type: "button", title}, element("img", {src: `samples/${file}`, alt: title, loading: "lazy"}));
    button.onclick = async () => open(await (await fetch(`samples/${file}`)).blob(), file);
    $("samples").append(button);
  }
  $("credits").textContent = list.length ? `Samples: ${[...new Set(list.map((s) => s.credit))].join("; ")}.` : "";
}

/** The choice of what is drawn; `views` are names by their values, the first one is chosen. */
export function offer(views, changed) {
  for (const [value, label] of Object.entries(views)) {
    const input = element("input", {type: "radio", name: "view", value, checked: !$("views").children.length});
    $("views").append(element("label", {}, input, label));
  }
  $("views").onchange = changed;
}

export const view = () => document.querySelector("#views input:checked").value;

/** A slider with its label and its value; `heard(value)` is called a little after it came to rest, `at` turns its place
 *  into the value. */
export function slider(id, {label, min, max, step: by, at = Number}, heard) {
  const input = element("input", {type: "range", id, min, max, step: by});
  const shown = element("output", {id: `${id}_value`});
  shown.htmlFor = id;
  input.oninput = () => {
    shown.textContent = at(Number(input.value));
    heard();
  };
  $("settings").append(element("label", {htmlFor: id, textContent: label}), input, shown);
}

/** Save a blob as a file of this name. */
export function save(blob, name) {
  const link = element("a", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** The name of an image without its suffix, for files made of it. */
export const stem = (title) => (title || "image").replace(/\.[^.]*$/, "");
