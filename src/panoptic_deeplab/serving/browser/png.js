// PNG files, number by number: browsers cut 16 bits to 8 and lose the colors of transparent pixels, and a microscope's
// images are of 16 bits. Read as `images/read.py` reads them, and written as label images of 16 bits.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}; // of a pixel, by color type
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/** Whether bytes begin as a PNG file does. */
export const isPng = (bytes) => SIGNATURE.every((value, at) => bytes[at] === value);

/**
 * The pixels of a PNG: {width, height, channels, data, isCut}. `channels` is 3, or 4 with alpha; gray is repeated. `data`
 * is a Uint16Array for gray of 16 bits, else a Uint8Array; of colors of 16 bits (`isCut`) it has the upper 8.
 * Gives null for files that say how to turn them (EXIF) or are animated, which are another reader's matter.
 */
export async function decodePng(bytes, maxPixels) {
  const {head, palette, alphas, packed, isOther} = chunks(bytes);
  if (isOther) return null;
  const {width, height, depth, type, interlaced} = head;
  if (!(type in SAMPLES) || !width || !height) throw new Error("its head is damaged");
  if (width * height > maxPixels) throw new RangeError(`it has ${height} x ${width} pixels (height x width)`);
  const samples = SAMPLES[type], isDeep = depth === 16 && type === 0;
  const hasAlpha = !isDeep && (type >= 4 || alphas !== null), channels = hasAlpha ? 4 : 3;
  const data = new (isDeep ? Uint16Array : Uint8Array)(width * height * channels);
  const raw = await unpacked(packed, "deflate"), bits = samples * depth, step = Math.max(1, bits >> 3);
  const scale = type === 3 || depth >= 8 ? 1 : 255 / (2 ** depth - 1);
  const put = painter({type, isDeep, hasAlpha, channels, palette, alphas, scale, data});
  let at = 0;
  for (const [left, top, dx, dy] of interlaced ? ADAM7 : [[0, 0, 1, 1]]) {
    const columns = Math.ceil((width - left) / dx), rows = Math.ceil((height - top) / dy);
    if (columns < 1 || rows < 1) continue;
    const length = Math.ceil(columns * bits / 8), pixel = new Uint16Array(samples);
    let above = new Uint8Array(length);
    for (let row = 0; row < rows; row++) {
      if (at + 1 + length > raw.length) throw new Error("it ends early");
      const line = raw.subarray(at + 1, at + 1 + length);
      unfilter(raw[at], line, above, step);
      at += 1 + length;
      above = line;
      for (let column = 0; column < columns; column++) {
        for (let sample = 0; sample < samples; sample++) pixel[sample] = value(line, column * samples + sample, depth, isDeep);
        put((top + row * dy) * width + left + column * dx, pixel);
      }
    }
  }
  return {width, height, channels, data, isCut: depth === 16 && !isDeep};
}

function chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), parts = [];
  let head = null, palette = null, alphas = null, isOther = false, at = 8;
  for (let name = ""; name !== "IEND";) {
    if (at + 12 > bytes.length) throw new Error("it ends early");
    const length = view.getUint32(at), from = at + 8;
    name = String.fromCharCode(...bytes.subarray(at + 4, from));
    if (from + length + 4 > bytes.length) throw new Error("it ends early");
    const content = bytes.subarray(from, from + length);
    if (name === "IHDR") {
      const [depth, type, , , interlace] = content.subarray(8);
      head = {width: view.getUint32(from), height: view.getUint32(from + 4), depth, type, interlaced: interlace === 1};
    } else if (name === "PLTE") palette = content;
    else if (name === "tRNS") alphas = content;
    else if (name === "IDAT") parts.push(content);
    else if (name === "eXIf" || name === "acTL") isOther = true;
    at = from + length + 4;
  }
  if (!head || !parts.length || (head.type === 3 && !palette)) throw new Error("it lacks parts");
  return {head, palette, alphas, isOther, packed: new Blob(parts)};
}

/** One sample of a line; colors of 16 bits lose the lower byte, as Pillow takes it from them. */
function value(line, index, depth, isDeep) {
  if (depth === 8) return line[index];
  if (depth === 16) return isDeep ? line[2 * index] << 8 | line[2 * index + 1] : line[2 * index];
  const first = index * depth;
  return line[first >> 3] >> (8 - depth - (first & 7)) & (1 << depth) - 1;
}

/** The function that puts the samples of a pixel in their place. */
function painter({type, isDeep, hasAlpha, channels, palette, alphas, scale, data}) {
  const key = alphas && type !== 3 ? [0, 2, 4].map((at) => alphas[at] << 8 | alphas[at + 1]) : null;
  return (place, pixel) => {
    const at = place * channels, isGray = type === 0 || type === 4;
    for (let channel = 0; channel < 3; channel++) {
      if (type === 3) data[at + channel] = palette[3 * pixel[0] + channel] ?? 0;
      else data[at + channel] = isDeep ? pixel[0] : pixel[isGray ? 0 : channel] * scale;
    }
    if (!hasAlpha) return;
    if (type >= 4) data[at + 3] = pixel[type === 4 ? 1 : 3];
    else if (type === 3) data[at + 3] = alphas[pixel[0]] ?? 255;
    else data[at + 3] = (isGray ? pixel[0] === key[0] : pixel.every((one, n) => one === key[n])) ? 0 : 255;
  };
}

/** Undo what the line's filter did, in place (PNG specification, section 9). */
function unfilter(filter, line, above, step) {
  for (let at = 0; at < line.length; at++) {
    const left = at < step ? 0 : line[at - step], up = above[at], corner = at < step ? 0 : above[at - step];
    if (filter === 1) line[at] += left;
    else if (filter === 2) line[at] += up;
    else if (filter === 3) line[at] += left + up >> 1;
    else if (filter === 4) {
      const guess = left + up - corner;
      const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
      line[at] += a <= b && a <= c ? left : b <= c ? up : corner;
    } else if (filter) throw new Error("it is damaged");
  }
}

/** What a Blob holds that is packed as `deflate` or `gzip`. */
export async function unpacked(blob, form) {
  return new Uint8Array(await new Response(blob.stream().pipeThrough(new DecompressionStream(form))).arrayBuffer());
}

/** A gray PNG of 16 bits as a Blob: `labels` are the numbers of the pixels, 0 to 65,535, line by line. */
export async function encodeLabels(labels, width, height) {
  const lines = new Uint8Array(height * (1 + 2 * width));
  for (let row = 0, at = 0; row < height; row++) {
    at++; // no filter
    for (let column = 0; column < width; column++) {
      const label = labels[row * width + column];
      lines[at++] = label >> 8;
      lines[at++] = label & 255;
    }
  }
  const packed = new Response(new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate")));
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, 16);
  const parts = [["IHDR", new Uint8Array(head.buffer)], ["IDAT", new Uint8Array(await packed.arrayBuffer())], ["IEND", new Uint8Array(0)]];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts.map(([name, content]) => chunk(name, content))], {type: "image/png"});
}

const CRC = Uint32Array.from({length: 256}, (_, number) => {
  for (let bit = 0; bit < 8; bit++) number = number & 1 ? 0xedb88320 ^ number >>> 1 : number >>> 1;
  return number;
});

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length), view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(content, 8);
  let crc = 0xffffffff;
  for (let at = 4; at < 8 + content.length; at++) crc = CRC[(crc ^ bytes[at]) & 255] ^ crc >>> 8;
  view.setUint32(8 + content.length, ~crc >>> 0);
  return bytes;
}
