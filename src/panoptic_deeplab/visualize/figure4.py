"""All steps from the image to the panoptic result side by side, as in Figure 4 of the paper."""

import numpy as np
from jaxtyping import Float
from PIL import Image

from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_instances, draw_offset, offset_key, thing_pixels
from panoptic_deeplab.visualize.mosaic import tile

_COLUMNS = (
    "input",
    "semantic segmentation",
    "center heatmap",
    "offset to the center (things)",
    "class-agnostic instances",
    "panoptic segmentation",
)


def draw_figure4(
    image: ImageLike,
    result: PanopticResult,
    *,
    center_heatmap: Float[np.ndarray, "H W"],
    offset: Float[np.ndarray, "2 H W"],
    title: str = "",
    cell_width: int = 420,
) -> Image.Image:
    """Draw six pictures: input, semantic, heatmap, offsets, instances without their class, panoptic.

    Args:
        image: as for `read_image`.
        result: has the size of the image.
        center_heatmap: has the size of the image; about 1 at centers.
        offset: `(dy, dx)` in pixels of the image, painted where the semantic segmentation says thing, in the color
            wheel of `draw_offset`.
        title: a line above the pictures.
        cell_width: width of each picture in pixels; larger ones are reduced, smaller ones enlarged.
    """
    picture = Image.fromarray(read_image(image))
    semantic_map = result.train_id_map() if result.semantic_map is None else result.semantic_map
    panoptic = _reduced(picture, result, cell_width)
    pictures: list[Image.Image | None] = [
        picture,
        draw_semantic(semantic_map, result.categories),
        draw_heatmap(picture, center_heatmap),
        draw_offset(offset, mask=thing_pixels(result)),
        draw_instances(result),
        draw_panoptic(*panoptic, labels=False, min_width=cell_width),
    ]
    return tile([(title, pictures)], columns=_COLUMNS, cell_width=cell_width, legend=[offset_key()])


def _reduced(picture: Image.Image, result: PanopticResult, width: int) -> tuple[Image.Image, PanopticResult]:
    """Both at `width` where they are wider, so that lines drawn afterwards keep their width."""
    if picture.width <= width:
        return picture, result
    size = (max(1, round(picture.height * width / picture.width)), width)
    return picture.resize((size[1], size[0]), Image.Resampling.LANCZOS), result.resized(size)
