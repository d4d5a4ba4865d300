// What the model file gives, as a result at the size of the image: as `inference/engines/pipeline_engine.py` makes it.

/**
 * {width, height, ids, semantic, segments}: `ids` of the pixels, 0 = void; `semantic` numbers of categories in their order.
 *
 * `outputs` are those of the file, each as an array of numbers; `prepared` and `size` have the width and height that the
 * model saw, and those of the image. A segment that loses all pixels at the image's size is left out.
 */
export function toResult(outputs, prepared, size, {categories, score_calibration: calibration}) {
  const ids = nearest(outputs.panoptic_map, prepared, size), semantic = nearest(outputs.semantic_map, prepared, size);
  const places = extents(ids, size.width, outputs.count[0]), segments = [];
  for (let row = 0; row < outputs.count[0]; row++) {
    const category = categories.find(({id}) => id === outputs.category_ids[row]), raw = outputs.scores[row];
    if (!Number.isFinite(raw)) throw new Error("The model's scores are no finite numbers: it computes wrongly on this machine.");
    const {area, left, top, right, bottom} = places[row + 1];
    if (!area) continue;
    segments.push({
      id: outputs.segment_ids[row],
      category_id: category.id,
      name: category.name,
      isthing: category.isthing,
      score: scoreOf(raw, category.isthing ? calibration : null),
      area,
      bbox: [left, top, right - left + 1, bottom - top + 1],
    });
  }
  return {...size, ids, semantic, segments};
}

/** The result without things of a lower score; their pixels are void. */
export function withoutWeakThings(result, least) {
  const weak = new Set(result.segments.filter((one) => one.isthing && one.score < least).map(({id}) => id));
  if (!weak.size) return result;
  const segments = result.segments.filter(({id}) => !weak.has(id));
  return {...result, segments, ids: result.ids.map((id) => weak.has(id) ? 0 : id)};
}

function scoreOf(raw, calibration) {
  if (!calibration) return Math.min(Math.max(raw, 0), 1);
  const [slope, shift] = calibration;
  return 0.5 * (1 + Math.tanh(0.5 * (slope * raw + shift)));
}

/** A map at another size, by the nearest pixel. */
function nearest(map, from, to) {
  const found = new map.constructor(to.width * to.height);
  const [rows, columns] = [[from.height, to.height], [from.width, to.width]].map(([old, size]) =>
    Array.from({length: size}, (_, place) => Math.floor((2 * place + 1) * old / (2 * size))));
  let at = 0;
  for (const row of rows) for (const column of columns) found[at++] = map[row * from.width + column];
  return found;
}

/** Pixels and bounds of each id. */
function extents(ids, width, count) {
  const found = Array.from({length: count + 1}, () => ({area: 0, left: Infinity, top: 0, right: 0, bottom: 0}));
  for (let at = 0, y = 0; at < ids.length; y++) {
    for (let x = 0; x < width; x++, at++) {
      const one = found[ids[at]];
      if (!one.area++) one.top = y;
      one.bottom = y;
      if (x < one.left) one.left = x;
      if (x > one.right) one.right = x;
    }
  }
  return found;
}
