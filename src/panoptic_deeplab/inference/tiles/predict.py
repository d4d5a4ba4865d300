"""Predict an image of any size tile by tile: `predict_tiled`.

    open_regions ─▶ WholeInput ─▶ network, tile by tile ─▶ blended_maps ─▶ segment_in_bands ─▶ LargeResult
    parts of files  resized, normalized                    maps at stride 4  centers, votes over the whole image

Nothing is put together after post-processing: an object that lies across tiles has one peak in the blended heatmap and
is one object. Memory does not grow with the height of the image: what does is on disk, compressed, where it is larger
than `stored.IN_MEMORY`. It is the network on one tile, two rows of tiles of maps (`blend.py`), a band of pixels
(`postprocess/large_maps.py`), up to seven arrays of `IN_MEMORY` bytes each, and the table of segments.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from panoptic_deeplab.errors import ConfigError, ImageError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.prepare import PreparedImage
from panoptic_deeplab.images.regions import Regions
from panoptic_deeplab.inference.engines.engine import Engine, ReadyImage
from panoptic_deeplab.inference.engines.ensemble_engine import EnsembleEngine
from panoptic_deeplab.inference.tiles.blend import blended_maps
from panoptic_deeplab.inference.tiles.layout import tile_axes
from panoptic_deeplab.inference.tiles.whole_input import WholeInput
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess.large_maps import StoredMaps, segment_in_bands
from panoptic_deeplab.postprocess.pipeline import segments_of
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID
from panoptic_deeplab.results.large_result import LargeResult, fill_large_result
from panoptic_deeplab.results.stored import Scratch, new_zarr

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""


def predict_tiled(
    engine: Engine,
    image: Regions,
    *,
    tile: int,
    overlap: int,
    scratch: Scratch,
    output: Path | None = None,
    on_progress: Progress = lambda what, done, total: None,
) -> LargeResult:
    """Segment one image; arguments and errors are those of `PanopticPredictor.predict_tiled`.

    Args:
        engine: has `raw_maps`.
        image: is read part by part.
        tile: side of a tile.
        overlap: width that two neighbors share.
        scratch: where arrays are kept meanwhile; also those of the result, if there is no `output`.
        output: a new folder for the Zarr arrays of the result.
        on_progress: is called now and then.
    """
    config = engine.config
    if isinstance(engine, EnsembleEngine) and len(engine.members) > 1:
        raise ConfigError("Tiles are predicted with one model. Got an ensemble; name one of its members.")
    if output is not None and user_path(output).exists():
        raise ConfigError(f"`output` {output} is there already, and nothing is replaced. Choose another name.")
    whole = WholeInput(image, config.input, scratch)
    rows, columns = tile_axes(
        whole.content_size,
        tile=tile,
        overlap=overlap,
        output_stride=config.model.output_stride,
        align_corners=config.model.align_corners,
        pad_to=config.input.pad_to,
    )
    size = rows.length, columns.length
    pool = config.model.image_pool_size
    if pool is not None and any(
        length < min(window, total)
        for length, window, total in zip(size, pool, (rows.total, columns.total), strict=True)
    ):
        logger.warning(
            "The model's image pool averages over %d x %d pixels, and tiles of %d x %d show it less. Take a tile of"
            " %d.",
            *pool,
            *size,
            max(pool),
        )
    if config.input.longest_side is None:
        engine.check_memory((round(size[0] / config.input.scale), round(size[1] / config.input.scale)), where="A tile")

    def maps_of_tile(top: int, left: int) -> RawMaps:
        prepared = PreparedImage(whole.tile(top, left, size), size)
        return engine.raw_maps([ReadyImage(prepared, size)])

    maps, num_classes = blended_maps(
        maps_of_tile, rows, columns, scratch, on_tile=lambda done, total: on_progress("tiles", done, total)
    )
    content_size = whole.content_size
    slots = scratch.array("slots", content_size, np.int32)
    train_ids = scratch.array("train_ids", content_size, np.uint8)
    table, scores = segment_in_bands(
        StoredMaps(
            maps=maps,
            num_classes=num_classes,
            input_size=(rows.total, columns.total),
            content_size=content_size,
            align_corners=config.model.align_corners,
        ),
        thing_mask=torch.from_numpy(engine.categories.thing_mask),
        config=config.postprocess,
        area=max(tile, *size) if len(rows.starts) == len(columns.starts) == 1 else tile,
        slots=slots,
        train_ids=train_ids,
        on_rows=lambda done, total: on_progress("segments", done, total),
    )
    segments = segments_of(table, scores, engine.categories, engine.config.postprocess)
    if len(segments) > MAX_SEGMENT_ID:
        raise ImageError(
            f"{image.where} has {len(segments)} segments, and ids go up to {MAX_SEGMENT_ID}. Raise"
            " `postprocess.center_threshold`, or cut the image."
        )
    shapes = (("panoptic_map", np.int32), ("semantic_map", np.uint8))
    panoptic_map, semantic_map = (
        scratch.array(name, image.size, dtype)
        if output is None
        else new_zarr(user_path(output) / name, image.size, dtype)
        for name, dtype in shapes
    )
    return fill_large_result(
        slots,
        train_ids,
        table.segment_ids.numpy(),
        segments,
        engine.categories,
        panoptic_map=panoptic_map,
        semantic_map=semantic_map,
        on_rows=lambda done, total: on_progress("maps", done, total),
    )
