"""Measurements of segments: one row for each, as a table of columns and as CSV.

Definitions are those of scikit-image's `regionprops`: centroids are means of pixel centers, which lie at integers; the
equivalent diameter is that of a circle with the same area; the perimeter is the length of the line through the centers
of border pixels (those with a neighbor above, below, left or right that belongs to something else), borders of holes
included, with the weights of Benkrid and Crookes, 2000: near the true length for smooth shapes, 0 for a single pixel.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Integer

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.places import segment_places
from panoptic_deeplab.results.run_lengths import Runs, find_runs

_BBOX = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
_LENGTHS = ("centroid_y", "centroid_x", *_BBOX, "perimeter", "equivalent_diameter")

_STEP, _DIAGONAL = 1.0, 2**0.5
_WEIGHTS = np.zeros((5, 5))
"""Length that a border pixel adds, by its neighbors on the border: `[beside or above, diagonal]`."""
_WEIGHTS[2:4, 0:3] = _STEP
_WEIGHTS[0, 2] = _WEIGHTS[1, 3] = _DIAGONAL
_WEIGHTS[1, 1:3] = (_STEP + _DIAGONAL) / 2


def to_table(
    result: PanopticResult,
    *,
    image: str | None = None,
    things_only: bool = False,
    pixel_size: float | None = None,
    unit: str = "um",
) -> dict[str, Any]:
    """Columns `id, category_id, name, isthing, score, area, centroid_y, ...`, as `pandas.DataFrame` takes them.

    Args:
        result: truth or prediction; `score` is NaN where there is none.
        image: value of a first column `image`.
        things_only: leave stuff out.
        pixel_size: side of a pixel in `unit`. Every length then has a second column in it (`perimeter_um`), and so has
            the area (`area_um2`).
        unit: name of the unit, for the names of these columns.

    Returns:
        Name -> NumPy array or list, with one value for each segment, in the order of `segments_info`. Lengths are in
        pixels.

    Raises:
        DatasetError: the result contradicts itself.
        ConfigError: the pixel size is no positive number, or the unit no word.
    """
    check_pixel_size(pixel_size, unit)
    result.check()
    runs = find_runs(result.panoptic_map)
    places = segment_places(result.panoptic_map, runs, [s.id for s in result.segments_info], where="The panoptic map")
    kept = np.array([s.isthing or not things_only for s in result.segments_info], np.bool_)
    segments = [segment for segment, keep in zip(result.segments_info, kept, strict=True) if keep]
    areas = np.array([s.area for s in segments], np.int64)
    centroids = _centroids(runs, places, len(kept))[:, kept]
    boxes = np.array([s.bbox for s in segments], np.int64).reshape(-1, 4)
    columns: dict[str, Any] = {} if image is None else {"image": [image] * len(segments)}
    columns |= {
        "id": np.array([s.id for s in segments], np.int64),
        "category_id": np.array([s.category_id for s in segments], np.int64),
        "name": [s.name for s in segments],
        "isthing": np.array([s.isthing for s in segments], np.bool_),
        "score": np.array([np.nan if s.score is None else s.score for s in segments], np.float64),
        "area": areas,
        "centroid_y": centroids[0],
        "centroid_x": centroids[1],
        **dict(zip(_BBOX, boxes.T, strict=True)),
        "perimeter": _perimeters(result.panoptic_map, runs.spread(places), len(kept))[kept],
        "equivalent_diameter": 2 * np.sqrt(areas / np.pi),
    }
    if pixel_size is not None:
        columns[f"area_{unit}2"] = areas * pixel_size**2
        columns |= {f"{name}_{unit}": columns[name] * pixel_size for name in _LENGTHS}
    return columns


def table_csv(columns: Mapping[str, Any], *, head: bool = True) -> str:
    """A table as CSV (RFC 4180, lines end with a newline); what is not known stays empty.

    Args:
        columns: what `to_table` gives.
        head: begin with the names of the columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows: Iterable[Any] = zip(*(_cells(column) for column in columns.values()), strict=True)
    writer.writerows([columns.keys(), *rows] if head else rows)
    return text.getvalue()


def to_json(result: PanopticResult) -> dict[str, Any]:
    """The segments in plain Python: `{"size": [height, width], "segments_info": [{"id", "category_id", ...}]}`."""
    return {"size": list(result.size), "segments_info": [asdict(segment) for segment in result.segments_info]}


def check_pixel_size(pixel_size: float | None, unit: str) -> None:
    """Refuse what is no size of a pixel.

    Raises:
        ConfigError: it is not positive and finite, or the unit no word that can end the name of a column.
    """
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise ConfigError(f"`pixel_size` must be a positive number. Got {pixel_size} instead.")
    if not re.fullmatch(r"[^\W\d_]{1,20}", unit):
        raise ConfigError(f"The unit of `pixel_size` must be a word such as um, nm or mm. Got {unit!r} instead.")


def _cells(column: Any) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else column
    if isinstance(column, np.ndarray) and np.issubdtype(column.dtype, np.floating):
        return ["" if np.isnan(value) else f"{value:.10g}" for value in values]
    return list(values)


def _centroids(runs: Runs, places: Int64[np.ndarray, " R"], count: int) -> Float64[np.ndarray, "2 N"]:
    """Means of y and x; the sums are whole numbers or halves, so float64 holds them exactly."""
    y, x = np.divmod(runs.starts, runs.size[1])
    pixels = np.bincount(places, runs.lengths, count + 1)[1:]
    rows, columns = (
        np.bincount(places, runs.lengths * middle, count + 1)[1:] for middle in (y, x + (runs.lengths - 1) / 2)
    )
    return np.stack([rows, columns]) / pixels


def _perimeters(
    panoptic_map: Integer[np.ndarray, "H W"], index: Int64[np.ndarray, "H W"], count: int
) -> Float64[np.ndarray, " N"]:
    padded = np.pad(panoptic_map, 1)
    inner = padded[1:-1, 1:-1]
    is_border = np.zeros(padded.shape, np.bool_)
    is_border[1:-1, 1:-1] = (inner != 0) & (
        (inner != padded[:-2, 1:-1])
        | (inner != padded[2:, 1:-1])
        | (inner != padded[1:-1, :-2])
        | (inner != padded[1:-1, 2:])
    )
    y, x = np.nonzero(is_border)
    ids = padded[y, x]
    beside, diagonal = np.zeros((2, len(y)), np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            same = is_border[y + dy, x + dx] & (padded[y + dy, x + dx] == ids)
            if dy and dx:
                diagonal += same
            elif dy or dx:
                beside += same
    lengths = np.bincount(index[y - 1, x - 1], _WEIGHTS[beside, diagonal], count + 1)[1:]
    return lengths.astype(np.float64)  # whole numbers where nothing was counted
