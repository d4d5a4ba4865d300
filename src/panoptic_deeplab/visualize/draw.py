"""Overlays: a panoptic result painted over its image, and semantic maps."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from PIL import Image

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.results.ids import VOID_ID
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.colors import Color, class_colors, paint_segments, segment_colors
from panoptic_deeplab.visualize.segment_names import write_labels

_TALLEST = 8
"""Enlarged pictures are at most so many times as high as the width asked for."""


def draw_panoptic(
    image: ImageLike,
    result: PanopticResult,
    *,
    alpha: float = 0.55,
    labels: bool = True,
    min_score: float = 0.0,
    min_width: int | None = None,
    instance_colors: bool = True,
) -> Image.Image:
    """Paint a result over its image.

    Things have a color each, stuff the color of its class, void is left as it is; segments are separated by white
    lines, crowd regions hatched. Segments of at least 0.5 % of the image are labeled with name and score where that
    hides no object (`visualize/segment_names.py`).

    Args:
        image: as for `read_image`, of the size of the result.
        result: truth or prediction.
        alpha: 0 = only the image, 1 = only the colors.
        labels: write names.
        min_score: leave out what has a score below this.
        min_width: enlarge narrower images to so many pixels first (pixels stay square), so that there is room for lines
            and names.
        instance_colors: give each thing a color of its own; else it has that of its class, for the frames of a video.

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
    colors = segment_colors(result) if instance_colors else class_colors(result)
    if min_score > 0:
        kept = [segment.score is None or segment.score >= min_score for segment in result.segments_info]
        result, colors = _only(result, kept), colors[kept]
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
        write_labels(drawing, result, colors)
    return drawing


def draw_rims(drawing: Image.Image, result: PanopticResult, segment_ids: Collection[int], color: Color) -> None:
    """Mark segments by a thick rim along the inside of their outline.

    Args:
        drawing: RGB picture of the result, at its size or enlarged; is drawn on.
        result: truth or prediction.
        segment_ids: which ones.
        color: color of the rim.
    """
    if not segment_ids:
        return
    panoptic_map = result.resized((drawing.height, drawing.width)).panoptic_map
    marked = np.where(np.isin(panoptic_map, list(segment_ids)), panoptic_map, 0)
    reach = 2 * _line_width(panoptic_map.shape) + 1
    rim = np.zeros(marked.shape, bool)
    for axis in (0, 1):
        for step in (-reach, reach):
            rim |= np.roll(marked, step, axis) != marked
    drawing.paste(color, mask=Image.fromarray(rim & (marked != 0)))


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


def _only(result: PanopticResult, kept: list[bool]) -> PanopticResult:
    """A result without some segments, whose pixels are void."""
    ids = [segment.id if keep else VOID_ID for segment, keep in zip(result.segments_info, kept, strict=True)]
    segments = [segment for segment, keep in zip(result.segments_info, kept, strict=True) if keep]
    panoptic_map = np.array([VOID_ID, *ids], np.int32).take(result.segment_index())
    return replace(result, panoptic_map=panoptic_map, segments_info=segments)


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
