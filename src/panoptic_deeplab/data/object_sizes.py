"""Sizes and distances of what is labeled, from which settings follow: `Measures`, filled image by image.

Lengths are in pixels of the images as they lie on disk. The *size* of an object is the square root of its area.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int32

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.data.levels import Levels
from panoptic_deeplab.data.sample import PanopticSource, Sample
from panoptic_deeplab.images.intensity import chosen_channels
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, VOID_ID
from panoptic_deeplab.results.panoptic_result import Segment
from panoptic_deeplab.results.run_lengths import find_runs

_SURE = 3.0
"""A difference between upper and lower halves counts where it is so many times its standard error."""
_FEWEST_TO_COMPARE = 30
_IDS = MAX_SEGMENT_ID + 1


@dataclass(kw_only=True)
class Measures:
    """What is known of the labeled images that `add` has seen."""

    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    """`(height, width)` of each image."""
    object_sizes: list[Float64[np.ndarray, "_"]] = field(default_factory=list)
    """Sizes of the objects of each image: things, without crowd."""
    distances: list[Float64[np.ndarray, "_"]] = field(default_factory=list)
    """How far the center of each object is from the next one, image by image: the larger of both axes, as windows of
    non-maximum suppression are square. An object that is alone has the longest side of the image."""
    border_fractions: list[Float64[np.ndarray, "_"]] = field(default_factory=list)
    """The largest part that a border of each object with one of its class is of the shorter outline of both, image by
    image; 0 of an object that touches none. Borders are counted as `postprocess/joining.py` does."""
    stuff_areas: list[list[int]] = field(default_factory=list)
    """Pixels of each stuff class that an image shows, image by image."""
    most_of_a_class: int = 0
    """Largest number of objects of one class in an image."""
    seen: set[str] = field(default_factory=set)
    """Names of all classes that occur."""
    levels: Levels = field(default_factory=lambda: Levels(InputConfig().percentiles))
    """Where the numbers of the images lie."""
    channels: tuple[int, int, int] | None = None
    """Those that count for `levels`, as `input.channels`."""
    _halves: list[dict[str, float]] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Measure an image; one without labels is left out."""
        if sample.panoptic_map is None:
            return
        things = [s for s in sample.segments_info if s.isthing and not s.iscrowd]
        centers = np.array([(s.bbox[1] + s.bbox[3] / 2, s.bbox[0] + s.bbox[2] / 2) for s in things]).reshape(-1, 2)
        self.image_sizes.append(sample.size)
        self.object_sizes.append(np.sqrt([s.area for s in things]).astype(np.float64))
        self.distances.append(_to_the_next(centers, otherwise=max(sample.size)))
        self.border_fractions.append(_border_fractions(sample.panoptic_map, things))
        self.stuff_areas.append([s.area for s in sample.segments_info if not s.isthing])
        self.most_of_a_class = max([self.most_of_a_class, *Counter(s.name for s in things).values()])
        self.seen |= {s.name for s in sample.segments_info}
        if self.channels is not None:
            if max(self.channels) < sample.pixels.shape[2]:
                self.levels.add(chosen_channels(sample.pixels, self.channels))
        elif not sample.has_channels:  # else nobody has said which ones are meant
            self.levels.add(sample.pixels[..., :3])
        self._halves.append(_differences(sample))

    @property
    def most_objects(self) -> int:
        """Largest number of objects in one image."""
        return max((len(sizes) for sizes in self.object_sizes), default=0)

    def has_no_up(self) -> bool:
        """Whether nothing tells the upper half of the images from the lower one, neither brightness nor a class.

        So it is in microscopy and aerial images. False where there are too few images to know.
        """
        count = len(self._halves)
        if count < _FEWEST_TO_COMPARE:
            return False
        for name in {name for image in self._halves for name in image}:
            values = np.array([image.get(name, 0.0) for image in self._halves])
            if abs(values.mean()) > _SURE * values.std() / np.sqrt(count):
                return False
        return True


def measured(source: PanopticSource, progress: Callable[[int, int], None] | None = None) -> Measures:
    """Measure all labels of a source.

    Args:
        source: the set.
        progress: called with (images done, images to do).

    Raises:
        DatasetError: an image cannot be read.
    """
    measures, count = Measures(), len(source)
    for index in range(count):
        measures.add(source[index])
        if progress is not None:
            progress(index + 1, count)
    return measures


def _to_the_next(centers: Float64[np.ndarray, "N 2"], *, otherwise: float) -> Float64[np.ndarray, " N"]:
    if len(centers) < 2:
        return np.full(len(centers), float(otherwise))
    between = np.abs(centers[:, None] - centers[None]).max(axis=-1)
    np.fill_diagonal(between, np.inf)
    nearest: Float64[np.ndarray, " N"] = between.min(axis=1)
    return nearest


def _border_fractions(panoptic_map: Int32[np.ndarray, "H W"], things: Sequence[Segment]) -> Float64[np.ndarray, " N"]:
    one = np.concatenate([panoptic_map[:-1].ravel(), panoptic_map[:, :-1].ravel()])
    other = np.concatenate([panoptic_map[1:].ravel(), panoptic_map[:, 1:].ravel()])
    is_edge = one != other
    one, other = one[is_edge].astype(np.int64), other[is_edge].astype(np.int64)
    keys, edges = np.unique(np.minimum(one, other) * _IDS + np.maximum(one, other), return_counts=True)
    pairs = np.stack(np.divmod(keys, _IDS))
    outline: Counter[int] = Counter()
    for segment_id, length in zip(pairs.ravel().tolist(), np.tile(edges, 2).tolist(), strict=True):
        outline[segment_id] += length
    longest = dict.fromkeys((s.id for s in things), 0.0)
    category_of = {s.id: s.category_id for s in things}
    for first, second, length in zip(*pairs.tolist(), edges.tolist(), strict=True):
        if first in longest and category_of[first] == category_of.get(second):
            fraction = length / min(outline[first], outline[second])
            longest[first], longest[second] = max(longest[first], fraction), max(longest[second], fraction)
    return np.array(list(longest.values()), np.float64)


def _differences(sample: Sample) -> dict[str, float]:
    """Upper half minus lower half of the image: brightness in 0..1, and the share of the pixels of each class."""
    assert sample.panoptic_map is not None
    half = sample.size[0] // 2
    upper, lower = slice(0, half), slice(-half, None)
    found = {"": float(sample.image[upper].mean() - sample.image[lower].mean()) / 255 if half else 0.0}
    name_of = {VOID_ID: "void"} | {s.id: s.name for s in sample.segments_info}
    for rows, sign in ((upper, 1), (lower, -1)):
        part = sample.panoptic_map[rows]
        runs = find_runs(part)
        for segment_id, pixels in zip(runs.of(part).tolist(), runs.lengths.tolist(), strict=True):
            name = name_of[segment_id]
            found[name] = found.get(name, 0.0) + sign * pixels / part.size
    return found
