"""From a label map to what the network should predict: `make_targets`.

Call it after all geometry (scale, crop, flip), on the map the network's input belongs to; then areas, centres and
offsets are those of the visible part, and no augmentation can disagree with them.

    segment          semantic          semantic_weight        center_heatmap   center_weight   offset, offset_weight
    thing            its class         1, or 3 when small     a Gaussian       1               to its centre, 1
    stuff            its class         1                      -                1               0, 0
    crowd            void (or class)   0 (or 1)               -                0               0, 0
    void             255               0                      -                0               0, 0

Dimension letters: `N` rows of the lookup tables: row 0 is void, row n is `segments_info[n - 1]`. Everything that
differs from segment to segment is a table of N numbers, and one lookup a pixel spreads it over the map: no work of the
size of the image is repeated for each instance.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Integer, UInt8
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import TargetConfig
from panoptic_deeplab.encoding import IGNORE_INDEX
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.results import Segment, segment_index


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
        Targets without a batch dimension, on the CPU. Heatmaps peak at the rounded centre of mass (halves to even,
        which flips of odd-sized images keep), offsets lead to the exact one.

    Raises:
        DatasetError: the map has an id that `segments_info` lacks, or a segment has an unknown category.
    """
    id_map = panoptic_map.numpy() if isinstance(panoptic_map, Tensor) else panoptic_map
    row_map = segment_index(id_map, [s.id for s in segments_info], where="The label map")
    train_ids, thing, crowd = _classes(segments_info, categories)

    area, center = _areas_and_centers(row_map, len(segments_info) + 1)
    instance = thing & ~crowd & (area > 0)
    small = instance & (area < config.small_instance_area)
    supervised = ~crowd
    supervised[0] = False
    semantic_weight = np.where(small, np.float32(config.small_instance_weight), np.float32(1))
    semantic_weight[0] = 0
    if config.ignore_crowd_in_semantic:
        train_ids[crowd] = IGNORE_INDEX
        semantic_weight[crowd] = 0

    offset_weight = instance.astype(np.float32).take(row_map)
    return Targets(
        semantic=torch.from_numpy(train_ids.take(row_map)),
        center_heatmap=torch.from_numpy(_center_heatmap(np.rint(center[instance]), row_map.shape, config.sigma)),
        offset=torch.from_numpy(_offset(center, row_map, offset_weight)),
        semantic_weight=torch.from_numpy(semantic_weight.take(row_map)),
        center_weight=torch.from_numpy(supervised.astype(np.float32).take(row_map)),
        offset_weight=torch.from_numpy(offset_weight),
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
    row_map: Int64[np.ndarray, "H W"], num_rows: int
) -> tuple[Integer[np.ndarray, " N"], Float64[np.ndarray, "N 2"]]:
    """Visible pixels and mean `(y, x)` of each row; the mean of an empty row is 0."""
    height, width = row_map.shape
    # Counts by (image row, table row) and (image column, table row) hold the sums of y and x, in exact integers.
    by_y = _count_pairs(np.arange(height)[:, None], row_map, height, num_rows)
    by_x = _count_pairs(np.arange(width)[None, :], row_map, width, num_rows)
    area = by_y.sum(axis=0)
    sums = np.stack([np.arange(height) @ by_y, np.arange(width) @ by_x], axis=-1)
    return area, sums / np.maximum(area, 1)[:, None]


def _count_pairs(
    position: Integer[np.ndarray, "_ _"], row_map: Int64[np.ndarray, "H W"], num_positions: int, num_rows: int
) -> Integer[np.ndarray, "positions N"]:
    pairs = position * num_rows + row_map
    counts: Integer[np.ndarray, "positions N"] = np.bincount(pairs.ravel(), minlength=num_positions * num_rows)
    return counts.reshape(num_positions, num_rows)


def _offset(
    center: Float64[np.ndarray, "N 2"], row_map: Int64[np.ndarray, "H W"], offset_weight: Float32[np.ndarray, "H W"]
) -> Float32[np.ndarray, "2 H W"]:
    """`(dy, dx)` from each pixel of an instance to its centre; 0 elsewhere."""
    height, width = row_map.shape
    offset = np.empty((2, height, width), np.float32)
    center = center.astype(np.float32)
    np.subtract(center[:, 0].take(row_map), np.arange(height, dtype=np.float32)[:, None], out=offset[0])
    np.subtract(center[:, 1].take(row_map), np.arange(width, dtype=np.float32)[None, :], out=offset[1])
    offset *= offset_weight
    return offset


def _center_heatmap(
    peaks: Float64[np.ndarray, "K 2"], size: tuple[int, ...], sigma: float
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
