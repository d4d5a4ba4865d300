"""The network's maps of a whole image from those of its tiles.

Tiles come row by row. Within a row they are blended as they come; a row of tiles is then blended with the one above it,
and the rows of samples that no later tile covers are written. At most two rows of tiles are in memory:
2 x (C + 3) x tile / 4 x width / 4 numbers.

Blending goes from one value to the other, `a + share x (b - a)`, so that where tiles agree nothing is rounded. Class
scores are blended as the network gives them; they are those of one network, so they need no common scale.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.inference.tiles.layout import TileAxis
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.results.stored import Scratch, Stored


def blended_maps(
    maps_of_tile: Callable[[int, int], RawMaps],
    rows: TileAxis,
    columns: TileAxis,
    scratch: Scratch,
    *,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Stored, int]:
    """Predict all tiles and blend their maps.

    Args:
        maps_of_tile: the maps of the tile that starts at `(top, left)`, in pixels; a batch of one.
        rows: the rows of tiles.
        columns: the columns of tiles.
        scratch: where the maps are kept.
        on_tile: is told how many of how many tiles are done.

    Returns:
        float32 `(C + 3, h, w)`, or `(C, h, w)` of a semantic-only model: class scores, heatmap, offsets. And C.

    Raises:
        ConfigError: the maps of a tile have another resolution than a quarter of the input.
    """
    maps: Stored | None = None
    num_classes = 0
    band: Float32[Tensor, "c r w"] | None = None
    """Samples from the start of the current row of tiles on, without the row itself."""
    total = len(rows.starts) * len(columns.starts)
    for i, top in enumerate(rows.starts):
        row: Tensor | None = None
        for j, left in enumerate(columns.starts):
            raw_maps = maps_of_tile(top, left)
            num_classes = raw_maps.semantic_logits.shape[1]
            tile = _together(raw_maps, rows, columns)
            if row is None:
                row = tile.new_zeros(len(tile), tile.shape[1], columns.samples(columns.total))
            part = row[:, :, columns.span(j)]
            part.copy_(torch.lerp(part, tile, columns.shares(j).expand_as(tile)))
            on_tile(i * len(columns.starts) + j + 1, total)
        assert row is not None
        if band is not None and band.shape[1]:
            shares = rows.shares(i)[: band.shape[1], None].expand_as(band)
            row[:, : band.shape[1]] = torch.lerp(band, row[:, : band.shape[1]], shares)
        if maps is None:
            shape = len(row), rows.samples(rows.total), row.shape[2]
            maps = scratch.array("maps", shape, np.float32, rows_axis=1)
        first = rows.span(i).start
        last = rows.span(i + 1).start if i + 1 < len(rows.starts) else rows.span(i).stop
        maps[:, first:last] = row[:, : last - first].numpy()
        band = row[:, last - first :].clone()
    assert maps is not None
    return maps, num_classes


def _together(raw_maps: RawMaps, rows: TileAxis, columns: TileAxis) -> Float32[Tensor, "c h w"]:
    """The maps of a tile as one array, on the CPU."""
    logits, heatmap, offset = raw_maps
    parts = [logits] if heatmap is None or offset is None else [logits, heatmap, offset]
    tile = torch.cat(parts, dim=1)[0].float().cpu()
    expected = rows.samples(rows.length), columns.samples(columns.length)
    if tuple(tile.shape[1:]) != expected:
        raise ConfigError(
            f"The maps of a tile of {rows.length} x {columns.length} pixels have {tile.shape[1]} x {tile.shape[2]}"
            f" samples. Tiles need a network with maps at a quarter of its input ({expected[0]} x {expected[1]}), and"
            " `test_time_augmentation.scales` of at most 1 with 1 among them."
        )
    return tile
