"""The nearest center of each thing pixel, in operators that every runtime has.

The answer is that of `postprocess/grouping.py`: the argmin of the same float32 formula, ties to the lower center index.
The thing pixels are listed, and a loop takes so many at a time that their distances to all centers stay in the cache of
a processor: no array has K x H x W numbers, and the work is (thing pixels) x (centers that the images really have).

Dimension letters: `B` images, `H W` the image, `h w` the maps, `K` centers, `P` thing pixels of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from panoptic_deeplab.export.graph.centers import GraphCenters
from panoptic_deeplab.export.graph.upsampling import RowPositions, values_at

_PIXELS_AT_ONCE = 2048
"""Measured with 20 and 120 centers: 512 and 8192 are slower in ONNX Runtime."""


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


def nearest_graph_centers(
    things: ThingPixels, offset: Tensor, rows: RowPositions, centers: GraphCenters, *, otherwise: Tensor
) -> Tensor:
    """Assign the thing pixels of a batch.

    Args:
        things: the pixels.
        offset: `(B, 2, h, 4 w)` float32 `(dy, dx)` in pixels of the image, its columns upsampled.
        rows: where the image's rows lie in the map.
        centers: centers of each image.
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
    """`(P,)` int64: the center of the pixel's image that is nearest to the target; 0 where no image has one."""
    most = centers.valid.to(torch.int64).sum(dim=1).amax(dim=0)
    place = torch.arange(centers.valid.shape[1], device=image.device)
    used = (place < most.clamp(min=1)).nonzero()[:, 0]  # the best come first, padding last
    torch._check(used.shape[0] >= 1)
    center_y, center_x = centers.y.index_select(1, used), centers.x.index_select(1, used)
    count = torch.where(most > 0, torch.ones_like(image).sum(), 0)
    step = torch.arange(_PIXELS_AT_ONCE, device=image.device)

    def is_left(start: Tensor, nearest: Tensor) -> Tensor:
        return start < count

    def assign(start: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
        pixel = torch.minimum(start + step, count - 1)  # the last one again and again, at the end
        own = image.index_select(0, pixel)
        dy = target_y.index_select(0, pixel)[:, None] - center_y.index_select(0, own)
        dx = target_x.index_select(0, pixel)[:, None] - center_x.index_select(0, own)
        distance = dy * dy + dx * dx
        # of equal distances the first: the stronger center
        return start + _PIXELS_AT_ONCE, nearest.scatter(0, pixel, distance.argmin(dim=1))

    first = torch.zeros((), dtype=torch.int64, device=image.device)
    result: Any = while_loop(is_left, assign, (first, torch.zeros_like(image)))  # type: ignore[no-untyped-call]
    nearest: Tensor = result[1]
    return nearest
