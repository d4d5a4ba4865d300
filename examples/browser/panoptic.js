  const rule = info.input.range_before, counts = new Float64Array(256);
  const table = (low, high) => Uint8Array.from(counts.keys(), (value) =>
    Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low)))));
  if (rule.range === "type") return Uint8Array.from(counts.keys());
  if (rule.range !== "percentile") return table(...rule.range); // two numbers, for all images
// Runs a file of `panoptic-deeplab export --panoptic` with onnxruntime-web: image in, segments out. See README.md.

/** What the model says of itself: the entry `panoptic_deeplab` of the ONNX file's metadata. */
function readInfo(buffer) {
  const bytes = new Uint8Array(buffer);
  let at = 0;
  const number = () => { // protobuf's variable-length integers
    let value = 0, factor = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * factor; factor *= 128; } while (byte > 127);
    return value;
  };
  const text = (from, to) => new TextDecoder().decode(bytes.subarray(from, to));
  while (at < bytes.length) {
    const tag = number(), wire = tag & 7, field = Math.floor(tag / 8);
    if (wire === 0) { number(); continue; }
    if (wire !== 2) { at += wire === 1 ? 8 : 4; continue; }
    const length = number(), end = at + length; // not `at + number()`, which reads `at` first
    if (field === 14) { // metadata_props: {key, value}
      const entry = [];
      while (at < end) { number(); const size = number(); entry.push(text(at, at + size)); at += size; }
      if (entry[0] === "panoptic_deeplab") return JSON.parse(entry[1]);
    }
    at = end;
  }
  throw new Error("This file was not written by `panoptic-deeplab export`.");
}

/** What each color number becomes: the black and white that the model was trained with. */
function stretchOf(bitmap, info) {
  const rule = info.input.range_before, counts = new Float64Array(256);
  if (!rule || rule.range === "type") return Uint8Array.from(counts.keys());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  for (let at = 0; at < rgba.length; at++) if (at % 4 !== 3) counts[rgba[at]]++;
  const [low, high] = rule.percentiles.map((percent) => {
    let left = Math.floor(percent / 100 * (rgba.length / 4 * 3 - 1)), value = 0;
    while (left >= counts[value]) left -= counts[value++];
    return value;
  });
  return table(low, Math.max(high, low + 1));
}

/** The pixels (height, width, RGB) of an image, at the size that the model was trained for. */
function pixelsOf(bitmap, info) {
  const rule = info.input.resize_before;
  const factor = rule.longest_side === null ? rule.scale : rule.longest_side / Math.max(bitmap.width, bitmap.height);
  const width = Math.max(1, Math.round(bitmap.width * factor)), height = Math.max(1, Math.round(bitmap.height * factor));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data, rgb = new Uint8Array(width * height * 3);
  const table = stretchOf(bitmap, info);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) rgb[3 * pixel + channel] = table[rgba[4 * pixel + channel]];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

/** Load a model: `predict(bitmap)` gives {width, height, panopticMap, segments}. */
async function loadModel(url) {
  const buffer = await (await fetch(url)).arrayBuffer();
  const info = readInfo(buffer);
  const session = await ort.InferenceSession.create(buffer, { executionProviders: ["wasm"] });
  const categories = new Map(info.categories.categories.map((category) => [category.id, category]));
  return async function predict(bitmap) {
    const images = pixelsOf(bitmap, info);
    const outputs = await session.run({ images });
    const segments = [];
    for (let row = 0; row < outputs.count.data[0]; row++) {
      const category = categories.get(outputs.category_ids.data[row]);
      segments.push({
        id: outputs.segment_ids.data[row],
        name: category.name,
        isthing: category.isthing,
        color: category.color,
        score: outputs.scores.data[row],
        area: outputs.areas.data[row],
        bbox: Array.from(outputs.boxes.data.subarray(4 * row, 4 * row + 4)),
      });
    }
    const [, height, width] = images.dims;
    return { width, height, panopticMap: outputs.panoptic_map.data, segments };
  };
}

/** Draw the image, tinted by class, with white borders between segments. */
function draw(canvas, bitmap, { width, height, panopticMap, segments }) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, width, height);
  const picture = context.getImageData(0, 0, width, height);
  const colors = [[0, 0, 0], ...segments.map((segment) => segment.color)]; // the n-th segment has the id n
  for (let pixel = 0; pixel < panopticMap.length; pixel++) {
    const id = panopticMap[pixel];
    const border = (pixel % width && panopticMap[pixel - 1] !== id) || (pixel >= width && panopticMap[pixel - width] !== id);
    for (let channel = 0; channel < 3; channel++) {
      const at = 4 * pixel + channel;
      picture.data[at] = border ? 255 : (picture.data[at] + colors[id][channel]) / 2;
    }
  }
  context.putImageData(picture, 0, 0);
}

/** The page. With `?image=URL` it starts with that image. */
async function main() {
  const status = document.getElementById("status");
  try {
    const predict = await loadModel("model.onnx");
    const show = async (blob) => {
      status.textContent = "Predicting…";
      const bitmap = await createImageBitmap(blob), start = performance.now();
      const result = await predict(bitmap);
      draw(document.getElementById("picture"), bitmap, result);
      const table = document.getElementById("segments");
      table.replaceChildren();
      for (const segment of result.segments) {
        const row = table.insertRow();
        for (const text of [segment.id, segment.name, segment.score.toFixed(2), `${segment.area} pixels`]) {
          row.insertCell().textContent = text;
        }
      }
      status.textContent = `${result.segments.length} segments in ${Math.round(performance.now() - start)} ms`;
      return result;
    };
    document.getElementById("photo").onchange = (event) => show(event.target.files[0]);
    status.textContent = "Choose a photograph.";
    const image = new URLSearchParams(location.search).get("image");
    if (image) window.result = await show(await (await fetch(image)).blob());
  } catch (error) {
    status.textContent = `Error: ${error.message}`;
  }
  document.body.dataset.done = "true"; // for programs that wait for the page
}

main();
