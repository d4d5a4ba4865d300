// Pictures of a result, as `visualize/draw.py` paints them, but for the names in them: pixels as RGBA.

import {rint} from "./prepare.js";

const NEIGHBORS = 10; // instances whose colors the next one avoids

/** The result over its image: `base` is RGB of 8 bits, `alpha` the opacity of the colors. */
export function overlay(base, result, {categories, palettes}, alpha) {
  const {width, height, ids} = result, picture = new Uint8ClampedArray(4 * width * height).fill(255);
  const colors = new Map(segmentColors(result, categories, palettes)), lines = boundaries(ids, width, height);
  for (let pixel = 0; pixel < ids.length; pixel++) {
    if (lines[pixel]) continue;
    const color = colors.get(ids[pixel]);
    for (let channel = 0; channel < 3; channel++) {
      const value = base[3 * pixel + channel];
      picture[4 * pixel + channel] = color ? rint(value + alpha * (color[channel] - value)) : value;
    }
  }
  return picture;
}

/** The class of each pixel before merging, in the colors of the classes. */
export function classes({semantic}, {categories}) {
  const picture = new Uint8ClampedArray(4 * semantic.length).fill(255);
  for (let pixel = 0; pixel < semantic.length; pixel++) picture.set(categories[semantic[pixel]].color, 4 * pixel);
  return picture;
}

/** RGB as it is. */
export function photograph(base) {
  const picture = new Uint8ClampedArray(base.length / 3 * 4).fill(255);
  for (let pixel = 0; 3 * pixel < base.length; pixel++) picture.set(base.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
  return picture;
}

/** Pairs of an id and its color: stuff has that of its class, and instances those of a palette of well-separated ones. */
function segmentColors({segments}, categories, palettes) {
  const found = [];
  for (const {id, color, isthing} of categories) {
    const members = segments.filter((segment) => segment.category_id === id);
    if (!isthing) {
      found.push(...members.map((segment) => [segment.id, color]));
      continue;
    }
    const places = members.map(({bbox: [x, y, width, height]}) => [x + width / 2, y + height / 2]);
    const {colors, places: inOklab} = palettes[id];
    found.push(...spread(places, distancesOf(inOklab)).map((number, index) => [members[index].id, colors[number]]));
  }
  return found;
}

/** How much each pair of colors differs, by their places in Oklab. */
const distancesOf = (places) => places.map(([a, b, c]) =>
  places.map(([x, y, z]) => Math.sqrt((a - x) ** 2 + (b - y) ** 2 + (c - z) ** 2)));

/** Which color each instance gets: new ones as long as there are, then the one that differs most from its neighbors'. */
function spread(places, distances) {
  const taken = [];
  for (const [number, [x, y]] of places.entries()) {
    const far = places.slice(0, number).map(([left, top]) => (left - x) ** 2 + (top - y) ** 2);
    const neighbors = [...far.keys()].sort((one, other) => far[one] - far[other]).slice(0, NEIGHBORS);
    let best = 0, most = -Infinity;
    for (let color = 0; color < distances.length; color++) {
      if (number < distances.length && taken.includes(color)) continue;
      const difference = Math.min(...neighbors.map((other) => distances[taken[other]][color]));
      if (difference > most) [best, most] = [color, difference];
    }
    taken.push(best);
  }
  return taken;
}

/** Pixels at a change of id: the upper or left one of each pair, and more around them in large images. */
function boundaries(ids, width, height) {
  let lines = new Uint8Array(ids.length);
  for (let at = 0; at < ids.length; at++) {
    const isRight = at % width < width - 1 && ids[at] !== ids[at + 1];
    lines[at] = isRight || (at + width < ids.length && ids[at] !== ids[at + width]);
  }
  const thickness = Math.max(1, rint(Math.min(width, height) / 400));
  for (let step = 0; step < thickness - 1; step++) { // one pixel wider each time, on alternate sides
    const wider = lines.slice(), by = step % 2 ? 1 : -1;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = y * width + x;
        if (y + by >= 0 && y + by < height) wider[at] |= lines[at + by * width];
        if (x + by >= 0 && x + by < width) wider[at] |= lines[at + by];
      }
    }
    lines = wider;
  }
  return lines;
}
