"""Post-processing on a device other than the CPU: queued without waiting, and one transfer of the result at the end.

The host queues the network and all of the post-processing, whose shapes do not depend on the data, and then waits once,
for the result. Post-processing is in float32 whatever the network's precision is.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps, Size, are_finite, each_map, size_of
from panoptic_deeplab.postprocess.merging import PanopticTensors, SegmentTable
from panoptic_deeplab.postprocess.pipeline import panoptic_tensors
from panoptic_deeplab.postprocess.pixels import Grid, make_grid


class Queued(NamedTuple):
    """What a batch will be; reading it waits for the device."""

    raw_maps: RawMaps
    is_finite: Bool[Tensor, ""]
    """Whether all numbers of the network are; if not, the rest means nothing."""
    images: tuple[PanopticTensors, ...]
    grids: tuple[Grid, ...] = ()
    """What was read beside the maps: a CUDA graph reads it again, so it has to live as long."""


cached_grid = lru_cache(maxsize=64)(make_grid)
"""Images of few sizes follow one another, and to make a grid takes copies to the device, for which the host waits."""


def queue_postprocessing(
    raw_maps: RawMaps,
    input_size: Size,
    content_sizes: Sequence[Size],
    *,
    thing_mask: Bool[Tensor, " C"],
    config: PostprocessConfig,
    align_corners: bool,
) -> Queued:
    """Queue all work on float32 maps of images that were padded from `content_sizes` to `input_size`."""
    # Indices that come of NaN would end the process on a GPU.
    maps = each_map(raw_maps, lambda map_: map_.nan_to_num(0.0, 0.0, 0.0))
    map_size, device = size_of(maps.semantic_logits), maps.semantic_logits.device
    grids = tuple(
        cached_grid(map_size, input_size, content_size, align_corners=align_corners, device=device)
        for content_size in content_sizes
    )
    images = tuple(
        panoptic_tensors(
            maps, i, input_size, size, thing_mask=thing_mask, config=config, align_corners=align_corners, grid=grid
        )
        for i, (size, grid) in enumerate(zip(content_sizes, grids, strict=True))
    )
    return Queued(raw_maps, are_finite(raw_maps), images, grids)


def to_host(tensors: PanopticTensors) -> PanopticTensors:
    """Copy the answer for an image in one transfer."""
    table = tensors.table
    # The widest numbers first: each part must start at a multiple of its numbers' size.
    wide = [table.train_ids, table.areas, table.boxes]
    parts = [*wide, table.segment_ids, tensors.scores, tensors.panoptic_map, tensors.semantic_map]
    flat = [part.contiguous().view(-1).view(torch.uint8) for part in parts]
    host = torch.split(torch.cat(flat).cpu(), [len(part) for part in flat])
    train_ids, areas, boxes, segment_ids, scores, panoptic_map, semantic_map = (
        values.view(part.dtype).view(part.shape) for values, part in zip(host, parts, strict=True)
    )
    return PanopticTensors(
        panoptic_map=panoptic_map,
        semantic_map=semantic_map,
        table=SegmentTable(segment_ids=segment_ids, train_ids=train_ids, areas=areas, boxes=boxes),
        scores=scores,
    )
