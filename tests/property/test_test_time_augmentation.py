"""What must hold of multi-scale and flip inference for every choice of scales, size and scene."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.inference.views import AugmentedModel, view_size
from panoptic_deeplab.maps import RawMaps

SCALES = st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]), min_size=1, max_size=4, unique=True)
FRACTION = st.floats(0.05, 0.95)
STRIDE = 16


class PerfectModel:
    """Exact maps of a scene with two objects, a left and a right one, of any size and mirrored or not.

    The first color of its images grows from left to right, which tells it whether they are mirrored.
    """

    def __init__(self, centers: Tensor, border: float, align_corners: bool) -> None:
        self.centers = centers  # (y, x) of both objects, as fractions of the image
        self.border = border
        self.align_corners = align_corners

    def __call__(self, images: Tensor) -> RawMaps:
        is_mirrored = images[0, 0, 0, 0] > images[0, 0, 0, -1]
        size = [(side - int(self.align_corners)) // 4 + int(self.align_corners) for side in images.shape[-2:]]
        y, x = torch.meshgrid(*(positions(length, self.align_corners) for length in size), indexing="ij")
        x = 1 - x if is_mirrored else x
        is_right = x > self.border
        center = torch.where(is_right, self.centers[1].view(2, 1, 1), self.centers[0].view(2, 1, 1))
        offset = center - torch.stack([y, x])
        heatmap = (-(offset.square().sum(0)) / 0.02).exp()
        offset = offset * torch.tensor([length - int(self.align_corners) for length in size]).view(2, 1, 1)
        if is_mirrored:
            offset[1] = -offset[1]
        logits = torch.stack([~is_right, is_right]).float() * 8
        return RawMaps(logits[None], heatmap[None, None], offset[None])


def positions(length: int, align_corners: bool) -> Tensor:
    """Places of the pixels along an axis, as fractions of the image."""
    index = torch.arange(length, dtype=torch.float32)
    return index / (length - 1) if align_corners else (index + 0.5) / length


def augmented(model, scales, flip, align_corners=True) -> AugmentedModel:
    config = TestTimeAugmentationConfig(scales=tuple(scales), flip=flip)
    return AugmentedModel(model, config, output_stride=STRIDE, align_corners=align_corners)


@settings(max_examples=60, derandomize=True)
@given(
    steps=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    scales=SCALES,
    flip=st.booleans(),
    align_corners=st.booleans(),
    fractions=st.tuples(FRACTION, FRACTION, FRACTION, FRACTION),
    border=st.floats(0.2, 0.8),
)
def test_offsets_point_to_the_same_centers_after_fusion(steps, scales, flip, align_corners, fractions, border):
    height, width = (step * STRIDE + int(align_corners) for step in steps)
    images = torch.linspace(0, 1, width).expand(1, 3, height, width)
    centers = torch.tensor(fractions).view(2, 2)
    model = augmented(PerfectModel(centers, border, align_corners), scales, flip, align_corners)
    logits, heatmap, offset = model(images)

    size = offset.shape[-2:]
    y, x = (positions(length, align_corners) for length in size)
    # Where the coarsest view has no neighbor beyond the border of an object, or beyond that of the image, where a grid
    # of pixel areas has no value to interpolate with.
    smallest = view_size((height, width), min(scales), output_stride=STRIDE, align_corners=align_corners)
    coarse = [4.1 / (side - int(align_corners)) for side in smallest]
    inside_y = (y > coarse[0]) & (y < 1 - coarse[0]) | align_corners
    inside_x = ((x > coarse[1]) & (x < 1 - coarse[1]) | align_corners) & ((x - border).abs() > 2 * coarse[1])
    inside = inside_y[:, None] & inside_x

    is_right = (x > border).expand(size)
    center = torch.where(is_right, centers[1].view(2, 1, 1), centers[0].view(2, 1, 1))
    pixels = torch.tensor([length - int(align_corners) for length in size]).view(2, 1, 1)
    reached = torch.stack(torch.meshgrid(y, x, indexing="ij")) + offset[0] / pixels
    error = ((reached - center).abs() * pixels)[:, inside]
    assert error.numel() == 0 or error.max() < 1e-2
    assert torch.equal(logits[0].argmax(0)[inside], is_right.long()[inside])
    assert heatmap.min() >= 0
    assert heatmap.max() <= 1


@settings(max_examples=30, derandomize=True)
@given(
    steps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    scales=SCALES,
    align_corners=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fusion_of_a_mirrored_image_is_the_mirrored_fusion(steps, scales, align_corners, seed):
    generator = torch.Generator().manual_seed(seed)
    convolution = nn.Conv2d(3, 6, 5, stride=4, padding=2).requires_grad_(False)
    for parameter in convolution.parameters():
        parameter.normal_(generator=generator)

    def model(images: Tensor) -> RawMaps:
        return RawMaps(*convolution(images).split([3, 1, 2], dim=1))

    height, width = (step * STRIDE + int(align_corners) for step in steps)
    images = torch.randn(2, 3, height, width, generator=generator)
    fuse = augmented(model, scales, flip=True, align_corners=align_corners)
    logits, heatmap, offset = (fused.flip(-1) for fused in fuse(images))
    expected = RawMaps(logits, heatmap, torch.stack([offset[:, 0], -offset[:, 1]], dim=1))  # only dx changes its sign
    for ours, theirs in zip(fuse(images.flip(-1)), expected, strict=True):
        if scales == [1.0]:
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@settings(max_examples=10, derandomize=True)
@given(scales=SCALES, flip=st.booleans())
def test_the_order_of_the_scales_does_not_matter(scales, flip):
    model = PerfectModel(torch.tensor([[0.4, 0.2], [0.5, 0.8]]), 0.5, align_corners=True)
    images = torch.linspace(0, 1, 65).expand(1, 3, 33, 65)
    for ours, theirs in zip(
        augmented(model, scales, flip)(images), augmented(model, scales[::-1], flip)(images), strict=True
    ):
        assert torch.equal(ours, theirs)
