"""What post-processing left out of a result, and by which setting: `predict --explain` and `PanopticPredictor.explain`.

Found on request, at no cost otherwise.

A pixel of the argmax that is void in the result is stuff below `stuff_area_limit`, of an instance below
`instance_area_limit`, or a thing of an image without a center. A thing pixel can also lie in an instance whose majority
is of another class. A peak of the heatmap is no instance when it is at or below `center_threshold`, when `top_k`
stronger ones exist, when no thing pixel points to it, or when its instance was joined to that of a stronger one.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import Size
from panoptic_deeplab.postprocess.centers import find_peaks
from panoptic_deeplab.postprocess.merging import PanopticTensors
from panoptic_deeplab.postprocess.pixels import Grid, ImageMaps, resize
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

_MOST_LISTED = 10
"""Peaks that are listed; more are counted."""

_WEAK = 0.5
"""Peaks count as nearly a center from this share of `center_threshold` on; below lies noise without end."""


@dataclass(frozen=True, kw_only=True)
class DroppedClass:
    """Pixels of a class that the result does not show as such."""

    category_id: int
    name: str
    area: int
    """Pixels of the network input."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A local maximum of the center heatmap."""

    y: int
    """Row, in pixels of the network input."""
    x: int
    """Column."""
    score: float
    """Heatmap value."""


@dataclass(frozen=True, kw_only=True)
class DroppedPeaks:
    """Peaks that are no instance."""

    count: int
    strongest: tuple[Peak, ...]
    """The first ten of them."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What is missing from the result of an image. Areas and places are in pixels of `size`, like the settings."""

    size: Size
    """`(height, width)` of the image in the network input, without padding."""
    settings: PostprocessConfig
    """The limits."""
    small_stuff: tuple[DroppedClass, ...]
    """Stuff with fewer pixels than `stuff_area_limit`: void in the result."""
    small_instances: tuple[DroppedClass, ...]
    """Things in instances with fewer pixels than `instance_area_limit`: void in the result."""
    without_center: tuple[DroppedClass, ...]
    """Things of an image without a center: void in the result."""
    outvoted: tuple[DroppedClass, ...]
    """Things inside of instances that most pixels gave another class."""
    weak_centers: DroppedPeaks
    """Peaks at or below `center_threshold` and above half of it."""
    centers_beyond_top_k: DroppedPeaks
    """Peaks above the threshold that are weaker than the `top_k` strongest."""
    empty_centers: DroppedPeaks
    """Centers that are not the nearest of any thing pixel."""
    joined_centers: DroppedPeaks
    """Centers whose instance became a part of that of a stronger one, by `join_border_fraction`."""
    lost_in_resizing: tuple[Segment, ...] = ()
    """Segments that have no pixel at the size of the original image, described at `size`."""

    def after_resizing(self, before: PanopticResult, after: PanopticResult) -> "Dropped":
        """Add what was lost on the way from the result at `size` to another size."""
        kept = {segment.id for segment in after.segments_info}
        return replace(self, lost_in_resizing=tuple(s for s in before.segments_info if s.id not in kept))

    def lines(self) -> list[str]:
        """Say it in words, a line for each kind of loss that there is; an empty list where nothing is missing."""
        settings = self.settings
        told = [
            (f"stuff classes below stuff_area_limit {settings.stuff_area_limit}", _areas(self.small_stuff)),
            (
                f"things in instances below instance_area_limit {settings.instance_area_limit}",
                _areas(self.small_instances),
            ),
            ("thing pixels in an image without a center", _areas(self.without_center)),
            ("thing pixels outvoted inside of instances of another class", _areas(self.outvoted)),
            (f"peaks at or below center_threshold {settings.center_threshold:g}", _peaks(self.weak_centers)),
            (f"centers beyond top_k {settings.top_k}", _peaks(self.centers_beyond_top_k)),
            ("centers to which no thing pixel belongs", _peaks(self.empty_centers)),
            (
                f"centers joined to a stronger one by join_border_fraction {settings.join_border_fraction}",
                _peaks(self.joined_centers),
            ),
            (
                "segments without a pixel at the size of the image",
                ", ".join(f"{segment.name} {segment.area}" for segment in self.lost_in_resizing),
            ),
        ]
        return [f"{what}: {which}" for what, which in told if which]


def find_dropped(
    maps: ImageMaps,
    grid: Grid,
    tensors: PanopticTensors,
    result: PanopticResult,
    config: PostprocessConfig,
    *,
    areas_apart: Int64[Tensor, " S"],
) -> Dropped:
    """Compare what the maps of an image, on their grid, hold with what became of it.

    Args:
        maps: what the network gave.
        grid: where the pixels lie among their samples.
        tensors: the answer.
        result: the same, at the size of the grid.
        config: the limits.
        areas_apart: pixels of each slot before instances were joined.
    """
    categories, semantic_map = result.categories, result.semantic_map
    assert semantic_map is not None
    merged = result.train_id_map()
    is_void = result.panoptic_map == VOID_ID
    num_classes = len(categories)
    void_areas = np.bincount(semantic_map[is_void], minlength=num_classes)
    outvoted = np.bincount(semantic_map[~is_void & (semantic_map != merged)], minlength=num_classes)
    has_centers = bool((tensors.table.areas[: len(tensors.table.areas) - num_classes] > 0).any())
    void_things = np.where(categories.thing_mask, void_areas, 0)  # one center takes every thing pixel of the image
    weak, beyond, empty, joined = _dropped_peaks(maps, grid, tensors, config, areas_apart)
    return Dropped(
        size=result.size,
        settings=config,
        small_stuff=_dropped_classes(np.where(categories.thing_mask, 0, void_areas), categories),
        small_instances=_dropped_classes(void_things if has_centers else 0 * void_things, categories),
        without_center=_dropped_classes(0 * void_things if has_centers else void_things, categories),
        outvoted=_dropped_classes(outvoted, categories),
        weak_centers=weak,
        centers_beyond_top_k=beyond,
        empty_centers=empty,
        joined_centers=joined,
    )


def _dropped_peaks(
    maps: ImageMaps, grid: Grid, tensors: PanopticTensors, config: PostprocessConfig, areas_apart: Int64[Tensor, " S"]
) -> tuple[DroppedPeaks, DroppedPeaks, DroppedPeaks, DroppedPeaks]:
    """Weak ones, those beyond the k-th, those without a pixel, those that were joined to another."""
    if maps.heatmap is None:
        nothing = DroppedPeaks(count=0, strongest=())
        return nothing, nothing, nothing, nothing
    heatmap = resize(maps.heatmap[None], grid)[0]
    threshold = config.center_threshold
    floor = min(threshold, _WEAK * threshold)  # the threshold itself if it is not positive
    strength, place = find_peaks(heatmap, threshold=floor, nms_kernel=config.nms_kernel)
    best, order = strength.sort(descending=True, stable=True)  # the order of the instances
    is_peak = best > -torch.inf
    count = int((best > threshold).sum())
    scores, places = best[is_peak].cpu().numpy(), place[order][is_peak].cpu().numpy()
    peaks = [
        Peak(y=place // grid.size[1], x=place % grid.size[1], score=score)
        for place, score in zip(places.tolist(), scores.tolist(), strict=True)
    ]
    areas, before = (column[: config.top_k].tolist() for column in (tensors.table.areas, areas_apart))
    centers = list(zip(peaks[:count], areas, before, strict=False))
    empty = [peak for peak, _, before in centers if before == 0]
    joined = [peak for peak, area, before in centers if area == 0 and before > 0]
    return _listed(peaks[count:]), _listed(peaks[config.top_k : count]), _listed(empty), _listed(joined)


def _listed(peaks: list[Peak]) -> DroppedPeaks:
    return DroppedPeaks(count=len(peaks), strongest=tuple(peaks[:_MOST_LISTED]))


def _dropped_classes(areas: Int64[np.ndarray, " C"], categories: CategoryTable) -> tuple[DroppedClass, ...]:
    """The classes in the order of train ids."""
    return tuple(
        DroppedClass(category_id=categories[i].id, name=categories[i].name, area=int(areas[i]))
        for i in np.flatnonzero(areas).tolist()
    )


def _areas(classes: tuple[DroppedClass, ...]) -> str:
    return ", ".join(f"{dropped.name} {dropped.area}" for dropped in classes)


def _peaks(peaks: DroppedPeaks) -> str:
    if peaks.count == 0:
        return ""
    listed = ", ".join(f"{peak.score:.3g} at (y={peak.y}, x={peak.x})" for peak in peaks.strongest)
    return f"{peaks.count}, {listed}{' ...' if peaks.count > len(peaks.strongest) else ''}"
