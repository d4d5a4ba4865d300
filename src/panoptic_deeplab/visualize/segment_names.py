"""Names of segments in a picture, where they hide no object.

A name is written into its segment where it covers a small part of it, else beside the object on what is no object, else
not at all. Names that tell nothing are left out: of things where there is one thing class only, of stuff likewise, and
of a class with a crowd of instances.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageDraw

from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.visualize.colors import Color, describe, readable_on
from panoptic_deeplab.visualize.text import Text

_LABEL_AREA = 0.005
"""Segments below this fraction of the image get no name."""

_MOST_COVERED = 0.25
"""Part of a segment that its name may cover."""

_CROWD = 20
"""A class with more instances gets no names."""

_SMALLEST = 9
"""Pixels of the smallest font."""


def write_labels(drawing: Image.Image, result: PanopticResult, colors: UInt8[np.ndarray, "N 3"]) -> None:
    """Write name and score of segments, the largest first, things before stuff.

    Args:
        drawing: has the size of the result; is drawn on.
        result: truth or prediction.
        colors: background of each name, in the order of `segments_info`.
    """
    height, width = result.size
    sizes = (max(_SMALLEST, round(min(height, width) / 40)), max(_SMALLEST, round(min(height, width) / 60)))
    canvas = ImageDraw.Draw(drawing)
    is_thing = np.array([False, *(s.isthing for s in result.segments_info)])
    things = _sums(is_thing.take(result.segment_index()))
    taken: list[_Box] = []
    telling = _telling(result)
    numbered = sorted(enumerate(result.segments_info), key=lambda pair: (not pair[1].isthing, -pair[1].area))
    for number, segment in numbered:
        if segment.category_id not in telling or segment.area < _LABEL_AREA * height * width:
            continue
        red, green, blue = colors[number].tolist()
        color: Color = (red, green, blue)
        texts = [Text(describe(segment), sizes[0]), Text(describe(segment), sizes[1]), Text(segment.name, sizes[1])]
        box, text = _place(segment, result, things, texts, taken)
        if box is not None:
            taken.append(box)
            canvas.rounded_rectangle((box.left, box.top, box.right - 1, box.bottom - 1), radius=3, fill=color)
            text.draw(canvas, box.left + 3, box.top + 1, readable_on(color))


class _Box(NamedTuple):
    """Without the pixels at `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: "_Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def _telling(result: PanopticResult) -> set[int]:
    """Categories whose names tell something."""
    kinds = Counter(category.isthing for category in result.categories.categories)
    instances = Counter(segment.category_id for segment in result.segments_info)
    return {c.id for c in result.categories.categories if kinds[c.isthing] > 1 and instances[c.id] <= _CROWD}


def _place(
    segment: Segment, result: PanopticResult, things: Int64[np.ndarray, "H1 W1"], texts: list[Text], taken: list[_Box]
) -> tuple[_Box | None, Text]:
    """The first text that fits inside, or else beside; no box if none fits."""
    for find in (_inside, _beside):
        for text in texts:
            box = find(segment, result, things, (text.height + 2, text.width + 6), taken)
            if box is not None:
                return box, text
    return None, texts[-1]


def _inside(
    segment: Segment,
    result: PanopticResult,
    things: Int64[np.ndarray, "H1 W1"],
    size: tuple[int, int],
    taken: list[_Box],
) -> _Box | None:
    """The place in the segment that is nearest to the middle of its box."""
    x0, y0, box_width, box_height = segment.bbox
    height, width = size
    if height > box_height or width > box_width or height * width > _MOST_COVERED * segment.area:
        return None
    sums = _sums(result.panoptic_map[y0 : y0 + box_height, x0 : x0 + box_width] == segment.id)
    is_free = _windows(sums, size) == height * width
    for box in taken:
        is_free[
            max(0, box.top - y0 - height + 1) : max(0, box.bottom - y0),
            max(0, box.left - x0 - width + 1) : max(0, box.right - x0),
        ] = False
    if not is_free.any():
        return None
    y, x = np.nonzero(is_free)
    far = np.abs(2 * y + height - box_height) / box_height + np.abs(2 * x + width - box_width) / box_width
    best = int(far.argmin())
    left, top = x0 + int(x[best]), y0 + int(y[best])
    return _Box(left, top, left + width, top + height)


def _beside(
    segment: Segment,
    result: PanopticResult,
    things: Int64[np.ndarray, "H1 W1"],
    size: tuple[int, int],
    taken: list[_Box],
) -> _Box | None:
    """Above, below, to the right or left of an object, where no object is; stuff has no beside."""
    x0, y0, box_width, box_height = segment.bbox
    height, width = size
    middle_x, middle_y = x0 + (box_width - width) // 2, y0 + (box_height - height) // 2
    places = [(x, y) for y in (y0 - height - 1, y0 + box_height + 1) for x in (middle_x, x0, x0 + box_width - width)]
    places += [(x, y) for x in (x0 + box_width + 1, x0 - width - 1) for y in (middle_y, y0, y0 + box_height - height)]
    for left, top in places if segment.isthing else ():
        box = _Box(left, top, left + width, top + height)
        if left < 0 or top < 0 or box.right > result.size[1] or box.bottom > result.size[0]:
            continue
        covered = things[box.bottom, box.right] - things[top, box.right] - things[box.bottom, left] + things[top, left]
        if not covered and not any(box.overlaps(other) for other in taken):
            return box
    return None


def _sums(mask: Bool[np.ndarray, "H W"]) -> Int64[np.ndarray, "H1 W1"]:
    """How many pixels are above and to the left of each corner of pixels."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    mask.cumsum(0, np.int64).cumsum(1, out=sums[1:, 1:])
    return sums


def _windows(sums: Int64[np.ndarray, "H1 W1"], size: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
    """The number of pixels in each window of a size."""
    height, width = size
    counts: Int64[np.ndarray, "h w"] = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    )
    return counts
