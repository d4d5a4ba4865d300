"""What the page that predicts in the browser computes in JavaScript, held against the library under node."""

import base64
import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.images.prepare import drawable, in_range, read_for, reading, resize_image
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.results.measurements import table_csv, to_table
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.scores import predicted_scores
from panoptic_deeplab.serving import static_site
from panoptic_deeplab.visualize.colors import instance_palette
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic

Run = Callable[..., Any]

_HEAD = """
import {readFileSync} from "node:fs";
const types = {uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array};
const given = JSON.parse(readFileSync(0, "utf-8"), (key, value) => {
  if (!value?.base64 && value?.base64 !== "") return value;
  const bytes = Uint8Array.from(Buffer.from(value.base64, "base64"));
  return new types[value.dtype](bytes.buffer);
});
const sent = (array) => ({
  base64: Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64"),
  dtype: Object.keys(types).find((name) => types[name] === array.constructor) ?? "uint8",
});
const replaced = (key, value) => ArrayBuffer.isView(value) ? sent(value) : value;
const answer = (value) => process.stdout.write(JSON.stringify(value, replaced));
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run lines of JavaScript that call the page's functions on `given` and pass what they find to `answer`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    folder = tmp_path_factory.mktemp("scripts")
    shutil.copytree(Path(static_site.__file__).parent / "browser", folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")

    def run(code: str, **given: Any) -> Any:
        (folder / "test.js").write_text(_HEAD + code, "utf-8")
        text = json.dumps(given, default=_as_json)
        done = subprocess.run([node, "test.js"], cwd=folder, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout, object_hook=_as_array)

    return run


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        value = np.frombuffer(value, np.uint8)
    return {"base64": base64.b64encode(value.tobytes()).decode(), "dtype": str(value.dtype)}


def _as_array(value: dict[str, Any]) -> Any:
    if "base64" not in value:
        return value
    return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"])


def _noise(height: int, width: int, channels: int, dtype: Any = np.uint8) -> np.ndarray:
    highest = np.iinfo(dtype).max
    return np.random.default_rng(height).integers(0, highest, (height, width, channels), dtype, endpoint=True)


def _image(pixels: np.ndarray) -> dict[str, Any]:
    height, width, channels = pixels.shape
    return {"height": height, "width": width, "channels": channels, "data": pixels}


def _input(config: InputConfig) -> dict[str, Any]:
    names = ("channels", "range", "percentiles", "longest_side", "scale")
    return {name: getattr(config, name) for name in names}


_CASES = [
    (_noise(90, 140, 3), InputConfig()),
    (_noise(90, 140, 3), InputConfig(scale=1.5)),
    (_noise(91, 143, 3), InputConfig(scale=0.37)),
    (_noise(480, 641, 3), InputConfig(longest_side=769)),
    (_noise(1500, 1000, 3), InputConfig(longest_side=769)),
    (_noise(301, 7, 3), InputConfig(scale=0.02)),
    (_noise(5, 5, 3), InputConfig(scale=0.5)),  # 2.5 pixels are 2
    (_noise(7, 3, 3), InputConfig(scale=0.5)),  # 3.5 are 4
    (_noise(1, 1, 3), InputConfig(scale=40)),
    (_noise(90, 140, 4), InputConfig(scale=1.1)),
    (np.repeat(_noise(90, 140, 1), 3, axis=2), InputConfig(scale=0.9)),
    (_noise(90, 140, 3) // 3 + 20, InputConfig(scale=1.5, range="percentile", percentiles=(0.1, 99.9))),
    (_noise(90, 140, 3, np.uint16) // 16, InputConfig(scale=1.5, range="percentile", percentiles=(1, 99))),
    (np.full((8, 9, 3), 7, np.uint8), InputConfig(range="percentile", percentiles=(0, 100))),
    (_noise(90, 140, 3, np.uint16), InputConfig(scale=1.5)),
    (_noise(90, 140, 3, np.uint16), InputConfig(range=(100.5, 40000.0))),
    (_noise(90, 140, 3), InputConfig(range=(-7.0, 200.0))),
    (_noise(90, 140, 4), InputConfig(range=(0.0, 90.0))),
    (_noise(90, 140, 4), InputConfig(scale=0.7, channels=(3, 0, 0))),
]


def test_images_are_prepared_as_by_the_library(run: Run) -> None:
    """To the byte, whatever the size, the depth and the channels."""
    found = run(
        'import {prepare, drawable} from "./prepare.js";'
        "answer(given.cases.map(({image, input}) => ({...prepare(image, input), shown: drawable(image, input)})));",
        cases=[{"image": _image(pixels), "input": _input(config)} for pixels, config in _CASES],
    )
    for (pixels, config), answer in zip(_CASES, found, strict=True):
        library = pixels if reading(config)["every_channel"] else pixels[..., :3]
        expected = resize_image(library, input_config=config).permute(1, 2, 0).numpy()
        assert (answer["height"], answer["width"]) == expected.shape[:2]
        assert np.array_equal(answer["data"], expected.ravel()), config
        assert np.array_equal(answer["shown"], drawable(library, config).ravel()), config


def test_halves_are_rounded_as_by_python(run: Run) -> None:
    numbers = [-2.5, -1.5, -0.5, 0.0, 0.4, 0.5, 1.5, 2.5, 2.500001, 1e6 + 0.5]
    found = run('import {rint} from "./prepare.js";answer(given.numbers.map(rint));', numbers=numbers)
    assert found == [round(number) for number in numbers]


def _saved(pixels: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(file, "PNG", **options)
    return file.getvalue()


def _png(lines: bytes, size: tuple[int, int], *, depth: int, kind: int, interlaced: bool = False) -> bytes:
    """A PNG of unfiltered lines, of kinds that Pillow does not write."""
    head = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, interlaced)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _lines(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + line.tobytes() for line in pixels)


def _interlaced(pixels: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::dy, left::dx] for top, left, dy, dx in passes]
    return b"".join(_lines(part) for part in parts if part.size)


_RGB = _noise(37, 53, 3)
_DEEP = _noise(37, 53, 1, np.uint16)[..., 0]
_SMOOTH = (np.indices((37, 53)).sum(0) * 2)[..., None].astype(np.uint8) + np.array([0, 9, 30], np.uint8)

_PNGS = {
    "RGB": _saved(_RGB),
    "every filter": _saved(_SMOOTH, compress_level=9),
    "gray": _saved(_RGB[..., 0]),
    "black and white": _saved(_RGB[..., 0], "1"),
    "palette": _saved(_RGB, "P"),
    "palette of 16 colors": _saved(_RGB // 128 * 100, "P", bits=4),
    "palette with transparency": _saved(_RGB, "P", transparency=bytes(range(200))),
    "RGBA": _saved(_noise(37, 53, 4)),
    "gray with alpha": _saved(_noise(37, 53, 2)),
    "RGB with a transparent color": _saved(_RGB, transparency=tuple(_RGB[0, 0].tolist())),
    "gray of 16 bits": _saved(_DEEP),
    "gray of 4 bits": _png(_lines(_noise(9, 8, 1)[..., 0]), (9, 16), depth=4, kind=0),
    "RGB of 16 bits": _png(_lines(_noise(9, 8, 3, np.uint16).astype(">u2")), (9, 8), depth=16, kind=2),
    "interlaced": _png(_interlaced(_RGB), (37, 53), depth=8, kind=2, interlaced=True),
    "interlaced and tiny": _png(_interlaced(_RGB[:3, :2]), (3, 2), depth=8, kind=2, interlaced=True),
}


def test_png_files_are_read_and_prepared_as_by_the_library(run: Run, tmp_path: Path) -> None:
    configs = [
        InputConfig(),
        InputConfig(range="percentile", percentiles=(1, 99)),
        InputConfig(range=(7.0, 30000.0)),
        InputConfig(channels=(2, 0, 1)),
    ]
    found = run(
        'import {decodePng} from "./png.js";import {drawable, inRange} from "./prepare.js";'
        """
        const images = await Promise.all(given.files.map((bytes) => decodePng(bytes, 1e8)));
        answer(images.map((image) => ({...image, seen: given.inputs.map((input) => inRange(image, input)),
          shown: given.inputs.map((input) => drawable(image, input))})));
        """,
        files=list(_PNGS.values()),
        inputs=[_input(config) for config in configs],
    )
    path = tmp_path / "image.png"
    for (name, content), image in zip(_PNGS.items(), found, strict=True):
        path.write_bytes(content)
        assert np.array_equal(
            image["data"].reshape(-1, image["channels"])[:, :3], read_image(path, deep=True).reshape(-1, 3)
        )
        for config, seen, shown in zip(configs, image["seen"], image["shown"], strict=True):
            pixels = read_for(path, config)
            assert np.array_equal(seen, in_range(pixels, config).ravel()), (name, config)
            assert np.array_equal(shown, drawable(pixels, config).ravel()), (name, config)


@pytest.mark.parametrize(
    "content", [_PNGS["RGB"][:-500], _PNGS["RGB"][:20], _PNGS["RGB"][:500] + b"\0" + _PNGS["RGB"][501:]]
)
def test_a_damaged_png_is_an_error(run: Run, content: bytes) -> None:
    code = 'import {decodePng} from "./png.js";answer(await decodePng(given.bytes, 1e8).then(() => 0, () => 1));'
    assert run(code, bytes=content) == 1


def test_a_png_that_claims_too_much_is_refused_before_it_is_unpacked(run: Run) -> None:
    content = _png(b"", (60000, 60000), depth=8, kind=2)
    code = 'import {decodePng} from "./png.js";answer(await decodePng(given.bytes, 1e8).catch((e) => e.name));'
    assert run(code, bytes=content) == "RangeError"


def test_labels_are_a_png_of_16_bits(run: Run) -> None:
    labels = np.random.default_rng(0).integers(0, 60000, (37, 53)).astype(np.int32)
    code = (
        'import {encodeLabels} from "./png.js";'
        "answer(new Uint8Array(await (await encodeLabels(given.labels, 53, 37)).arrayBuffer()));"
    )
    with Image.open(io.BytesIO(run(code, labels=labels).tobytes())) as picture:
        assert picture.mode == "I;16"
        assert np.array_equal(np.asarray(picture), labels)


_CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=3, name='car, "red"', isthing=True, color=(0, 0, 142)),
        Category(id=5, name="tree", isthing=False, color=(107, 142, 35)),
        Category(id=9, name="person", isthing=True, color=(220, 20, 60)),
    ),
)


def _outputs(seed: int, size: tuple[int, int], count: int) -> dict[str, np.ndarray]:
    """What a file with the whole pipeline gives of one image: disks as things, one class of stuff, and void."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    panoptic = np.where(columns > size[1] // 5, count, 0).astype(np.int32)
    for id_ in range(1, count):
        y, x = generator.integers(0, size[0]), generator.integers(0, size[1])
        panoptic[(rows - y) ** 2 + (columns - x) ** 2 < generator.integers(4, 60)] = id_
    category_ids = np.append(generator.choice([3, 9], count - 1), 5).astype(np.int32)
    return {
        "panoptic_map": panoptic,
        "semantic_map": generator.integers(0, 3, size).astype(np.uint8),
        "segment_ids": np.append(np.arange(1, count + 1), np.zeros(4)).astype(np.int32),
        "category_ids": np.append(category_ids, np.zeros(4)).astype(np.int32),
        "scores": generator.uniform(0, 1.2, count + 4).astype(np.float32),
        "count": np.array([count], np.int32),
    }


def _expected(outputs: dict[str, np.ndarray], size: tuple[int, int], calibration: Any) -> PanopticResult:
    """The same by the library."""
    there = np.unique(outputs["panoptic_map"])
    ids = [id_ for id_ in outputs["segment_ids"].tolist() if id_ and id_ in there]
    category_ids = {id_: int(outputs["category_ids"][id_ - 1]) for id_ in ids}
    scores = {}
    for id_ in ids:
        isthing = category_ids[id_] != 5
        shown = predicted_scores(float(outputs["scores"][id_ - 1]), isthing=isthing, calibration=calibration)
        scores[id_] = float(shown["score"] or 0.0)
    result = PanopticResult.from_maps(outputs["panoptic_map"], category_ids, _CATEGORIES, scores=scores)
    result = PanopticResult(
        panoptic_map=result.panoptic_map,
        segments_info=result.segments_info,
        categories=_CATEGORIES,
        semantic_map=outputs["semantic_map"],
    )
    return result.resized(size)


@pytest.mark.parametrize(
    ("model_size", "size", "count", "calibration"),
    [((90, 140), (90, 140), 12, None), ((90, 140), (60, 93), 90, (7.3, -2.8)), ((40, 60), (800, 1200), 60, None)],
)
def test_a_result_is_described_and_painted_as_by_the_library(
    run: Run, model_size: tuple[int, int], size: tuple[int, int], count: int, calibration: Any
) -> None:
    """Segments, overlay, classes and table at the size of the image."""
    outputs = _outputs(count, model_size, count)
    expected = _expected(outputs, size, calibration).without_weak_things(0.2)
    base = _noise(*size, 3)
    palettes = {c.id: instance_palette(c.color) for c in _CATEGORIES.categories if c.isthing}
    model = {
        "categories": [
            {"id": c.id, "name": c.name, "isthing": c.isthing, "color": c.color} for c in _CATEGORIES.categories
        ],
        "score_calibration": calibration,
        "palettes": {id_: {"colors": p.colors.tolist(), "places": p.places.tolist()} for id_, p in palettes.items()},
    }
    found = run(
        'import {toResult, withoutWeakThings} from "./result.js";import * as paint from "./paint.js";'
        'import {tableCsv} from "./table.js";'
        """
        const {outputs, prepared, size, model, base} = given;
        const result = withoutWeakThings(toResult(outputs, prepared, size, model), 0.2);
        answer({ids: result.ids, segments: result.segments, overlay: paint.overlay(base, result, model, 0.55),
          classes: paint.classes(result, model), photograph: paint.photograph(base), table: tableCsv(result)});
        """,
        outputs={**outputs, "scores": outputs["scores"]},
        prepared={"height": model_size[0], "width": model_size[1]},
        size={"height": size[0], "width": size[1]},
        model=model,
        base=base,
    )
    assert np.array_equal(found["ids"], expected.panoptic_map.ravel())
    assert [(s["id"], s["name"], s["area"], tuple(s["bbox"])) for s in found["segments"]] == [
        (s.id, s.name, s.area, s.bbox) for s in expected.segments_info
    ]
    assert [s["score"] for s in found["segments"]] == pytest.approx(
        [s.score for s in expected.segments_info], abs=1e-12
    )
    assert found["table"] == table_csv(to_table(expected))
    pictures = {
        "overlay": draw_panoptic(base, expected, labels=False),
        "classes": draw_semantic(outputs_semantic(expected), _CATEGORIES),
        "photograph": base,
    }
    for name, picture in pictures.items():
        painted = found[name].reshape(*size, 4)
        assert (painted[..., 3] == 255).all()
        assert np.array_equal(painted[..., :3], np.asarray(picture)), name


def outputs_semantic(result: PanopticResult) -> np.ndarray:
    assert result.semantic_map is not None
    return result.semantic_map


def test_numbers_of_tables_are_written_as_by_python(run: Run) -> None:
    numbers = [
        0.0,
        1.0,
        0.5,
        1 / 3,
        12345678901.5,
        1e10,
        123456.789012345,
        1e-4,
        9.87654321987e-5,
        3e-300,
        2.5e22,
        100.0,
    ]
    found = run('import {digits} from "./table.js";answer(given.numbers.map(digits));', numbers=numbers)
    assert found == [f"{number:.10g}" for number in numbers]
