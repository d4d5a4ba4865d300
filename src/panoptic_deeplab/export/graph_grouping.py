"""The nearest center of each thing pixel, in operators that every runtime has.

The answer is that of `postprocess/grouping.py`: the argmin of the same float32 formula, ties to the lower center index.
The thing pixels are listed, and a loop over the centers that the images really have keeps the best distance so far: no
array has K x H x W numbers, and the work is (thing pixels) x (centers), nothing where there are no things.

Dimension letters: `B` images, `H W` the image, `h w` the maps, `K` centers, `P` thing pixels of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from panoptic_deeplab.export.graph_centers import GraphCenters
from panoptic_deeplab.export.graph_upsampling import RowPositions, values_at


class ThingPixels(NamedTuple):
    """The pixels of a batch whose class is a thing; each `(P,)` int64."""

    image: Tensor
    y: Tensor
    x: Tensor
    place: Tensor
    """Index in the flattened maps of the batch."""


def list_things(is_thing: Tensor) -> ThingPixels:
    """The pixels that are True in `(B, H, W)`."""
    height, width = is_thing.shape[1:]
    image, y, x = is_thing.nonzero().unbind(dim=1)
    return ThingPixels(image=image, y=y, x=x, place=(image * height + y) * width + x)


def nearest_centers(
    things: ThingPixels, offset: Tensor, rows: RowPositions, centers: GraphCenters, *, otherwise: Tensor
) -> Tensor:
    """Assign the thing pixels of a batch.

    Args:
        things: the pixels.
        offset: `(B, 2, h, 4 w)` float32 `(dy, dx)` in pixels of the image, its columns upsampled.
        rows: of the image's rows.
        centers: of each image.
        otherwise: `(P,)` int64: where an image has no center.

    Returns:
        `(P,)` int64: index of the nearest center.
    """
    target_y, target_x = (
        values_at(offset, rows, things.image, channel, things.y, things.x) + position.to(torch.float32)
        for channel, position in enumerate((things.y, things.x))
    )
    nearest = _nearest(target_y, target_x, things.image, centers)
    has_center = centers.valid[:, 0].index_select(0, things.image)
    return torch.where(has_center, nearest, otherwise)


def _nearest(target_y: Tensor, target_x: Tensor, image: Tensor, centers: GraphCenters) -> Tensor:
    """`(P,)` int64: the center of the pixel's image that is nearest to the target."""
    most = centers.valid.to(torch.int64).sum(dim=1).amax(dim=0)

    def is_left(index: Tensor, best: Tensor, nearest: Tensor) -> Tensor:
        return index < most

    def compare(index: Tensor, best: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        center_y = centers.y.index_select(1, index.view(1))[:, 0]
        center_x = centers.x.index_select(1, index.view(1))[:, 0]
        dy, dx = target_y - center_y.index_select(0, image), target_x - center_x.index_select(0, image)
        distance = dy * dy + dx * dx
        closer = distance < best  # strictly: of equal distances the first, lower index stays
        return index + 1, torch.where(closer, distance, best), torch.where(closer, index, nearest)

    first = torch.zeros((), dtype=torch.int64, device=image.device)
    start = (first, torch.full_like(target_y, torch.inf), torch.zeros_like(image))
    result: Any = while_loop(is_left, compare, start)  # type: ignore[no-untyped-call]
    nearest: Tensor = result[2]
    return nearest
