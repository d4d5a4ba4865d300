"""From a label map to what the network should predict: `make_targets`.

Call it after all geometry (scale, crop, flip), on the map the network's input belongs to; then areas, centers and
offsets are those of the visible part, and no augmentation can disagree with them.

    segment          semantic          semantic_weight        center_heatmap   center_weight   offset, offset_weight
    thing            its class         1, or 3 when small     a Gaussian       1               to its center, 1
    stuff            its class         1                      -                1               0, 0
    crowd            void (or class)   0 (or 1)               -                0               0, 0
    void             255               0                      -                0               0, 0

Dimension letters: `N` rows of the lookup tables: row 0 is void, row n is `segments_info[n - 1]`; `R` horizontal runs of
equal pixels. Everything that differs from segment to segment is a table of N numbers, looked up once a run and spread
over its pixels: no work of the size of the image is repeated for each instance.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Integer, Shaped, UInt8
from torch import Tensor

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.config import TargetConfig
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.results.panoptic_result import Segment
from panoptic_deeplab.results.places import segment_places
from panoptic_deeplab.results.run_lengths import Runs, find_runs


def make_targets(
    panoptic_map: Integer[np.ndarray, "H W"] | Integer[Tensor, "H W"],
    segments_info: Sequence[Segment],
    *,
    categories: CategoryTable,
    config: TargetConfig,
) -> Targets:
    """Supervision of one image (sections 3.1 and 4).

    Args:
        panoptic_map: segment ids in the frame of the network's input, 0 = void.
        segments_info: every segment of the map; segments that a crop has cut away may stay listed.
        categories: gives train ids, and says which classes are things.
        config: sigma, small instances, crowd.

    Returns:
        Targets without a batch dimension, on the CPU. Heatmaps peak at the rounded center of mass (halves to even,
        which flips of odd-sized images keep), offsets lead to the exact one.

    Raises:
        DatasetError: the map has an id that `segments_info` lacks, or a segment has an unknown category.
    """
    id_map = panoptic_map.numpy() if isinstance(panoptic_map, Tensor) else panoptic_map
    runs = find_runs(id_map)
    rows = segment_places(id_map, runs, [s.id for s in segments_info], where="The label map")
    train_ids, thing, crowd = _classes(segments_info, categories)

    area, center = _areas_and_centers(runs, rows, len(segments_info) + 1)
    instance = thing & ~crowd & (area > 0)
    small = instance & (area < config.small_instance_area)
    supervised = ~crowd
    supervised[0] = False
    semantic_weight = np.where(small, np.float32(config.small_instance_weight), np.float32(1))
    semantic_weight[0] = 0
    if config.ignore_crowd_in_semantic:
        train_ids[crowd] = IGNORE_INDEX
        semantic_weight[crowd] = 0

    def spread(table: Shaped[np.ndarray, " N"]) -> Tensor:
        return torch.from_numpy(runs.spread(table[rows]))

    return Targets(
        semantic=spread(train_ids),
        center_heatmap=torch.from_numpy(_center_heatmap(np.rint(center[instance]), runs.size, config.sigma)),
        offset=torch.from_numpy(_offset(center, instance, runs, rows)),
        semantic_weight=spread(semantic_weight),
        center_weight=spread(supervised.astype(np.float32)),
        offset_weight=spread(instance.astype(np.float32)),
    )


def _classes(
    segments_info: Sequence[Segment], categories: CategoryTable
) -> tuple[UInt8[np.ndarray, " N"], Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Train id, isthing and iscrowd of each row; row 0 is void, neither thing nor crowd."""
    train_ids = np.full(len(segments_info) + 1, IGNORE_INDEX, np.uint8)
    thing = np.zeros(len(train_ids), np.bool_)
    crowd = np.zeros(len(train_ids), np.bool_)
    for row, segment in enumerate(segments_info, start=1):
        train_id = categories.train_id_by_category_id.get(segment.category_id)
        if train_id is None:
            raise DatasetError(
                f"Segment {segment.id} has category_id {segment.category_id}, which is not in the category table"
                f" {categories.name!r}. Expected one of {sorted(categories.train_id_by_category_id)}."
            )
        train_ids[row] = train_id
        thing[row] = categories[train_id].isthing
        crowd[row] = segment.iscrowd
    return train_ids, thing, crowd


def _areas_and_centers(
    runs: Runs, rows: Int64[np.ndarray, " R"], num_rows: int
) -> tuple[Int64[np.ndarray, " N"], Float64[np.ndarray, "N 2"]]:
    """Visible pixels and mean `(y, x)` of each row of the tables; the mean of an empty row is 0."""
    y, x = np.divmod(runs.starts, runs.size[1])
    area, sum_y, twice_sum_x = (  # sums of whole numbers are exact in float64
        np.bincount(rows, weights, minlength=num_rows)
        for weights in (runs.lengths, runs.lengths * y, runs.lengths * (2 * x + runs.lengths - 1))
    )
    return area.astype(np.int64), np.stack([sum_y, twice_sum_x / 2], axis=1) / np.maximum(area, 1)[:, None]


def _offset(
    center: Float64[np.ndarray, "N 2"], instance: Bool[np.ndarray, " N"], runs: Runs, rows: Int64[np.ndarray, " R"]
) -> Float32[np.ndarray, "2 H W"]:
    """`(dy, dx)` from each pixel of an instance to its center; 0 elsewhere."""
    height, width = runs.size
    offset = np.empty((2, height, width), np.float32)
    center = center.astype(np.float32)
    inside = instance[rows]
    # y does not change along a run
    offset[0] = runs.spread(np.where(inside, center[rows, 0] - (runs.starts // width).astype(np.float32), 0))
    np.subtract(runs.spread(center[rows, 1]), np.arange(width, dtype=np.float32), out=offset[1])
    offset[1] *= runs.spread(inside)
    return offset


def _center_heatmap(
    peaks: Float64[np.ndarray, "K 2"], size: tuple[int, int], sigma: float
) -> Float32[np.ndarray, "H W"]:
    """The maximum of one Gaussian a peak, each cut at the border of the map."""
    height, width = size
    heatmap = np.zeros((height, width), np.float32)
    patch = _gaussian_patch(sigma)
    radius = patch.shape[0] // 2
    for y, x in peaks.astype(int).tolist():
        top, left = max(y - radius, 0), max(x - radius, 0)
        window = heatmap[top : y + radius + 1, left : x + radius + 1]
        patch_top, patch_left = top - (y - radius), left - (x - radius)
        visible = patch[patch_top : patch_top + window.shape[0], patch_left : patch_left + window.shape[1]]
        np.maximum(window, visible, out=window)
    return heatmap


@lru_cache(maxsize=8)
def _gaussian_patch(sigma: float) -> Float32[np.ndarray, "side side"]:
    """A Gaussian that is 1 in the middle, on a square of side 6 sigma + 3, rounded up to an odd integer.

    The side is that of the public implementations; the paper does not state it.
    """
    radius = math.ceil(3 * sigma) + 1
    squares = np.arange(-radius, radius + 1, dtype=np.float64) ** 2
    patch: Float32[np.ndarray, "side side"] = np.exp(-(squares[:, None] + squares) / (2 * sigma**2)).astype(np.float32)
    return patch
