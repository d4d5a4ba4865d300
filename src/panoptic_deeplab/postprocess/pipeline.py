"""From `RawMaps` to `PanopticResult`: centers, grouping, majority vote, scores (sections 3.2 and 3.3).

    cells.py          pixels sorted by the four samples of the stride-4 maps around them
    centers.py        which pixels of the resized heatmap are centers
    corners.py        whole cells of 4 x 4 pixels whose class and instance follow from their corners: most of an image
    pixels.py         the rest, pixel by pixel; with grouping.py, the nearest center
    merging.py        votes, areas, boxes, stuff filter, scores
    probability.py    the softmax inside of whole cells, with few exponentials

Nothing is resized as a whole. Peak memory is some maps of one number a pixel; there is neither a C x H x W
nor a K x H x W array. Maps, classes, areas and boxes are exact: they do not depend on the block size, on threads, on
the batch around an image, or on the order of additions. Scores are deterministic, but another way of working may change
them by up to 1.2e-7, the rounding of float32: exponentials are not the same to the last bit.

Deliberate deviations from the published code:

 1. Upsampled offsets grow by the exact ratio of pixel distances of each axis; one code base leaves the values as they
    are when it resizes, another uses one integer factor for both axes; unless sizes are k * 4 + 1, both group wrongly.
 2. The padding of the network input is cut off before anything else: it holds neither centers nor stuff area.
 3. Non-maximum suppression comes before the threshold, as the paper says, with -infinity outside of the image. The
    results are the same, except with zero padding and negative values.
 4. A flat maximum gives one center, the first pixel in raster order. A plain equality test keeps all its pixels and
    splits one object into several.
 5. Exactly the `top_k` strongest centers stay, equal scores in raster order. "Strictly above the k-th score" loses the
    k-th and all its ties. Fewer pixels than `top_k` are no error.
 6. Grouping looks at thing pixels and at centers that can be nearest, and where all corners of a cell agree, at no
    pixel; the answer is that of the full comparison.
 7. Thing pixels of an image without a center stay void. One published operator makes them one instance of the class
    with most votes, two other code bases leave them void; a merged crowd of objects is not an instance.
 8. Equal votes go to the lower train id, equal class scores too, equal distances to the stronger center. Published
    operators and their fall-backs differ from each other here.
 9. A stuff class with exactly `stuff_area_limit` pixels stays ("area < limit" is removed, as in the paper and two of
    the three code bases). The area is that of the class in the image, not of a connected component.
10. Objectness is read at the detected center. At the centroid of the mask, as in two code bases, it may lie outside of
    the mask or on another object. The score is class probability x objectness as in the paper, never one of them alone.
11. Void is id 0 and never listed; segment ids count from 1 through the image. Elsewhere id 0 of class 0 collides with
    void, or ids are class * divisor + instance, which limits the instances of a class.
12. The nearest center is taken however far it is, as in the paper. Distance gates and the merging of fragments are not
    part of the method.
13. A semantic-only model has no instances: its thing pixels are void in `panoptic_map`; `semantic_map` has them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, UInt8
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps, Size, offset_scale
from panoptic_deeplab.postprocess.cells import (
    CellGrid,
    Rectangles,
    all_cells,
    expand,
    is_pixel,
    look_up,
    make_grid,
    pixel_rows_and_columns,
)
from panoptic_deeplab.postprocess.centers import Centers, find_centers
from panoptic_deeplab.postprocess.corners import decided_runs, label_cells, undecided_cells
from panoptic_deeplab.postprocess.merging import SegmentTable, SlotSums, decide_segments, score_segments
from panoptic_deeplab.postprocess.pixels import label_pixels, probability_of
from panoptic_deeplab.postprocess.probability import probability_in_cells
from panoptic_deeplab.results import PanopticResult, Segment
from panoptic_deeplab.stopwatch import Stopwatch, stage

_BLOCK_ELEMENTS = {"cpu": 2**18, "other": 2**26}
"""Class scores upsampled at once: on a CPU what stays in its cache, elsewhere what is worth starting an operator."""


class PanopticTensors(NamedTuple):
    """The answer for one image as tensors whose shapes do not depend on the data."""

    panoptic_map: Int32[Tensor, "H W"]
    """Segment ids, 0 = void."""

    semantic_map: UInt8[Tensor, "H W"]
    """Train ids, argmax before merging."""

    table: SegmentTable
    """One row for each of `top_k` possible instances and each class."""

    scores: Float32[Tensor, " S"]
    """Of the rows: objectness x mean probability of its class over its mask; stuff: mean probability. 0 if empty."""


class PanopticPostprocessor:
    """Turns the maps of a batch into results.

    Args:
        categories: classes of the model, in the order of its channels.
        config: thresholds.
        align_corners: convention of the model's resizing, `ModelConfig.align_corners`.
    """

    def __init__(self, categories: CategoryTable, config: PostprocessConfig, *, align_corners: bool) -> None:
        self.categories = categories
        self.config = config
        self.align_corners = align_corners

    @torch.inference_mode()
    def __call__(
        self,
        raw_maps: RawMaps,
        input_size: Size,
        content_sizes: Sequence[Size] | None = None,
        *,
        stopwatch: Stopwatch | None = None,
    ) -> list[PanopticResult]:
        """Post-process a batch.

        Args:
            raw_maps: of B images, finite, on any device, in any floating-point type (the computation is float32).
            input_size: of the network input, padding included.
            content_sizes: size of each image without the padding at its bottom and right; None = no padding.
            stopwatch: measures the stages `centers`, `upsample + argmax`, `grouping`, `merging` and `scores`.

        Returns:
            One result an image, of its content size. Segments are in the order of their ids: instances, the strongest
            center first, then stuff in the order of train ids.

        Raises:
            ConfigError: the model's number of classes is not that of the table.
            ValueError: a content size does not fit into `input_size`, or there is not one for each image.
        """
        batch_size = len(raw_maps.semantic_logits)
        if content_sizes is None:
            content_sizes = [input_size] * batch_size
        self._check(raw_maps, input_size, content_sizes)
        thing_mask = torch.from_numpy(self.categories.thing_mask).to(raw_maps.semantic_logits.device)
        tensors = [
            panoptic_tensors(
                one_image(raw_maps, i),
                input_size,
                content_size,
                thing_mask=thing_mask,
                config=self.config,
                align_corners=self.align_corners,
                stopwatch=stopwatch,
            )
            for i, content_size in enumerate(content_sizes)
        ]
        with stage(stopwatch, "merging"):
            return [self.result(t) for t in tensors]  # the first transfer, after all work has been queued

    def _check(self, raw_maps: RawMaps, input_size: Size, content_sizes: Sequence[Size]) -> None:
        batch_size, num_classes = raw_maps.semantic_logits.shape[:2]
        if num_classes != self.categories.num_classes:
            raise ConfigError(
                f"The model predicts {num_classes} classes, but category table {self.categories.name!r} has"
                f" {self.categories.num_classes}. Use the table that the model was trained with."
            )
        if len(content_sizes) != batch_size:
            raise ValueError(
                f"`content_sizes` must have one size for each of {batch_size} images. Got {len(content_sizes)} instead."
            )
        for size in content_sizes:
            if not (0 < size[0] <= input_size[0] and 0 < size[1] <= input_size[1]):
                raise ValueError(
                    f"Each of `content_sizes` must be positive and at most `input_size` {input_size}. Got {size}."
                )

    def result(self, tensors: PanopticTensors) -> PanopticResult:
        """The answer for an image, from its tensors, on whichever device they are."""
        ids, train_ids, areas, boxes, scores = (column.cpu().numpy() for column in (*tensors.table, tensors.scores))
        segments = []
        for slot in np.flatnonzero(ids != VOID_ID):  # ids ascend with the slots
            category = self.categories[int(train_ids[slot])]
            x, y, width, height = boxes[slot].tolist()
            segment = Segment(
                id=int(ids[slot]),
                category_id=category.id,
                name=category.name,
                isthing=category.isthing,
                area=int(areas[slot]),
                bbox=(x, y, width, height),
                score=float(scores[slot]),
            )
            segments.append(segment)
        return PanopticResult(
            panoptic_map=tensors.panoptic_map.cpu().numpy(),
            segments_info=segments,
            categories=self.categories,
            semantic_map=tensors.semantic_map.cpu().numpy(),
        )


def panoptic_tensors(
    raw_maps: RawMaps,
    input_size: Size,
    content_size: Size,
    *,
    thing_mask: Bool[Tensor, " C"],
    config: PostprocessConfig,
    align_corners: bool,
    use_corners: bool | None = None,
    block_elements: int | None = None,
    stopwatch: Stopwatch | None = None,
    grid: CellGrid | None = None,
) -> PanopticTensors:
    """The tensor part of the post-processing of one image; off the CPU it never waits for the device.

    Args:
        raw_maps: of one image, with its batch dimension of 1.
        input_size: of the network input.
        content_size: of its top-left part that is image, not padding.
        thing_mask: which classes are things, on the device of the maps.
        config: thresholds.
        align_corners: convention of the model's resizing.
        use_corners: decide whole cells from their corners, so that the work depends on the data; changes speed, never
            the result. None = on the CPU only.
        block_elements: how many class scores to work on at once; changes speed and memory, never the result. None = by
            the device.
        stopwatch: as for `PanopticPostprocessor`.
        grid: of `make_grid` for these sizes; None = made here.
    """
    on_cpu = raw_maps.semantic_logits.device.type == "cpu"
    if use_corners is None:
        use_corners = on_cpu
    if block_elements is None:
        block_elements = _BLOCK_ELEMENTS["cpu" if on_cpu else "other"]
    logits = raw_maps.semantic_logits[0].float().contiguous()
    map_size = (logits.shape[1], logits.shape[2])
    if grid is None:
        grid = make_grid(map_size, input_size, content_size, align_corners=align_corners, device=logits.device)
    with stage(stopwatch, "centers"):
        centers = _centers(raw_maps, grid, config)
    offset = _offset(raw_maps, input_size, align_corners=align_corners)

    how: dict[str, Any] = {"thing_mask": thing_mask, "stopwatch": stopwatch}
    whole = label_cells(logits, offset, grid, centers, **how) if use_corners else None
    cells = all_cells(grid) if whole is None else undecided_cells(whole)
    pixels = label_pixels(logits, offset, grid, cells, centers, block_elements=block_elements, **how)

    with stage(stopwatch, "merging"):
        sums = SlotSums(len(centers.valid), thing_mask)
        if whole is not None:
            sums.add_pixels(*decided_runs(whole, grid))
        y, x = pixel_rows_and_columns(grid, cells)
        is_counted = is_pixel(grid, cells)
        sums.add_pixels(pixels.slots, pixels.train_ids, is_counted.long(), Rectangles(y, y, x, x))
        table = decide_segments(sums, stuff_area_limit=config.stuff_area_limit)

        if whole is None:
            panoptic_map = torch.empty(content_size, dtype=torch.int32, device=logits.device)
            semantic_map = torch.empty(content_size, dtype=torch.uint8, device=logits.device)
        else:
            panoptic_map = expand(look_up(table.segment_ids, whole.slots), grid)
            semantic_map = expand(whole.train_ids, grid)
        place = (y * content_size[1] + x).flatten()  # a place of a cell that is no pixel repeats one
        panoptic_map.view(-1).scatter_(0, place, look_up(table.segment_ids, pixels.slots).flatten())
        semantic_map.view(-1).scatter_(0, place, pixels.train_ids.flatten())

    with stage(stopwatch, "scores"):
        if whole is not None:
            probability = probability_in_cells(look_up(table.train_ids, whole.slots), whole, logits, grid)
            sums.add_probability(whole.slots, probability)
        probability = probability_of(look_up(table.train_ids, pixels.slots), pixels, logits, grid, cells)
        sums.add_probability(pixels.slots, probability * is_counted)
        scores = score_segments(sums, table, centers)
    return PanopticTensors(panoptic_map=panoptic_map, semantic_map=semantic_map, table=table, scores=scores)


def one_image(raw_maps: RawMaps, index: int) -> RawMaps:
    """The maps of one image of a batch, with a batch dimension of 1."""
    logits, heatmap, offset = raw_maps
    one = slice(index, index + 1)
    return RawMaps(
        semantic_logits=logits[one],
        center_heatmap=None if heatmap is None else heatmap[one],
        offset=None if offset is None else offset[one],
    )


def _centers(raw_maps: RawMaps, grid: CellGrid, config: PostprocessConfig) -> Centers:
    """Of the image without padding; none for a semantic-only model."""
    if raw_maps.center_heatmap is None:
        empty = raw_maps.semantic_logits.new_zeros(0, dtype=torch.float32)
        return Centers(empty.view(0, 2), empty, empty.bool())
    return find_centers(
        raw_maps.center_heatmap[0, 0].float(),
        grid,
        threshold=config.center_threshold,
        nms_kernel=config.nms_kernel,
        top_k=config.top_k,
    )


def _offset(raw_maps: RawMaps, input_size: Size, *, align_corners: bool) -> Float[Tensor, "2 h w"]:
    """At the samples of the maps, in pixels of the network input; no movement for a semantic-only model."""
    height, width = raw_maps.semantic_logits.shape[-2:]
    if raw_maps.offset is None:
        return raw_maps.semantic_logits.new_zeros(2, height, width, dtype=torch.float32)
    scale = offset_scale((height, width), input_size, align_corners=align_corners)
    return torch.stack([plane.float() * s for plane, s in zip(raw_maps.offset[0], scale, strict=True)])
