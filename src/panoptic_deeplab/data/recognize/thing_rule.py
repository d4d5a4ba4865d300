"""Which classes are things, where a set does not say so: those of which an image has several compact objects.

Annotation tools draw a street and a car alike. What can be counted comes in several pieces an image, and each piece
fills its convex hull: windows do, vegetation and traffic lights with their wires do not, and of streets there is one.
The rule is a guess that a person reads, and overrules by naming the things.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np
from jaxtyping import Bool

from panoptic_deeplab.data.sample import PanopticSource, Sample

OBJECTS_AN_IMAGE = 1.5
CONVEXITY = 0.8
_PIXELS = 128
"""Shapes are looked at with so many pixels a side, about."""
RULE = (
    f"things are the classes of which an image that shows one has {OBJECTS_AN_IMAGE} objects or more on average, if"
    f" half of these fill {CONVEXITY:.0%} of their convex hull or more (holes count as filled)"
)


@dataclass(kw_only=True)
class Shapes:
    """What the objects of one class look like."""

    images: int = 0
    """Those that have one."""
    convexities: list[float] = field(default_factory=list)
    """The filled area over that of the convex hull, of each object."""

    @property
    def objects_an_image(self) -> float:
        """Mean over the images that have one; 0 where the class does not occur."""
        return len(self.convexities) / max(self.images, 1)

    @property
    def convexity(self) -> float:
        """Median over the objects, since other objects in front cut some; 0 where there is none."""
        return median(self.convexities or [0.0])

    @property
    def isthing(self) -> bool:
        """What the rule says."""
        return self.objects_an_image >= OBJECTS_AN_IMAGE and self.convexity >= CONVEXITY


def shapes_by_class(source: PanopticSource, progress: Callable[[int, int], None] | None = None) -> dict[str, Shapes]:
    """Look at every object of a source.

    Args:
        source: the set, read with a table in which every class is a thing, so that objects stay apart.
        progress: called with (images done, images to do).

    Returns:
        Shapes by the name of the class, in the order of the table.

    Raises:
        DatasetError: an image cannot be read.
    """
    shapes = {category.name: Shapes() for category in source.categories.categories}
    count = len(source)
    for index in range(count):
        sample = source[index]
        for name in {segment.name for segment in sample.segments_info if not segment.iscrowd}:
            shapes[name].images += 1
        for name, mask in _masks(sample):
            shapes[name].convexities.append(convexity(mask))
        if progress is not None:
            progress(index + 1, count)
    return shapes


def convexity(mask: Bool[np.ndarray, "h w"]) -> float:
    """Filled area over the area of the convex hull of the pixels (as squares), in (0, 1].

    Args:
        mask: an object, at least one pixel. What lies between two of its pixels in a row is filled, or in a column,
            whichever fills less.

    >>> convexity(np.ones((3, 5), np.bool_))
    1.0
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask.argmax(axis=1)[rows]
    last = mask.shape[1] - mask[:, ::-1].argmax(axis=1)[rows]
    columns = np.flatnonzero(mask.any(axis=0))
    top = mask.argmax(axis=0)[columns]
    bottom = mask.shape[0] - mask[::-1].argmax(axis=0)[columns]
    filled = min(int((last - first).sum()), int((bottom - top).sum()))
    corners = [(int(y) + d, int(x)) for y, *xs in zip(rows, first, last, strict=True) for d in (0, 1) for x in xs]
    return filled / _hull_area(sorted(set(corners)))


def _masks(sample: Sample) -> Iterator[tuple[str, Bool[np.ndarray, "h w"]]]:
    """Name of the class and mask, within its box, of each object."""
    assert sample.panoptic_map is not None
    for segment in sample.segments_info:
        if not segment.iscrowd:
            x, y, width, height = (int(v) for v in segment.bbox)
            step = max(1, max(width, height) // _PIXELS)
            mask = sample.panoptic_map[y : y + height : step, x : x + width : step] == segment.id
            if mask.any():
                yield segment.name, mask


def _hull_area(points: list[tuple[int, int]]) -> float:
    """Area of the convex hull of sorted, different points (Andrew's monotone chain, shoelace formula)."""
    hull: list[tuple[int, int]] = []
    for part in (points, points[::-1]):
        start = len(hull)
        for y, x in part:
            while len(hull) >= start + 2:
                (y1, x1), (y2, x2) = hull[-2:]
                if (y2 - y1) * (x - x1) - (x2 - x1) * (y - y1) > 0:
                    break
                hull.pop()
            hull.append((y, x))
        hull.pop()
    return abs(sum(y1 * x2 - y2 * x1 for (y1, x1), (y2, x2) in pairwise([*hull, hull[0]]))) / 2
