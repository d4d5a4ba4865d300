"""The three losses of Panoptic-DeepLab (section 4): `PanopticDeepLabLoss`.

    L = lambda_sem * weighted bootstrapped cross entropy      of `semantic_logits`
      + lambda_heatmap * mean squared error                   of `center_heatmap` (or sigmoid cross entropy, Table 1)
      + lambda_offset * mean absolute error                   of `offset`

All three compare *upsampled* maps with targets at the resolution of the network's input, in float32 whatever precision
the network ran in.

Each term is a sum over images or pixels divided by a number that depends on the targets only, a *normalizer*. Who
splits a batch over processes or passes sums the normalizers of all parts first and hands them to each part:
then the parts' losses add up to the loss of the whole batch. (DDP averages gradients over processes; multiply the loss
by the number of processes to get the sum.)

Dimension letters: `B` images, `C` classes, `H W` network input, `h w` stride 4, `P` pixels of an image.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.categories import IGNORE_INDEX
from panoptic_deeplab.config import LossConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps, Targets, size_of, upsample, upsample_offset


class LossTerms(NamedTuple):
    """Scalars with a graph; each already multiplied by its lambda."""

    total: Float[Tensor, ""]
    """The sum of the others: what to differentiate."""
    semantic: Float[Tensor, ""]
    center: Float[Tensor, ""]
    """0 for a semantic-only model."""
    offset: Float[Tensor, ""]
    """0 for a semantic-only model."""


class PanopticDeepLabLoss:
    """Section 4's loss, with the convention of upsampling of the model."""

    def __init__(self, config: LossConfig, *, align_corners: bool) -> None:
        self.config = config
        self.align_corners = align_corners

    def normalizers(self, targets: Targets) -> Float[Tensor, "3"]:
        """What the terms are divided by: images with a valid pixel, sum of `center_weight`, sum of `offset_weight`.

        Float64, so that counts of pixels can be summed over many parts of a batch without rounding.
        """
        valid_images = (targets.semantic != IGNORE_INDEX).flatten(1).any(dim=1).sum()
        weights = (targets.center_weight.sum(dtype=torch.float64), targets.offset_weight.sum(dtype=torch.float64))
        return torch.stack([valid_images.double(), *weights])

    def __call__(self, raw_maps: RawMaps, targets: Targets, normalizers: Float[Tensor, "3"] | None = None) -> LossTerms:
        """Compare predictions with targets.

        Args:
            raw_maps: network output, any floating dtype.
            targets: targets of the same images, with a batch dimension.
            normalizers: sum of `normalizers(...)` over all parts of the global batch; None = `targets` are all of it.

        Returns:
            The weighted terms. A term without a valid pixel is 0, with a graph (DDP expects every gradient).
        """
        if normalizers is None:
            normalizers = self.normalizers(targets)
        num_images, num_center_pixels, num_offset_pixels = normalizers.clamp(min=1).float().unbind()
        with torch.autocast(raw_maps.semantic_logits.device.type, enabled=False):
            semantic = self.config.semantic_lambda * self._cross_entropy(raw_maps.semantic_logits, targets) / num_images
            center = offset = torch.zeros_like(semantic)
            if raw_maps.center_heatmap is not None:
                error = self._heatmap_error(raw_maps.center_heatmap, targets)
                center = self.config.heatmap_lambda * error / num_center_pixels
            if raw_maps.offset is not None:
                error = self._absolute_error(raw_maps.offset, targets)
                offset = self.config.offset_lambda * error / num_offset_pixels
        return LossTerms(total=semantic + center + offset, semantic=semantic, center=center, offset=offset)

    def _cross_entropy(self, logits: Float[Tensor, "B C h w"], targets: Targets) -> Float[Tensor, ""]:
        """Sum over images of the mean weighted cross entropy of the hardest pixels ("bootstrapped")."""
        weights = targets.semantic_weight * self._class_weights(logits, targets)
        # One image at a time: C x H x W is by far the largest tensor of a training step. Class after class in memory,
        # since what follows works on rows of pixels.
        return torch.stack(
            [
                _bootstrapped_cross_entropy(
                    upsample(image_logits[None].float(), size_of(semantic), align_corners=self.align_corners)[0],
                    semantic,
                    weight,
                    fraction=self.config.top_k_fraction,
                )
                for image_logits, semantic, weight in zip(logits.contiguous(), targets.semantic, weights, strict=True)
            ]
        ).sum()

    def _class_weights(self, logits: Float[Tensor, "B C h w"], targets: Targets) -> Float[Tensor, "B H W"] | float:
        """`LossConfig.class_weights` at each pixel (whatever at void ones, which have no cross entropy)."""
        if self.config.class_weights is None:
            return 1.0
        num_classes = logits.shape[1]
        if len(self.config.class_weights) != num_classes:
            raise ConfigError(
                f"`loss.class_weights` must have one number for each of the model's {num_classes} classes."
                f" Got {len(self.config.class_weights)} instead."
            )
        table = logits.new_ones(IGNORE_INDEX + 1, dtype=torch.float32)
        table[:num_classes] = table.new_tensor(self.config.class_weights)
        return table[targets.semantic.int()]

    def _heatmap_error(self, heatmap: Float[Tensor, "B 1 h w"], targets: Targets) -> Float[Tensor, ""]:
        """Squared error, or the cross entropy of the probability and the Gaussian, summed over pixels."""
        size = size_of(targets.center_heatmap)
        predicted = upsample(heatmap.float(), size, align_corners=self.align_corners)[:, 0]
        if self.config.heatmap_loss == "mse":
            error = (predicted - targets.center_heatmap).square()
        else:
            error = F.binary_cross_entropy(predicted.clamp(0, 1), targets.center_heatmap, reduction="none")
        return (targets.center_weight * error).sum()

    def _absolute_error(self, offset: Float[Tensor, "B 2 h w"], targets: Targets) -> Float[Tensor, ""]:
        """Mean over dy and dx, summed over pixels; in pixels of the network's input.

        Public implementations disagree: some take the sum of dy and dx, which doubles the loss.
        """
        size = size_of(targets.offset)
        predicted = upsample_offset(offset.float(), size, align_corners=self.align_corners)
        return (targets.offset_weight * (predicted - targets.offset).abs().mean(dim=1)).sum()


def _bootstrapped_cross_entropy(
    logits: Float[Tensor, "C H W"], semantic: UInt8[Tensor, "H W"], weight: Float[Tensor, "H W"], *, fraction: float
) -> Float[Tensor, ""]:
    """Mean weighted cross entropy of the hardest `fraction` of the valid pixels of one image; 0 if none is valid.

    The weight counts before the choice of the hardest, as in the public implementations. Only the chosen pixels enter
    the graph, so what is kept for the backward pass is that fraction of the full-resolution map.
    """
    logits, labels, weight = logits.flatten(1), semantic.flatten().long(), weight.flatten()
    valid = labels != IGNORE_INDEX
    if fraction == 1:  # void pixels have no cross entropy
        return (_pixel_cross_entropy(logits, labels) * weight).sum() / valid.sum().clamp(min=1)
    # The number of valid pixels stays on the device: `topk` takes the number for a fully valid image, which is known
    # without waiting for the device, and those beyond the real number are masked.
    most = max(1, round(fraction * len(labels)))
    hard_count = (fraction * valid.sum(dtype=torch.float64)).round().clamp(min=1)

    with torch.no_grad():
        hardness = _pixel_cross_entropy(logits, labels) * weight
        hardest = hardness.masked_fill(~valid, -1).topk(most).indices  # sorted, so void pixels come last
        # Back to the order of memory: selecting and its gradient are several times faster.
        hardest, rank = hardest.sort()
        chosen_weight = weight[hardest] * (valid[hardest] & (rank < hard_count))
    cross_entropy = _pixel_cross_entropy(logits.index_select(1, hardest), labels[hardest])
    return (cross_entropy * chosen_weight).sum() / hard_count.float()


def _pixel_cross_entropy(logits: Float[Tensor, "C P"], labels: Int64[Tensor, " P"]) -> Float[Tensor, " P"]:
    return F.cross_entropy(logits[None], labels[None], ignore_index=IGNORE_INDEX, reduction="none")[0]
