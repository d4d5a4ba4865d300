"""Many pictures on one page: image, truth, prediction and error side by side; and what the network is fed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.colors import Color
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic, enlarge
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_offset, offset_key
from panoptic_deeplab.visualize.text import Text

_GAP = 6
_PAGE_COLOR = (250, 250, 250)
_TEXT_COLOR = (30, 30, 30)
_TEXT_SIZE = 14

ERROR_COLORS = {
    "correct": (200, 214, 200),
    "wrong instance": (240, 160, 40),
    "wrong class": (214, 50, 50),
    "left void": (60, 90, 200),
    "not labeled": (0, 0, 0),
}
"""Legend of `draw_errors`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MosaicRow:
    """One image of a mosaic."""

    title: str
    image: ImageLike
    """It has the size of the results."""
    prediction: PanopticResult
    truth: PanopticResult | None = None
    """None where there are no labels."""


def draw_mosaic(rows: Sequence[MosaicRow], *, cell_width: int = 420) -> Image.Image:
    """A page with a row an image: image, truth, prediction, errors.

    Args:
        rows: at least one.
        cell_width: width of each picture in pixels; larger ones are reduced, smaller ones enlarged.
    """
    lines = []
    for row in rows:
        image = Image.fromarray(read_image(row.image))
        prediction = draw_panoptic(image, row.prediction, min_width=cell_width)
        if row.truth is None:
            pictures: list[Image.Image | None] = [image, None, prediction, None]
        else:
            truth = draw_panoptic(image, row.truth, min_width=cell_width)
            pictures = [image, truth, prediction, draw_errors(row.prediction, row.truth)]
        lines.append((row.title, pictures))
    legend: list[tuple[str, Color | Image.Image]] = list(ERROR_COLORS.items())
    return tile(lines, columns=("image", "truth", "prediction", "errors"), cell_width=cell_width, legend=legend)


def draw_errors(prediction: PanopticResult, truth: PanopticResult) -> Image.Image:
    """Where a prediction is wrong, in the colors of `ERROR_COLORS`.

    A thing's pixel is "wrong instance" where the class is right but the two segments do not match, that is, overlap
    with an IoU of at most 0.5 (the rule of PQ). Crowd regions count as right where the class is.

    Args:
        prediction: has the size and categories of `truth`.
        truth: labels.
    """
    height, width = truth.size
    true_classes, predicted_classes = truth.train_id_map(), prediction.train_id_map()
    true_index, predicted_index = truth.segment_index(where="The truth"), prediction.segment_index()
    shape = len(truth.segments_info) + 1, len(prediction.segments_info) + 1  # 0 is void
    codes = true_index * shape[1] + predicted_index
    pairs = np.bincount(codes.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    union = pairs.sum(1, keepdims=True) + pairs.sum(0) - pairs - pairs[:1]  # void of the truth counts for nobody
    matched = pairs > 0.5 * union
    forgiven = [segment.iscrowd or not segment.isthing for segment in truth.segments_info]
    matched[1:][np.array(forgiven, bool)] = True

    page = np.empty((height, width, 3), np.uint8)
    page[:] = ERROR_COLORS["correct"]
    page[~matched[true_index, predicted_index]] = ERROR_COLORS["wrong instance"]
    page[true_classes != predicted_classes] = ERROR_COLORS["wrong class"]
    page[predicted_classes == IGNORE_INDEX] = ERROR_COLORS["left void"]
    page[true_classes == IGNORE_INDEX] = ERROR_COLORS["not labeled"]
    return Image.fromarray(page)


def draw_train_batch(
    images: Float[Tensor, "B 3 H W"],
    targets: Targets,
    *,
    categories: CategoryTable,
    input_config: InputConfig,
    max_images: int = 6,
    cell_width: int = 360,
) -> Image.Image:
    """What the network is fed: image, semantic target, center heatmap and offsets of a training batch.

    Args:
        images: normalized, as they enter the network.
        targets: targets of the same batch.
        categories: classes of the semantic target.
        input_config: how the images were normalized.
        max_images: rows at most.
        cell_width: width of each picture in pixels.
    """
    mean, std = np.array(input_config.pixel_mean), np.array(input_config.pixel_std)
    lines = []
    for index in range(min(len(images), max_images)):
        colors = images[index].permute(1, 2, 0).float().cpu().numpy() * std + mean
        image: UInt8[np.ndarray, "H W 3"] = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
        semantic = draw_semantic(targets.semantic[index].cpu().numpy(), categories)
        heatmap = draw_heatmap(image, targets.center_heatmap[index].float().cpu().numpy())
        supervised = targets.offset_weight[index].cpu().numpy() > 0
        offset = draw_offset(targets.offset[index].float().cpu().numpy(), mask=supervised)
        pictures: list[Image.Image | None] = [Image.fromarray(image), semantic, heatmap, offset]
        lines.append((f"{index + 1} of {len(images)}", pictures))
    columns = ("image as fed", "semantic target (black: ignored)", "center heatmap", "offset (white: none)")
    return tile(lines, columns=columns, cell_width=cell_width, legend=[offset_key()])


def tile(
    lines: Sequence[tuple[str, Sequence[Image.Image | None]]],
    *,
    columns: Sequence[str],
    cell_width: int,
    legend: Sequence[tuple[str, Color | Image.Image]] = (),
) -> Image.Image:
    """Pictures in a grid with titles.

    Args:
        lines: title and one picture for each column (None = an empty cell).
        columns: titles.
        cell_width: pixels; heights follow from each picture.
        legend: names and colors, or small pictures, for the foot of the page.

    Raises:
        ValueError: there is nothing to show.
    """
    if not lines:
        raise ValueError("A mosaic needs at least one row of pictures. Got none.")
    line_height = 22
    scaled = [(title, [_fit(picture, cell_width) for picture in pictures]) for title, pictures in lines]
    heights = [max((p.height for p in pictures if p is not None), default=1) for _, pictures in scaled]
    page_width = len(columns) * (cell_width + _GAP) + _GAP
    foot = max((key.height + 4 if isinstance(key, Image.Image) else line_height for _, key in legend), default=0)
    page_height = line_height + sum(h + line_height + _GAP for h in heights) + foot
    page = Image.new("RGB", (page_width, page_height), _PAGE_COLOR)
    canvas = ImageDraw.Draw(page)
    lefts = [_GAP + column * (cell_width + _GAP) for column in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        Text(name, _TEXT_SIZE).draw(canvas, left, 2, _TEXT_COLOR)
    top = line_height
    for (title, pictures), height in zip(scaled, heights, strict=True):
        Text(title, _TEXT_SIZE).draw(canvas, _GAP, top, _TEXT_COLOR)
        for left, picture in zip(lefts, pictures, strict=True):
            if picture is not None:
                page.paste(picture, (left, top + line_height))
        top += line_height + height + _GAP
    left = _GAP
    for name, key in legend:
        if isinstance(key, Image.Image):
            page.paste(key, (left, top))
            left += key.width - 14
        else:
            canvas.rectangle((left, top + 3, left + 14, top + 17), fill=key, outline=_TEXT_COLOR)
        text = Text(name, _TEXT_SIZE)
        text.draw(canvas, left + 20, top + (foot - line_height) // 2, _TEXT_COLOR)
        left += 44 + text.width
    return page


def _fit(picture: Image.Image | None, width: int) -> Image.Image | None:
    if picture is None or picture.width <= width:
        return None if picture is None else enlarge(picture, width)
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)
