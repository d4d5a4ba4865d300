"""Annotations that are drawn one by one, as polygons or masks: which pixels they cover, and who is on top.

The pixel rule is that of pycocotools, which does the work: a pixel belongs to a polygon when its center is inside by
the even-odd rule, with the coordinates of vertices rounded to a fifth of a pixel; (0, 0) is the outer corner of the
first pixel. The parts of one annotation are united, and what lies outside of the image is cut off.

Two annotations can claim one pixel, but a panoptic map has one answer. The overlap rule (`data.overlap`) says which:

| rule       | on top                                                                                    |
|------------|-------------------------------------------------------------------------------------------|
| `smallest` | the annotation with fewer pixels in the image; of two of one size the later one in the file |
| `file`     | the later one in the file                                                                 |
| `z_order`  | the one with the larger z; of two of one z the later one in the file                      |
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config.data import Overlap
from panoptic_deeplab.data.formats.common.coco_rle import mask_of_counts, rle_counts
from panoptic_deeplab.data.labels import RawSegment
from panoptic_deeplab.data.problems import shown
from panoptic_deeplab.errors import require

_STEPS = 5
"""pycocotools rounds vertices to this part of a pixel."""

_LONGEST_OUTLINE = 2**20
"""Pixels. pycocotools walks along an outline with 5 steps of 16 bytes each a pixel."""


class Patch(NamedTuple):
    """The pixels of one annotation: a mask of the part of the image that holds all of them."""

    y: int
    """Row of the image in which the mask begins."""
    x: int
    """Column."""
    mask: Bool[np.ndarray, "h w"]


class Shape(NamedTuple):
    """One annotation of one image."""

    patch: Patch
    dataset_id: int
    """Category id of the data set."""
    iscrowd: bool = False
    z: float = 0
    place: str = ""
    """Where it is in the file, for messages: `annotations[3]`."""


class Painted(NamedTuple):
    """All annotations of an image in one map."""

    raw_map: Int32[np.ndarray, "H W"]
    """0 = void."""
    segments: list[RawSegment]
    """Those of which a pixel is seen: annotation number `i` of the image has the id `i + 1`."""
    overlapping: int
    """Pixels that more than one annotation covers."""
    empty: list[str]
    """Places of annotations that cover no pixel of the image."""
    hidden: list[str]
    """Places of annotations that others cover completely."""


def polygon_fault(part: Any) -> str | None:
    """Tell what is wrong with a part of a polygon in a file, `[x1, y1, x2, y2, ...]`.

    Returns:
        The rest of a sentence that begins with the place; None if nothing is wrong.
    """
    if not isinstance(part, list) or not {int, float}.issuperset(map(type, part)):
        return f"has a polygon that is no list of numbers, but {shown(part)}. Expected [x1, y1, x2, y2, ...]."
    if len(part) < 6 or len(part) % 2:
        return f"has a polygon of {len(part)} numbers. Expected x and y of at least three corners."
    try:
        corners = np.array(part, np.float64).reshape(-1, 2)
    except OverflowError:  # an integer that no float holds
        corners = np.full((1, 2), np.nan)
    outline = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()
    if not outline <= _LONGEST_OUTLINE:  # nor where it is not a number
        return f"has a polygon whose outline is {outline:g} pixels long. Expected at most {_LONGEST_OUTLINE}."
    return None


def polygon_patch(parts: Sequence[Float64[np.ndarray, "_ 2"]], size: tuple[int, int]) -> Patch:
    """Give the pixels of a polygon of one or several parts, by the rule in the module's docstring.

    Args:
        parts: corners `(x, y)` of each part, in pixels, as files have them; `polygon_fault` found nothing in them.
        size: `(height, width)` of the image.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    coco_mask = require("pycocotools.mask", extra="eval", purpose="Reading polygons")
    corners = np.concatenate(parts) if parts else np.zeros((1, 2))
    limit = np.array([size[1], size[0]])
    begin = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(np.int64)
    end = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(np.int64)
    width, height = (end - begin).tolist()
    x, y = begin.tolist()
    if not parts or min(width, height) <= 0:
        return Patch(0, 0, np.zeros((0, 0), np.bool_))
    # Only the box around the polygon is drawn, ten times as fast as the image. Rounding before it is moved keeps the
    # result that of the image; where the box begins at 0, nothing is moved, and pycocotools rounds.
    moved = [
        np.where(begin > 0, (np.floor(_STEPS * part + 0.5) - _STEPS * begin) / _STEPS, part).ravel().tolist()
        for part in parts
    ]
    union = coco_mask.merge(coco_mask.frPyObjects(moved, height, width))
    return Patch(y, x, mask_of_counts(rle_counts(union["counts"]), (height, width)))


def mask_patch(mask: Bool[np.ndarray, "H W"]) -> Patch:
    """Cut a mask of the whole image to the box of its pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Patch(0, 0, np.zeros((0, 0), np.bool_))
    y, x = int(rows[0]), int(columns[0])
    return Patch(y, x, mask[y : rows[-1] + 1, x : columns[-1] + 1])


def paint(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    *,
    overlap: Overlap,
    categories: CategoryTable,
    semantic: Int32[np.ndarray, "H W"] | None = None,
) -> Painted:
    """Paint the annotations of an image over each other.

    Args:
        shapes: the annotations, in the order of the file.
        size: `(height, width)` of the image.
        overlap: the rule.
        categories: says which class (`unlabeled`) a pixel has that nobody annotated; without one it is void.
        semantic: category ids of the data set for the pixels that no annotation covers. Those of things become crowd.
    """
    areas = [int(np.count_nonzero(shape.patch.mask)) for shape in shapes]
    keys: dict[Overlap, list[float]] = {
        "smallest": [-area for area in areas],
        "file": [0] * len(shapes),
        "z_order": [shape.z for shape in shapes],
    }
    raw_map = np.zeros(size, np.int32)
    twice = np.zeros(size, np.bool_)
    for number in sorted(range(len(shapes)), key=keys[overlap].__getitem__):  # later ones on top; the sort is stable
        y, x, mask = shapes[number].patch
        part = np.s_[y : y + mask.shape[0], x : x + mask.shape[1]]
        twice[part] |= mask & (raw_map[part] != 0)
        np.copyto(raw_map[part], number + 1, where=mask)
    seen = np.bincount(raw_map.reshape(-1), minlength=len(shapes) + 1)[1:].tolist()
    segments = [RawSegment(i + 1, s.dataset_id, s.iscrowd) for i, s in enumerate(shapes) if seen[i]]
    segments += _beneath(raw_map, len(shapes) + 1, categories, semantic)
    return Painted(
        raw_map,
        segments,
        overlapping=int(np.count_nonzero(twice)),
        empty=[shape.place for shape, area in zip(shapes, areas, strict=True) if not area],
        hidden=[shape.place for shape, area, left in zip(shapes, areas, seen, strict=True) if area and not left],
    )


def _beneath(
    raw_map: Int32[np.ndarray, "H W"],
    next_id: int,
    categories: CategoryTable,
    semantic: Int32[np.ndarray, "H W"] | None,
) -> list[RawSegment]:
    """Fill the pixels that no annotation covers; the segments that they become."""
    free = raw_map == 0
    if semantic is not None:
        ids = np.unique(semantic[free]).tolist()
    elif categories.unlabeled_id is not None and free.any():
        ids = [categories.unlabeled_id]
    else:
        ids = []
    segments = []
    for number, dataset_id in enumerate(ids, start=next_id):
        np.copyto(raw_map, number, where=free if semantic is None else free & (semantic == dataset_id))
        train_id = categories.train_id_by_dataset_id.get(dataset_id)
        segments.append(RawSegment(number, dataset_id, train_id is not None and categories[train_id].isthing))
    return segments
