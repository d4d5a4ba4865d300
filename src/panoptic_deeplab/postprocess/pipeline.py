"""The method, top to bottom: from `RawMaps` to `PanopticResult` (sections 3.2 and 3.3 of the paper).

`panoptic_tensors` is the whole of it, for one image:

    pixels.py      class scores, heatmap and offsets are resized to the pixels of the network input (stride 4 -> 1);
                   each pixel takes the class with the largest score
    centers.py     peaks of the heatmap above `center_threshold`, the `top_k` strongest, are the instances
    grouping.py    each thing pixel goes to the center nearest to where its offset points, pixel + (dy, dx)
    merging.py     each instance takes the class of most of its pixels; what is below `stuff_area_limit` or
                   `instance_area_limit` pixels becomes void; what is left is numbered, measured and scored
    joining.py     before that, if `join_border_fraction` is set: neighbors with a long common border become one
    dropped.py     on request: what these limits left out of a result

Maps, classes, areas and boxes are exact: they do not depend on the batch around an image, on the sizes of blocks, on
threads or on the order of additions. Scores are deterministic, but another way of working may change them by up to
1.2e-7, the rounding of float32: exponentials are not the same to the last bit. Peak memory is some maps of one number a
pixel; neither the C x H x W array of scores nor the K x H x W array of distances exists. On a GPU nothing waits for the
device before the result is fetched. On a CPU, `shortcut/` gives the same answer sooner.

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
 6. Thing pixels of an image without a center stay void. One published operator makes them one instance of the class
    with most votes, two other code bases leave them void; a merged crowd of objects is not an instance.
 7. Equal votes go to the lower train id, equal class scores too, equal distances to the stronger center. Published
    operators and their fall-backs differ from each other here.
 8. A stuff class with exactly `stuff_area_limit` pixels stays ("area < limit" is removed, as in the paper and two of
    the three code bases). The area is that of the class in the image, not of a connected component.
 9. Objectness is read at the detected center. At the centroid of the mask, as in two code bases, it may lie outside of
    the mask or on another object. The score is class probability x objectness as in the paper, never one of them alone.
10. Void is id 0 and never listed; segment ids count from 1 through the image. Elsewhere id 0 of class 0 collides with
    void, or ids are class * divisor + instance, which limits the instances of a class.
11. The nearest center is taken however far it is, as in the paper. A limit on the distance was measured and not kept
    (docs/explanation/limits-on-instances.md); `instance_area_limit` and `join_border_fraction`, off by default, were.
12. A semantic-only model has no instances: its thing pixels are void in `panoptic_map`; `semantic_map` has them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps, Size
from panoptic_deeplab.postprocess.centers import find_centers, no_centers
from panoptic_deeplab.postprocess.dropped import Dropped, find_dropped
from panoptic_deeplab.postprocess.grouping import group_pixels
from panoptic_deeplab.postprocess.joining import border_lengths, slots_of_wholes
from panoptic_deeplab.postprocess.merging import (
    PanopticTensors,
    SegmentTable,
    SlotSums,
    decide_segments,
    score_segments,
)
from panoptic_deeplab.postprocess.pixels import (
    Grid,
    class_probability,
    classify_pixels,
    look_up,
    make_grid,
    maps_of_image,
    pixel_positions,
    resize,
)
from panoptic_deeplab.postprocess.shortcut.answer import quick_answer
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.results.scores import predicted_scores
from panoptic_deeplab.stopwatch import Stopwatch, stage


def panoptic_tensors(
    raw_maps: RawMaps,
    index: int,
    input_size: Size,
    content_size: Size,
    *,
    thing_mask: Bool[Tensor, " C"],
    config: PostprocessConfig,
    align_corners: bool,
    stopwatch: Stopwatch | None = None,
    grid: Grid | None = None,
) -> PanopticTensors:
    """Post-process one image of a batch; off the CPU, the host never waits for the device.

    Args:
        raw_maps: maps of the batch.
        index: which image.
        input_size: `(height, width)` of the network input in pixels, padding included.
        content_size: `(height, width)` of its top-left part that is image, not padding.
        thing_mask: which classes are things, on the device of the maps.
        config: thresholds.
        align_corners: convention of the model's resizing.
        stopwatch: as for `PanopticPostprocessor`.
        grid: what `make_grid` gives for these sizes; None = made here.
    """
    maps = maps_of_image(raw_maps, index, input_size, align_corners=align_corners)
    how: dict[str, Any] = {"thing_mask": thing_mask, "config": config, "align_corners": align_corners}
    quick = quick_answer(maps, input_size, content_size, **how, stopwatch=stopwatch)
    if quick is not None:
        return quick

    logits, heatmap, offset = maps
    if grid is None:
        map_size = logits.shape[1], logits.shape[2]
        grid = make_grid(map_size, input_size, content_size, align_corners=align_corners, device=logits.device)

    centers = no_centers(logits.device)
    if heatmap is not None:
        with stage(stopwatch, "centers"):
            centers = find_centers(resize(heatmap[None], grid)[0], config)
    num_centers = len(centers.valid)

    with stage(stopwatch, "upsample + argmax"):
        classes = classify_pixels(logits, grid)
        slots = num_centers + classes.train_ids.to(torch.int32)  # the slot of the class, see merging.py

    y, x = pixel_positions(grid)
    if offset is not None:
        with stage(stopwatch, "grouping"):
            target = torch.stack([y, x]) + resize(offset, grid)
            instances = group_pixels(target, look_up(thing_mask, classes.train_ids), centers)
            slots = torch.where(instances < num_centers, instances, slots)  # or the slot of the instance

    with stage(stopwatch, "merging"):
        sums = SlotSums(num_centers, thing_mask)
        sums.add_pixels(slots, classes.train_ids, y, x)
        if config.join_border_fraction is not None and num_centers > 0:
            lengths = border_lengths(slots, len(sums.votes))
            into = slots_of_wholes(lengths, sums.vote(), fraction=config.join_border_fraction)
            sums.join(into)
            slots = look_up(into, slots)
        table = decide_segments(
            sums, stuff_area_limit=config.stuff_area_limit, instance_area_limit=config.instance_area_limit
        )
        panoptic_map = look_up(table.segment_ids, slots)

    with stage(stopwatch, "scores"):
        sums.add_probability(slots, class_probability(look_up(table.train_ids, slots), classes, logits, grid))
        scores = score_segments(sums, table, centers)
    return PanopticTensors(panoptic_map=panoptic_map, semantic_map=classes.train_ids, table=table, scores=scores)


class PanopticPostprocessor:
    """Turns the maps of a batch into results, with the classes of the model in the order of its channels."""

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
            raw_maps: maps of B images, finite, on any device, in any floating-point type (the computation is float32).
            input_size: `(height, width)` of the network input in pixels, padding included.
            content_sizes: size of each image without the padding at its bottom and right; None = no padding.
            stopwatch: measures the stages `centers`, `upsample + argmax`, `grouping`, `merging` and `scores`.

        Returns:
            One result an image, at its content size. Segments are in the order of their ids: instances, the strongest
            center first, then stuff in the order of train ids.

        Raises:
            ConfigError: the model's number of classes is not that of the table.
            ValueError: a content size does not fit into `input_size`, or there is not one for each image.
        """
        batch_size = len(raw_maps.semantic_logits)
        if content_sizes is None:
            content_sizes = [input_size] * batch_size
        self._check(raw_maps, input_size, content_sizes)
        tensors = [
            self._tensors(raw_maps, i, input_size, size, stopwatch=stopwatch) for i, size in enumerate(content_sizes)
        ]
        with stage(stopwatch, "merging"):
            return [self.result(t) for t in tensors]  # the first transfer, after all work has been queued

    @torch.inference_mode()
    def explain(
        self, raw_maps: RawMaps, input_size: Size, content_size: Size | None = None
    ) -> tuple[PanopticResult, Dropped]:
        """Post-process one image and say what its result leaves out: why a class or an object is missing.

        Arguments and errors are those of a call, for one image.
        """
        content_size = input_size if content_size is None else content_size
        self._check(raw_maps, input_size, [content_size])
        maps = maps_of_image(raw_maps, 0, input_size, align_corners=self.align_corners)
        map_size, device = (maps.logits.shape[1], maps.logits.shape[2]), maps.logits.device
        grid = make_grid(map_size, input_size, content_size, align_corners=self.align_corners, device=device)
        tensors = self._tensors(raw_maps, 0, input_size, content_size)
        result = self.result(tensors)
        areas = tensors.table.areas
        if self.config.join_border_fraction is not None:  # a joined instance has no pixel left; see what it had
            apart = replace(self.config, join_border_fraction=None)
            areas = self._tensors(raw_maps, 0, input_size, content_size, config=apart).table.areas
        return result, find_dropped(maps, grid, tensors, result, self.config, areas_apart=areas)

    def _tensors(
        self,
        raw_maps: RawMaps,
        index: int,
        input_size: Size,
        size: Size,
        *,
        config: PostprocessConfig | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> PanopticTensors:
        return panoptic_tensors(
            raw_maps,
            index,
            input_size,
            size,
            thing_mask=torch.from_numpy(self.categories.thing_mask).to(raw_maps.semantic_logits.device),
            config=self.config if config is None else config,
            align_corners=self.align_corners,
            stopwatch=stopwatch,
        )

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
        return PanopticResult(
            panoptic_map=tensors.panoptic_map.cpu().numpy(),
            segments_info=segments_of(tensors.table, tensors.scores, self.categories, self.config),
            categories=self.categories,
            semantic_map=tensors.semantic_map.cpu().numpy(),
        )


def segments_of(
    table: SegmentTable, scores: Float32[Tensor, " S"], categories: CategoryTable, config: PostprocessConfig
) -> list[Segment]:
    """The rows of a table that are segments, by rising ids, from whichever device they are on."""
    ids, train_ids, areas, boxes, scores_ = (column.cpu().numpy() for column in (*table, scores))
    segments = []
    for slot in np.flatnonzero(ids != VOID_ID):  # ids ascend with the slots
        category, box = categories[int(train_ids[slot])], boxes[slot].tolist()
        shown = predicted_scores(float(scores_[slot]), isthing=category.isthing, calibration=config.score_calibration)
        segments.append(Segment.of(category, int(ids[slot]), int(areas[slot]), box, **shown))
    return segments
