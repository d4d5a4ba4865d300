"""Time and memory of `predict --tile` on one image of any size: `python benchmarks/big_image.py FOLDER [--side 16384]`

The image repeats a square of 512 x 512 pixels, four of the nuclei samples in the package, so each nucleus is there many
times: within tiles and across their seams. Those across seams are held against the same nuclei within a tile. Prints
time, the largest memory of the process (resident, files that it has mapped included), and how many nuclei across seams
are whole: of the same box within two pixels, and of the same area within 15 %.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from panoptic_deeplab import load_config
from panoptic_deeplab.data.samples import NUCLEI
from panoptic_deeplab.inference.tiles.layout import TileAxis, tile_axes
from panoptic_deeplab.weights.bundled import bundled_models

_CELL = 512
_SAMPLES = ("003cee89357d", "0bda515e3702", "05040e2e959c", "1d4a5e729bb9")
_BOX_TOLERANCE = 2
_AREA_TOLERANCE = 0.15


def write_image(path: Path, side: int) -> None:
    """A tiled TIFF of `side` x `side` gray pixels, made and written tile by tile."""
    a, b, c, d = (np.asarray(Image.open(NUCLEI / "images" / f"{name}.png").convert("L")) for name in _SAMPLES)
    cell = np.block([[a, b], [c, d]])
    tiles = (cell for _ in range((side // _CELL) ** 2))
    tifffile.imwrite(
        path, tiles, shape=(side, side), dtype=np.uint8, tile=(_CELL, _CELL), compression="deflate", photometric=1
    )


def predict(image: Path, output: Path, options: list[str]) -> dict[str, float]:
    """Run the command; its seconds and its largest memory."""
    command = [sys.executable, "-m", "panoptic_deeplab", "predict", str(image), "--model", "nuclei", "--device", "cpu"]
    start = time.monotonic()
    process = subprocess.Popen([*command, *options, "--output", str(output), "--save", "table", "labels"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"predict ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_megabytes": round(usage.ru_maxrss * 1024 / 1e6),
    }


def seams(axis: TileAxis, scale: float) -> np.ndarray:
    """Where neighboring tiles count equally, in pixels of the image."""
    starts = np.array(axis.starts)
    return (starts[1:] + starts[:-1] + axis.length) / 2 / scale


def check(table: Path, rows: TileAxis, columns: TileAxis, scale: float) -> dict[str, float]:
    """Hold the nuclei across seams against the same ones within a tile."""
    with table.open(newline="", encoding="utf-8") as file:
        things = [row for row in csv.DictReader(file) if row["isthing"].lower() == "true"]
    x, y, width, height, area = (
        np.array([float(row[name]) for row in things])
        for name in ("bbox_x", "bbox_y", "bbox_width", "bbox_height", "area")
    )
    center = np.stack([y + height / 2, x + width / 2], axis=1)
    lines = seams(rows, scale), seams(columns, scale)
    crosses = np.zeros(len(things), bool)
    for seam, first, length in ((lines[0], y, height), (lines[1], x, width)):
        crosses |= np.searchsorted(seam, first) != np.searchsorted(seam, first + length)
    corner = np.array([_middle_of_tile(line) - _CELL / 2 for line in lines])
    reference = np.flatnonzero(((center >= corner) & (center < corner + _CELL)).all(axis=1))

    def same(chosen: np.ndarray) -> tuple[int, int]:
        """How many there are, and how many are like their copy within a tile."""
        whole = 0
        for part in np.array_split(chosen, max(1, len(chosen) // 4096)):
            between = (center[part][:, None] - center[reference] + _CELL / 2) % _CELL - _CELL / 2
            nearest = np.abs(between).sum(axis=2).argmin(axis=1)
            of = reference[nearest]
            near = np.abs(between[np.arange(len(part)), nearest]).max(axis=1) <= _BOX_TOLERANCE / 2
            box = (abs(width[part] - width[of]) <= _BOX_TOLERANCE) & (abs(height[part] - height[of]) <= _BOX_TOLERANCE)
            whole += int((near & box & (abs(area[part] / area[of] - 1) <= _AREA_TOLERANCE)).sum())
        return len(chosen), whole

    at_border = (np.minimum(x, y) < 64) | (np.maximum(x + width, y + height) > (x + width).max() - 64)
    crossing, whole = same(np.flatnonzero(crosses & ~at_border))
    others, alike = same(np.flatnonzero(~crosses & ~at_border))
    return {
        "nuclei": len(things),
        "nuclei_in_a_square": len(reference),
        "across_seams": crossing,
        "across_seams_whole": whole,
        "others": others,
        "others_alike": alike,
    }


def _middle_of_tile(line: np.ndarray) -> float:
    """Between two seams near the middle of the image."""
    at = len(line) // 2
    return float(line[at - 1] + line[at]) / 2


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    arguments = parser.parse_args()
    if arguments.side % _CELL:
        parser.error(f"--side must be a multiple of {_CELL}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    image, output = arguments.folder / "nuclei.tif", arguments.folder / "predicted"
    write_image(image, arguments.side)
    spent = predict(image, output, ["--tile", str(arguments.tile), "--overlap", str(arguments.overlap)])
    config = load_config(bundled_models()["nuclei"].folder / "config.json")
    scale = config.input.scale
    side = round(arguments.side * scale)
    rows, columns = tile_axes(
        (side, side),
        tile=arguments.tile,
        overlap=arguments.overlap,
        output_stride=config.model.output_stride,
        align_corners=config.model.align_corners,
    )
    found = check(output / "table.csv", rows, columns, scale)
    tiles = len(rows.starts) * len(columns.starts)
    print(json.dumps({"side": arguments.side, "tiles": tiles, **spent, **found}, indent=1))


if __name__ == "__main__":
    main()
