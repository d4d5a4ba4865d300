"""Multi-scale and left-right flip inference (section 4): predict several views of an image and average the maps.

    images ─┬─ resize to scale 2.0 ─┬─ as it is ──────── model ────────────┐
            │                       └─ mirror ────────── model ── mirror ──┴─ mean ─┐
            ├─ resize to scale 1.0 ─── ...                             mean, resize ┼─ mean ─▶ RawMaps
            └─ resize to scale 0.5 ─── ...                             mean, resize ┘

The paper does not say how views are fused. What is done here, and why:

 1. Views are made of the network's input, padding included: the corner pixels of all views show the same points (with
    aligned corners and sizes k * output_stride + 1), so their maps need no shift. A public version flips the padded
    image and cuts the padding off *before* it flips back, which cuts the wrong side.
 2. Sizes are rounded to what the network maps without a remainder; all later steps use the ratio of the actual sizes,
    of each axis by itself, never the nominal scale.
 3. Reduced images are low-pass filtered, as they are in training. (It hardly matters: PQ 65.8 with, 65.8 without on the
    scenes of point 6.)
 4. The window of the ASPP's image pool is scaled with the image, so that it shows the same part of the scene.
 5. Mean of the classes' probabilities, of the heatmaps and of the offsets (after the horizontal one changes its sign in
    mirrored views, and in pixels of one grid): see `fusion.py`.
 6. Maps meet on the grid of the largest scale, so no view loses detail: three of four pixels of a map at scale 2 would
    be dropped on the grid of scale 1. Post-processing takes maps of any resolution, with offsets in pixels of their own
    grid; these maps are small beside the activations of the network. On 24 validation scenes of the demo, five scales
    from 0.5 to 1.5 with flip gave PQ 65.8 on the largest grid and 65.0 on that of scale 1; plain inference gave 64.1.
 7. One view is returned as the model gives it, without softmax and logarithm: scale 1 without flip is plain inference,
    bit for bit.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.inference.fusion import Average, Estimate, mirrored, resized, to_estimate, to_raw_maps
from panoptic_deeplab.maps import RawMaps, Size, offset_scale, size_of, upsample
from panoptic_deeplab.model.aspp import ASPP


class AugmentedModel:
    """`images -> RawMaps` as the model itself, with the mean over all views of each image.

    Memory: the network at the largest scale, one view at a time, and four times its class scores. `model` takes images
    of any size that its output stride allows.
    """

    def __init__(
        self,
        model: Callable[[Tensor], RawMaps],
        config: TestTimeAugmentationConfig,
        *,
        output_stride: int,
        align_corners: bool,
    ) -> None:
        self.model = model
        self.config = config
        self.output_stride = output_stride
        self.align_corners = align_corners

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        """Predict all views of images that are normalized and padded, as the model takes them.

        The maps have the model's stride in the view of the largest scale, so a smaller one where there are scales
        above 1.
        """
        if not self.config.enabled:
            return self._predict(images, images)
        largest, *others = sorted(self.config.scales, reverse=True)
        if not others and not self.config.flip:
            return self._predict(self._view(images, largest), images)
        average = Average()
        average.add(self._at_scale(images, largest))
        size = average.size
        for scale in others:
            average.add(resized(self._at_scale(images, scale), size, align_corners=self.align_corners))
        return to_raw_maps(average.mean())

    def _at_scale(self, images: Tensor, scale: float) -> Estimate:
        """The mean of the image and its mirror image, which one is which does not matter to the last bit."""
        view = self._view(images, scale)
        average = Average()
        average.add(to_estimate(self._predict(view, images)))
        if self.config.flip:
            average.add(to_estimate(mirrored(self._predict(view.flip(-1), images))))
        return average.mean()

    def _view(self, images: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return images
        size = view_size(size_of(images), scale, output_stride=self.output_stride, align_corners=self.align_corners)
        return resize_images(images, size, align_corners=self.align_corners)

    def _predict(self, view: Tensor, images: Tensor) -> RawMaps:
        """Run the model on a view of `images`."""
        ratio = offset_scale(size_of(images), size_of(view), align_corners=self.align_corners)
        with _scaled_image_pools(self.model, ratio):
            return self.model(view.contiguous(memory_format=torch.channels_last))


def view_size(size: Size, scale: float, *, output_stride: int, align_corners: bool) -> Size:
    """The size nearest to `scale` times a size that a network of this stride maps without a remainder.

    >>> view_size((1025, 2049), 0.75, output_stride=16, align_corners=True)
    (769, 1537)
    >>> view_size((481, 641), 0.75, output_stride=16, align_corners=True)
    (369, 481)
    """
    extra = 1 if align_corners else 0
    steps = (max(1, math.floor((side - extra) * scale / output_stride + 0.5)) for side in size)
    height, width = (step * output_stride + extra for step in steps)
    return height, width


def resize_images(images: Float[Tensor, "B C H W"], size: Size, *, align_corners: bool) -> Float[Tensor, "B C H2 W2"]:
    """Resize bilinearly; where the size shrinks, over as many pixels as make up one of the new ones ("antialias").

    With aligned corners, PyTorch's own antialiasing is off by up to half a new pixel, so this has its own.
    """
    if not align_corners:
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    height, width = size_of(images)
    if size[0] < height:
        images = _reduction(height, size[0], images) @ images
    if size[1] < width:
        images = images @ _reduction(width, size[1], images).T
    return upsample(images, size, align_corners=True)


def _reduction(from_length: int, to_length: int, like: Tensor) -> Float[Tensor, "to_length from_length"]:
    """Weights of the old pixels in each new one: a triangle over two new pixels, its sum 1."""
    distance = (from_length - 1) / max(to_length - 1, 1)  # of new pixels, in old ones
    new = torch.arange(to_length, device=like.device, dtype=torch.float64) * distance
    old = torch.arange(from_length, device=like.device, dtype=torch.float64)
    weights = (1 - (old - new[:, None]).abs() / distance).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(like.dtype)


@contextmanager
def _scaled_image_pools(model: Callable[[Tensor], RawMaps], ratio: tuple[float, float]) -> Iterator[None]:
    """Within it, the image pools of the model average over windows that are larger by `ratio` (y, x).

    A model without such windows, and one that is no PyTorch module, stays as it is. One model cannot predict views of
    two sizes at once, in two threads: `PanopticPredictor` has a lock.
    """
    pools: list[ASPP] = []
    if ratio != (1, 1) and isinstance(model, nn.Module):
        pools = [module for module in model.modules() if isinstance(module, ASPP)]
    windows = [pool.pool_size for pool in pools]
    try:
        for pool, window in zip(pools, windows, strict=True):
            pool.pool_size = None if window is None else _scaled_window(window, ratio, pool.align_corners)
        yield
    finally:
        for pool, window in zip(pools, windows, strict=True):
            pool.pool_size = window


def _scaled_window(window: Size, ratio: tuple[float, float], align_corners: bool) -> Size:
    """The window for a resized view; of k pixels with aligned corners, the first and the last are k - 1 apart."""
    extra = 1 if align_corners else 0
    height, width = (
        max(1, round((length - extra) * factor) + extra) for length, factor in zip(window, ratio, strict=True)
    )
    return height, width
