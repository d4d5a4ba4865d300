"""`LargeResult`: a `PanopticResult` whose maps may be on disk, made from slots at the size of the network's input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int32

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.results.run_lengths import find_runs
from panoptic_deeplab.results.stored import Stored

_BAND_PIXELS = 2**22
"""Pixels that are copied at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LargeResult:
    """A panoptic segmentation of one image of any size."""

    panoptic_map: Stored = field(repr=False)
    """int32 `(H, W)`: segment ids, 0 = void."""
    semantic_map: Stored = field(repr=False)
    """uint8 `(H, W)`: train ids of the argmax before merging."""
    segments_info: list[Segment] = field(repr=False)
    """Every id of the map exactly once."""
    categories: CategoryTable = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        return self.panoptic_map.shape[0], self.panoptic_map.shape[1]

    def in_memory(self) -> PanopticResult:
        """The same with NumPy arrays; five bytes a pixel."""
        return PanopticResult(
            panoptic_map=np.asarray(self.panoptic_map[:]),
            segments_info=self.segments_info,
            categories=self.categories,
            semantic_map=np.asarray(self.semantic_map[:]),
        )

    def window(self, segment: Segment) -> Int32[np.ndarray, "h w"]:
        """The part of the panoptic map in the box of a segment."""
        x, y, width, height = segment.bbox
        return np.asarray(self.panoptic_map[y : y + height, x : x + width])


def fill_large_result(
    slots: Stored,
    train_ids: Stored,
    segment_ids: Int32[np.ndarray, " S"],
    segments: Sequence[Segment],
    categories: CategoryTable,
    *,
    panoptic_map: Stored,
    semantic_map: Stored,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> LargeResult:
    """Number the pixels of an image at its own size, as `PanopticResult.resized` would, in bands of rows.

    Args:
        slots: int32 `(h, w)`, a row of `segment_ids` for each pixel of the network's input.
        train_ids: uint8 `(h, w)`.
        segment_ids: of each slot; 0 = void.
        segments: those that are not void, by rising ids from 1 on; areas and boxes are counted anew.
        categories: the class table.
        panoptic_map: int32 `(H, W)`, is filled.
        semantic_map: uint8 `(H, W)`, is filled.
        on_rows: is told how many of how many rows are done.

    Returns:
        The result, without segments that have no pixel at this size.
    """
    (height, width), (from_height, from_width) = panoptic_map.shape, slots.shape
    columns = ((2 * np.arange(width) + 1) * from_width) // (2 * width)
    count = len(segments)
    areas = np.zeros(count + 1, np.int64)
    low, high = np.full((2, count + 1), np.iinfo(np.int64).max), np.full((2, count + 1), -1)
    step = max(1, _BAND_PIXELS // max(width, from_width))
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        taken = ((2 * np.arange(rows.start, rows.stop) + 1) * from_height) // (2 * height)
        from_rows = slice(int(taken[0]), int(taken[-1]) + 1)
        picked = np.ix_(taken - from_rows.start, columns)
        ids = segment_ids[np.asarray(slots[from_rows])[picked]]
        panoptic_map[rows] = ids
        semantic_map[rows] = np.asarray(train_ids[from_rows])[picked]
        runs = find_runs(ids)
        of_runs = runs.of(ids)
        y, x = np.divmod(runs.starts, width)
        areas += np.bincount(of_runs, runs.lengths, minlength=count + 1).astype(np.int64)
        for axis, (first, last) in enumerate(((x, x + runs.lengths - 1), (y + top, y + top))):
            np.minimum.at(low[axis], of_runs, first)
            np.maximum.at(high[axis], of_runs, last)
        on_rows(rows.stop, height)
    boxes = np.concatenate([low, high - low + 1]).T.tolist()
    found = []
    for segment in segments:
        if areas[segment.id] > 0:
            x, top, box_width, box_height = boxes[segment.id]
            found.append(replace(segment, area=int(areas[segment.id]), bbox=(x, top, box_width, box_height)))
    return LargeResult(panoptic_map=panoptic_map, semantic_map=semantic_map, segments_info=found, categories=categories)
