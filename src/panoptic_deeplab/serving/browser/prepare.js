// An image as the model file takes it: channels, range and size, by the rules of `input` in the model's description.
// The same numbers as `images/prepare.py` gives, to the last bit: torch resizes uint8 images in whole numbers.

/** Round as Python does: halves to the even neighbor. */
export function rint(number) {
  const rounded = Math.round(number);
  return rounded - number === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** RGB of 8 bits at the size for the model: {width, height, data}. `image` is {width, height, channels, data, isCut}. */
export function prepare(image, input) {
  const factor = input.longest_side === null ? input.scale : input.longest_side / Math.max(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, rint(side * factor)));
  const pixels = {width: image.width, height: image.height, data: inRange(image, input)};
  return resized(pixels, width, height);
}

/** What pictures show of an image: itself if it is RGB of 8 bits, else what the model sees. */
export function drawable(image, input) {
  if (image.data instanceof Uint8Array && !isAsStored(input)) return chosen(image, [0, 1, 2]);
  const isRgb = image.channels === 3 && !image.isCut && input.channels === null;
  return image.data instanceof Uint8Array && isRgb ? image.data : inRange(image, input);
}

/** The chosen channels as RGB of 8 bits, with the black and white that the model was trained with. */
export function inRange(image, input) {
  const {channels, range, percentiles} = input;
  let data = chosen(image, channels ?? [0, 1, 2]);
  if (image.isCut && isAsStored(input)) data = mapped(data, Uint16Array, (value) => 257 * value); // in the range of its file
  if (range === "percentile") return stretched(data, percentiles);
  if (Array.isArray(range)) return spread(data, range);
  return data instanceof Uint8Array ? data : mapped(data, Uint8Array, (value) => Math.floor((value + 128) / 257));
}

/** Whether the library looks at numbers and channels as the file has them (`reading` in `images/prepare.py`). */
const isAsStored = ({channels, range}) => channels !== null || Array.isArray(range);

function chosen({width, height, channels, data}, places) {
  if (Math.max(...places) >= channels) {
    throw new Error(`The image has ${channels} channels, and this model looks at number ${Math.max(...places)}, counted from 0.`);
  }
  const found = new data.constructor(3 * width * height), [red, green, blue] = places;
  for (let from = 0, to = 0; to < found.length; from += channels) {
    found[to++] = data[from + red];
    found[to++] = data[from + green];
    found[to++] = data[from + blue];
  }
  return found;
}

/** Spread the numbers between two percentiles of all of them over 0 to 255. */
function stretched(data, percentiles) {
  const counts = new Float64Array(data instanceof Uint8Array ? 256 : 65536);
  for (const value of data) counts[value]++;
  const [low, high] = percentiles.map((percent) => {
    let left = Math.floor(percent / 100 * (data.length - 1)), value = 0;
    while (left >= counts[value]) left -= counts[value++];
    return value;
  });
  return spread(data, [low, Math.max(high, low + 1)]);
}

/** Spread the numbers between black and white over 0 to 255. */
function spread(data, [low, high]) {
  const size = data instanceof Uint8Array ? 256 : 65536;
  const table = Uint8Array.from({length: size}, (_, value) => rint(255 * Math.min(Math.max((value - low) / (high - low), 0), 1)));
  return mapped(data, Uint8Array, (value) => table[value]);
}

/** Each number replaced, in an array of another kind; `from` of such arrays makes a list of millions in between. */
function mapped(data, Kind, change) {
  const found = new Kind(data.length);
  for (let at = 0; at < data.length; at++) found[at] = change(data[at]);
  return found;
}

/** RGB at another size: bilinear, antialiased where it shrinks; columns first, and whole numbers in between. */
function resized({width, height, data}, newWidth, newHeight) {
  if (newWidth !== width) data = resizedRows(data, 3, width, newWidth, height);
  if (newHeight !== height) data = resizedRows(data, 3 * newWidth, height, newHeight, 1);
  return {width: newWidth, height: newHeight, data};
}

/** Interpolate along one axis; `lines` lines of `length` cells, each of `cell` numbers beside one another. */
function resizedRows(data, cell, length, newLength, lines) {
  const found = new Uint8Array(lines * newLength * cell), {starts, weights, taps, bits} = kernel(length, newLength);
  const half = 1 << bits - 1;
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < newLength; place++) {
      const to = (line * newLength + place) * cell, from = (line * length + starts[place]) * cell;
      const count = Math.min(taps, length - starts[place]);
      for (let number = 0; number < cell; number++) {
        let sum = half;
        for (let tap = 0; tap < count; tap++) sum += weights[place * taps + tap] * data[from + tap * cell + number];
        found[to + number] = Math.min(Math.max(sum >> bits, 0), 255);
      }
    }
  }
  return found;
}

/** Triangle weights of each new place as whole numbers, in units of 2 ** -bits: as many bits as 16 hold with a sign. */
function kernel(length, newLength) {
  const scale = length / newLength, support = Math.max(scale, 1), taps = 2 * Math.ceil(support) + 1;
  const starts = new Int32Array(newLength), exact = new Float64Array(newLength * taps);
  let most = 0;
  for (let place = 0; place < newLength; place++) {
    const middle = scale * (place + 0.5), inverse = scale >= 1 ? 1 / scale : 1;
    const start = Math.max(Math.trunc(middle - support + 0.5), 0);
    const count = Math.min(Math.min(Math.trunc(middle + support + 0.5), length) - start, taps);
    let total = 0;
    for (let tap = 0; tap < count; tap++) {
      const weight = Math.max(0, 1 - Math.abs((tap + start - middle + 0.5) * inverse));
      exact[place * taps + tap] = weight;
      total += weight;
    }
    for (let tap = 0; tap < count; tap++) most = Math.max(most, exact[place * taps + tap] /= total);
    starts[place] = start;
  }
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + most * 2 ** (bits + 1)) < 1 << 15) bits++;
  return {starts, taps, bits, weights: Int32Array.from(exact, (weight) => Math.trunc(0.5 + weight * 2 ** bits))};
}
