// Measurements of segments as CSV: the columns and numbers of `results/measurements.py`.

const COLUMNS = ["id", "category_id", "name", "isthing", "score", "area", "centroid_y", "centroid_x", "bbox_x", "bbox_y",
  "bbox_width", "bbox_height", "perimeter", "equivalent_diameter"];
const STEP = 1, DIAGONAL = Math.SQRT2, BOTH = (STEP + DIAGONAL) / 2;
// What a border pixel adds to the perimeter, by its neighbors on the border: [beside or above][diagonal].
const LENGTHS = [[0, 0, DIAGONAL], [0, BOTH, BOTH, DIAGONAL], [STEP, STEP, STEP], [STEP, STEP, STEP]];

/** The text of the file, a line for each segment. */
export function tableCsv(result) {
  const {sums, perimeters} = measured(result);
  const rows = result.segments.map(({id, category_id, name, isthing, score, area, bbox}) => {
    const {x, y} = sums.get(id);
    const lengths = [perimeters.get(id), 2 * Math.sqrt(area / Math.PI)].map(digits);
    const thing = isthing ? "True" : "False";
    return [id, category_id, quoted(name), thing, digits(score), area, digits(y / area), digits(x / area), ...bbox, ...lengths];
  });
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\n`).join("");
}

function measured({ids, width, segments}) {
  const sums = new Map(segments.map(({id}) => [id, {x: 0, y: 0}]));
  const perimeters = new Map(segments.map(({id}) => [id, 0]));
  const height = ids.length / width, isBorder = new Uint8Array(ids.length);
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height ? y * width + x : -1;
  const differs = (x, y, id) => at(x, y) < 0 || ids[at(x, y)] !== id;
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      const id = ids[place];
      if (!id) continue;
      const sum = sums.get(id);
      sum.x += x;
      sum.y += y;
      isBorder[place] = differs(x - 1, y, id) || differs(x + 1, y, id) || differs(x, y - 1, id) || differs(x, y + 1, id);
    }
  }
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      if (!isBorder[place]) continue;
      const counts = [0, 0, 0];
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const other = at(x + dx, y + dy);
          if (other >= 0 && isBorder[other] && ids[other] === ids[place]) counts[Math.abs(dx) + Math.abs(dy)]++;
        }
      }
      const length = LENGTHS[counts[1]]?.[counts[2]] ?? 0;
      perimeters.set(ids[place], perimeters.get(ids[place]) + length);
    }
  }
  return {sums, perimeters};
}

/** A number with ten digits, as C's `%.10g` writes it. */
export function digits(value) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(9).split("e");
  const trimmed = (text) => text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  if (exponent >= -4 && exponent < 10) return trimmed(value.toFixed(9 - exponent));
  return `${trimmed(mantissa)}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
}

const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
