"""Overlays: a panoptic result painted over its image, and semantic maps."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from PIL import Image, ImageDraw, ImageFont

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.errors import visible
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.visualize.colors import Color, describe, paint_segments, readable_on, segment_colors

_LABEL_AREA = 0.005
"""Segments below this fraction of the image get no label."""

_TALLEST = 8
"""Enlarged pictures are at most so many times as high as the width asked for."""


def draw_panoptic(
    image: ImageLike, result: PanopticResult, *, alpha: float = 0.55, labels: bool = True, min_width: int | None = None
) -> Image.Image:
    """Paint a result over its image.

    Things have a color each, stuff the color of its class, void is left as it is; segments are separated by white
    lines, crowd regions hatched. Segments of at least 0.5 % of the image are labeled with name and score.

    Args:
        image: as for `read_image`, of the size of the result.
        result: truth or prediction.
        alpha: 0 = only the image, 1 = only the colors.
        labels: write names.
        min_width: enlarge narrower images to so many pixels first (pixels stay square), so that there is room for lines
            and names.

    Returns:
        RGB picture of the size of the image, or larger.

    Raises:
        ImageError: the image cannot be read.
        ValueError: image and result differ in size, or `alpha` is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be between 0 and 1. Got {alpha} instead.")
    pixels = read_image(image)
    if pixels.shape[:2] != result.size:
        where = f" ({image})" if isinstance(image, (str, Path)) else ""
        raise ValueError(
            f"The image{where} has {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), the result"
            f" {result.size[0]} x {result.size[1]}. Pass the image that was predicted."
        )
    colors = segment_colors(result)
    if min_width is not None and min_width > pixels.shape[1]:
        pixels = np.asarray(enlarge(Image.fromarray(pixels), min_width))
        result = result.resized((pixels.shape[0], pixels.shape[1]))
    panoptic_map = result.panoptic_map
    opacity = np.where(panoptic_map == VOID_ID, 0.0, alpha)
    opacity[_hatching(result)] = alpha / 4
    painted = pixels + opacity[..., None] * (paint_segments(result, colors).astype(np.float64) - pixels)
    picture = np.rint(painted).astype(np.uint8)
    picture[_boundaries(panoptic_map)] = 255
    drawing = Image.fromarray(picture)
    if labels:
        _write_labels(drawing, result, colors)
    return drawing


def draw_semantic(semantic_map: UInt8[np.ndarray, "H W"], categories: CategoryTable) -> Image.Image:
    """Class colors of a map of train ids; void (255) is black."""
    table = np.zeros((IGNORE_INDEX + 1, 3), np.uint8)
    table[: len(categories)] = categories.colors
    return Image.fromarray(table[semantic_map])


def enlarge(picture: Image.Image, width: int) -> Image.Image:
    """A picture of the given width or its own, the larger of the two; pixels stay square.

    A narrow strip is made wider only as far as it stays below `_TALLEST` times that width, or a line of 3,000 pixels
    would become a picture of a billion.
    """
    width = min(width, _TALLEST * width * picture.width // picture.height)
    if picture.width >= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.NEAREST)


def spaced(text: str) -> str:
    """With two blanks between words: one of Pillow's font is hardly seen at the sizes of small pictures.

    A newline of a name would be drawn as one, over the picture, so `visible` comes first.
    """
    return visible(text).replace(" ", "  ")


def _line_width(size: tuple[int, int]) -> int:
    return max(1, round(min(size) / 400))


def _boundaries(panoptic_map: Int32[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels at a change of id: of the upper or left one of each pair, and more around them in large images."""
    height, width = panoptic_map.shape
    lines = np.zeros((height, width), bool)
    lines[:, :-1] |= panoptic_map[:, :-1] != panoptic_map[:, 1:]
    lines[:-1] |= panoptic_map[:-1] != panoptic_map[1:]
    for step in range(_line_width((height, width)) - 1):  # one pixel wider each time, on alternate sides
        wider = lines.copy()
        if step % 2 == 0:
            wider[1:] |= lines[:-1]
            wider[:, 1:] |= lines[:, :-1]
        else:
            wider[:-1] |= lines[1:]
            wider[:, :-1] |= lines[:, 1:]
        lines = wider
    return lines


def _hatching(result: PanopticResult) -> Bool[np.ndarray, "H W"]:
    """The light diagonal stripes in crowd regions."""
    crowd_ids = [s.id for s in result.segments_info if s.iscrowd]
    if not crowd_ids:
        return np.zeros(result.size, bool)
    height, width = result.size
    stripe = 4 * _line_width(result.size)
    diagonal = (np.arange(height)[:, None] + np.arange(width)) // stripe % 2 == 1
    stripes: Bool[np.ndarray, "H W"] = diagonal & np.isin(result.panoptic_map, crowd_ids)
    return stripes


class _Box(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: "_Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def _write_labels(drawing: Image.Image, result: PanopticResult, colors: UInt8[np.ndarray, "N 3"]) -> None:
    height, width = result.size
    font = ImageFont.load_default(size=max(10, round(min(height, width) / 36)))
    canvas = ImageDraw.Draw(drawing)
    taken: list[_Box] = []
    by_area = sorted(zip(result.segments_info, colors.tolist(), strict=True), key=lambda pair: -pair[0].area)
    for segment, rgb in by_area:
        if segment.area < _LABEL_AREA * height * width:
            continue
        color: Color = (rgb[0], rgb[1], rgb[2])
        text = spaced(describe(segment))
        text_width, text_height = (math.ceil(v) for v in canvas.textbbox((0, 0), text, font=font)[2:])
        y, x = _inner_point(result.panoptic_map, segment)
        box = _place(x, y, text_width + 8, text_height + 6, (width, height), taken)
        taken.append(box)
        canvas.rounded_rectangle(box, radius=3, fill=color)
        canvas.text((box.left + 4, box.top + 2), text, fill=readable_on(color), font=font)


def _inner_point(panoptic_map: Int32[np.ndarray, "H W"], segment: Segment) -> tuple[int, int]:
    """The pixel `(y, x)` of a segment with most of the segment around it; the mean may lie outside."""
    x0, y0, box_width, box_height = segment.bbox
    mask = panoptic_map[y0 : y0 + box_height, x0 : x0 + box_width] == segment.id
    reach = max(1, round(segment.area**0.5 / 3))
    sums = np.pad(mask, ((reach + 1, reach), (reach + 1, reach))).cumsum(0, np.int64).cumsum(1)  # box sums
    side = 2 * reach + 1
    around = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    # Of the many points with equal surroundings, the one nearest to the middle of the box.
    y_distance = np.abs(np.arange(box_height) - (box_height - 1) / 2)[:, None] / box_height
    x_distance = np.abs(np.arange(box_width) - (box_width - 1) / 2) / box_width
    worth = np.where(mask, around - 0.5 * (y_distance + x_distance), -1)
    y, x = np.unravel_index(int(worth.argmax()), mask.shape)
    return y0 + int(y), x0 + int(x)


def _place(x: int, y: int, box_width: int, box_height: int, page: tuple[int, int], taken: list[_Box]) -> _Box:
    """A label's box around a point, inside the picture; above or below it where another label is in the way."""
    left = min(max(x - box_width // 2, 0), max(page[0] - 1 - box_width, 0))
    lowest = max(page[1] - 1 - box_height, 0)
    tops = [min(max(y - box_height // 2 + shift * (box_height + 1), 0), lowest) for shift in (0, 1, -1, 2, -2, 3, -3)]
    boxes = [_Box(left, top, left + box_width, top + box_height) for top in tops]
    return next((box for box in boxes if not any(box.overlaps(other) for other in taken)), boxes[0])
