"""Horizontal runs of equal pixels: label maps have a hundred times fewer of them than pixels.

What must be counted or looked up is done once a run; a dense map is spread out at the end, if at all.

Dimension letters: `R` runs, in raster order; none goes on in the next row of the image.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Integer, Shaped


class Runs(NamedTuple):
    """Where the runs of a map are; every pixel is in exactly one."""

    starts: Int64[np.ndarray, " R"]
    """Index of the first pixel in the flat map."""
    lengths: Int64[np.ndarray, " R"]
    """Pixels."""
    size: tuple[int, int]
    """`(height, width)` of the map."""

    def of(self, map_: Shaped[np.ndarray, "H W"]) -> Shaped[np.ndarray, " R"]:
        """The value of each run, of a map that is constant in it."""
        values: Shaped[np.ndarray, " R"] = map_.reshape(-1)[self.starts]
        return values

    def spread(self, values: Shaped[np.ndarray, " R"]) -> Shaped[np.ndarray, "H W"]:
        """The dense map with these values."""
        return np.repeat(values, self.lengths).reshape(self.size)


def find_runs(*maps: Shaped[np.ndarray, "H W"]) -> Runs:
    """The longest runs in which each of the maps is constant."""
    height, width = maps[0].shape
    is_start = np.empty(height * width, np.bool_)
    first, *others = (map_.reshape(-1) for map_ in maps)
    np.not_equal(first[1:], first[:-1], out=is_start[1:])
    for flat in others:
        is_start[1:] |= flat[1:] != flat[:-1]
    is_start[:: max(width, 1)] = True
    starts = np.flatnonzero(is_start)
    return Runs(starts, np.diff(starts, append=len(is_start)), (height, width))


def areas_and_boxes(
    runs: Runs, places: Integer[np.ndarray, " R"], count: int
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, "N 4"]]:
    """Count and enclose the pixels of segments.

    Args:
        runs: the runs of the map.
        places: what each run belongs to: 0 = no segment, n = segment n.
        count: N, the number of segments.

    Returns:
        Pixels, and COCO boxes `(x, y, width, height)`; zeros for a segment without a pixel.
    """
    y, x = np.divmod(runs.starts, runs.size[1])
    areas = np.bincount(places, runs.lengths, minlength=count + 1).astype(np.int64)  # exact in float64
    low = np.full((2, count + 1), np.iinfo(np.int64).max)
    high = np.full((2, count + 1), -1)
    for axis, (first, last) in enumerate(((x, x + runs.lengths - 1), (y, y))):
        np.minimum.at(low[axis], places, first)
        np.maximum.at(high[axis], places, last)
    boxes = np.where(areas > 0, np.concatenate([low, high - low + 1]), 0)
    return areas[1:], boxes.T[1:]
