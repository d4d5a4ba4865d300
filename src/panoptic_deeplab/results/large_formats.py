"""A `LargeResult` as files: the forms of `coco.py` and `conversions.py`, written in parts.

Objects are looked at one by one, in their boxes, so memory does not grow with the image. Stuff may lie anywhere: it is
in the label image, in the table without centroid and perimeter, and not in GeoJSON.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from panoptic_deeplab.errors import require
from panoptic_deeplab.files import written_whole
from panoptic_deeplab.images.place_on_earth import PlaceOnEarth, on_earth
from panoptic_deeplab.results.conversions import to_geojson
from panoptic_deeplab.results.large_result import LargeResult
from panoptic_deeplab.results.measurements import to_table
from panoptic_deeplab.results.panoptic_result import PanopticResult

_TILE = 512
"""Side of a tile of a label image."""

_LARGEST_CLASSIC = 2**32 - 2**25
"""Bytes of a TIFF file from which on it has to be a BigTIFF, with room for its tables."""

_ROWS = 1024
"""Rows of a table that are joined at once."""

_BOX = {"centroid_y": 0, "centroid_x": 1, "bbox_y": 0, "bbox_x": 1}
"""Columns of a table that are places, and their axis."""


def objects_of(result: LargeResult) -> Iterator[tuple[PanopticResult, tuple[int, int]]]:
    """Each thing alone, in its box, and the `(y, x)` of its upper left corner in the image."""
    for segment in result.segments_info:
        if segment.isthing:
            x, y, width, height = segment.bbox
            window = result.window(segment)
            alone = replace(segment, bbox=(0, 0, width, height))
            map_ = np.where(window == segment.id, window, np.int32(0))
            yield PanopticResult(panoptic_map=map_, segments_info=[alone], categories=result.categories), (y, x)


def large_table(
    result: LargeResult, *, image: str, things_only: bool = False, pixel_size: float | None = None, unit: str = "um"
) -> dict[str, Any]:
    """The table of `to_table`: things first; of stuff, what needs no look at its pixels.

    Args:
        result: a result of any size.
        image: value of the first column.
        things_only: leave stuff out.
        pixel_size: as for `to_table`.
        unit: as for `to_table`.
    """
    how: dict[str, Any] = {"image": image, "pixel_size": pixel_size, "unit": unit}
    empty = PanopticResult(panoptic_map=np.zeros((1, 1), np.int32), segments_info=[], categories=result.categories)
    head = to_table(empty, **how)
    blocks, parts = [], [head]
    for alone, corner in objects_of(result):
        columns = to_table(alone, **how)
        for name, axis in _BOX.items():
            columns[name] = columns[name] + corner[axis]
            if pixel_size is not None:
                columns[f"{name}_{unit}"] = columns[name] * pixel_size
        parts.append(columns)
        if len(parts) >= _ROWS:  # columns of a single number take 2.5 kB a row, long ones 0.3 kB
            blocks.append(_joined(parts))
            parts = []
    if not things_only:
        parts.extend(_of_stuff(result, head, how))
    return _joined([*blocks, *parts])


def _of_stuff(result: LargeResult, head: Mapping[str, Any], how: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for segment in result.segments_info:
        if segment.isthing:
            continue
        x, y, width, height = segment.bbox
        row: dict[str, Any] = {
            "image": how["image"],
            "id": segment.id,
            "category_id": segment.category_id,
            "name": segment.name,
            "isthing": False,
            "score": np.nan if segment.score is None else segment.score,
            "area": segment.area,
            "equivalent_diameter": 2 * np.sqrt(segment.area / np.pi),
            **{"bbox_x": x, "bbox_y": y, "bbox_width": width, "bbox_height": height},
        }
        if how["pixel_size"] is not None:
            row[f"area_{how['unit']}2"] = segment.area * how["pixel_size"] ** 2
            lengths = [name for name in row if f"{name}_{how['unit']}" in head]
            row |= {f"{name}_{how['unit']}": row[name] * how["pixel_size"] for name in lengths}
        yield {
            name: np.array([row.get(name, np.nan)], like.dtype) if isinstance(like, np.ndarray) else [row[name]]
            for name, like in head.items()
        }


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of the same columns one below the other."""
    found: dict[str, Any] = {}
    for name, first in parts[0].items():
        columns = [part[name] for part in parts]
        found[name] = np.concatenate(columns) if isinstance(first, np.ndarray) else list(chain.from_iterable(columns))
    return found


def write_geojson(result: LargeResult, path: Path, *, place: PlaceOnEarth | None = None) -> None:
    """Write the things as the GeoJSON of `to_geojson`, one after another.

    Args:
        result: a result of any size.
        path: its folder exists.
        place: where on the earth the image lies; None = coordinates in pixels.

    Raises:
        OutputError: the system refuses to write.
    """
    with written_whole(path) as temporary, temporary.open("w", encoding="ascii") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        comma = "\n"
        for alone, (y, x) in objects_of(result):
            feature = to_geojson(alone)["features"][0]
            geometry = feature["geometry"]
            parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
            for ring in (ring for part in parts for ring in part):
                ring[:] = [[corner[0] + x, corner[1] + y] for corner in ring]
            if place is not None:
                on_earth(feature, place)
            file.write(comma + json.dumps(feature, allow_nan=False))
            comma = ",\n"
        file.write("\n]}\n")


def write_label_tiff(result: LargeResult, path: Path, *, things_only: bool = False) -> None:
    """Write the ids of segments as a tiled TIFF: uint16, or uint32 where an id is above 65,535; BigTIFF where needed.

    Args:
        result: a result of any size.
        path: its folder exists.
        things_only: stuff becomes 0 too.

    Raises:
        MissingDependencyError: tifffile is not installed.
        OutputError: the system refuses to write.
    """
    tifffile = require("tifffile", extra="large", purpose="Writing label images of any size")
    largest = max((segment.id for segment in result.segments_info), default=0)
    kept = np.zeros(largest + 1, np.uint16 if largest < 2**16 else np.uint32)
    for segment in result.segments_info:
        if segment.isthing or not things_only:
            kept[segment.id] = segment.id
    height, width = result.size

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, height, _TILE):
            band = kept[np.asarray(result.panoptic_map[top : min(top + _TILE, height)])]
            for left in range(0, width, _TILE):
                part = band[:, left : left + _TILE]
                yield np.pad(part, ((0, _TILE - part.shape[0]), (0, _TILE - part.shape[1])))

    with written_whole(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=(height, width),
            dtype=kept.dtype,
            tile=(_TILE, _TILE),
            compression="zlib",
            photometric="minisblack",
            bigtiff=height * width * kept.itemsize > _LARGEST_CLASSIC,
            metadata=None,
        )
