"""Sizes, windows and memory of multi-scale and flip inference; what holds for every scene is in tests/property."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.inference.fusion import Average, to_estimate, to_raw_maps
from panoptic_deeplab.inference.views import AugmentedModel, resize_images, view_size
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.aspp import ASPP
from panoptic_deeplab.model.network import PanopticDeepLab


def augmented(model, *, scales=(1.0,), flip=False, output_stride=16, align_corners=True) -> AugmentedModel:
    config = TestTimeAugmentationConfig(scales=scales, flip=flip)
    return AugmentedModel(model, config, output_stride=output_stride, align_corners=align_corners)


def constant_maps(images: Tensor, *, logits: tuple[float, ...] = (0.0, 1.0), instances: bool = True) -> RawMaps:
    batch, height, width = len(images), (images.shape[-2] - 1) // 4 + 1, (images.shape[-1] - 1) // 4 + 1
    scores = torch.tensor(logits).view(1, -1, 1, 1).repeat(batch, 1, height, width)
    if not instances:
        return RawMaps(scores, None, None)
    return RawMaps(scores, torch.ones(batch, 1, height, width), torch.ones(batch, 2, height, width))


@pytest.fixture
def network(tiny_config) -> PanopticDeepLab:
    return PanopticDeepLab(tiny_config.model, num_classes=5).eval()


def test_one_scale_without_flip_is_plain_inference_bit_for_bit(network):
    images = torch.randn(2, 3, 33, 49).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain = network(images)
    for ours, theirs in zip(augmented(network)(images), plain, strict=True):
        assert torch.equal(ours, theirs)


def test_one_view_of_another_scale_is_not_renormalized(network):
    images = torch.randn(1, 3, 33, 49)
    larger = resize_images(images, (65, 97), align_corners=True).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(larger)
    for ours, theirs in zip(augmented(network, scales=(2.0,))(images), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("scales", "flip", "seen"),
    [
        ((1.0,), True, [(33, 49)] * 2),
        ((0.5, 1.0, 2.0), False, [(65, 97), (33, 49), (17, 33)]),
        ((0.5, 1.0), True, [(33, 49)] * 2 + [(17, 33)] * 2),
    ],
)
def test_views(scales, flip, seen):
    shapes = []

    def model(images):
        shapes.append(tuple(images.shape[-2:]))
        assert images.is_contiguous(memory_format=torch.channels_last)
        return constant_maps(images)

    maps = augmented(model, scales=scales, flip=flip)(torch.randn(1, 3, 33, 49))
    assert shapes == seen
    assert maps.center_heatmap.shape[-2:] == tuple((side - 1) // 4 + 1 for side in seen[0])


def test_probabilities_are_averaged_not_logits():
    def model(images):  # 3 : 1 at scale 1, and 1 : 9 at scale 2, where a constant is added besides
        return constant_maps(images, logits=(3.0, 1.0) if images.shape[-1] == 49 else (1.0, 9.0))

    def with_logits(images):
        raw_maps = model(images)
        return raw_maps._replace(semantic_logits=raw_maps.semantic_logits.log() + 50 * (images.shape[-1] > 49))

    probability = augmented(with_logits, scales=(1.0, 2.0))(torch.randn(1, 3, 33, 49)).semantic_logits.softmax(1)
    torch.testing.assert_close(probability[0, 0], torch.full((17, 25), (0.75 + 0.1) / 2))


def test_certain_scores_stay_finite():
    def model(images):
        return constant_maps(images, logits=(-1e4, 1e4))

    logits = augmented(model, flip=True)(torch.randn(1, 3, 33, 49)).semantic_logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.softmax(1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 9, 13))


def test_semantic_only_models_have_no_instance_maps():
    def model(images):
        return constant_maps(images, instances=False)

    maps = augmented(model, scales=(0.5, 1.0), flip=True)(torch.randn(1, 3, 33, 49))
    assert maps.center_heatmap is None
    assert maps.offset is None


def test_low_precision_is_summed_in_float32_and_the_models_own_tensors_stay():
    returned = []

    def model(images):
        returned.append(RawMaps(*(map_.bfloat16() for map_ in constant_maps(images))))
        return returned[-1]

    maps = augmented(model, flip=True)(torch.randn(1, 3, 33, 49))
    assert {map_.dtype for map_ in maps} == {torch.float32}
    assert all((raw_maps.offset == 1).all() for raw_maps in returned)
    assert (maps.offset[:, 0] == 1).all()
    assert (maps.offset[:, 1] == 0).all()  # dx of the two views cancels, since both say 1 to the right


def test_memory_does_not_grow_with_the_number_of_views():
    returned = []

    def model(images):
        assert not any(reference() is not None for reference in returned), "maps of an earlier view are still held"
        raw_maps = constant_maps(images)
        returned.extend(weakref.ref(map_) for map_ in raw_maps)
        return raw_maps

    augmented(model, scales=(0.5, 0.75, 1.0, 1.5, 2.0), flip=True)(torch.randn(1, 3, 33, 49))
    assert len(returned) == 3 * 10


@pytest.mark.parametrize(
    ("size", "scale", "align_corners", "expected"),
    [
        ((1025, 2049), 0.5, True, (513, 1025)),
        ((1025, 2049), 1.75, True, (1793, 3585)),
        ((1025, 2049), 2.0, True, (2049, 4097)),
        ((1024, 2048), 1.25, False, (1280, 2560)),
        ((33, 49), 0.1, True, (17, 17)),
        ((32, 48), 0.1, False, (16, 16)),
    ],
)
def test_sizes_that_a_network_maps_without_a_remainder(size, scale, align_corners, expected):
    assert view_size(size, scale, output_stride=16, align_corners=align_corners) == expected


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(17, 33), (65, 129), (17, 129), (33, 65)])
def test_resizing_keeps_a_plane_of_colors_in_place(align_corners, size):
    y, x = torch.meshgrid(torch.linspace(0, 1, 33), torch.linspace(0, 1, 65), indexing="ij")
    images = torch.stack([y, x, 2 * y - x])[None]
    resized = resize_images(images, size, align_corners=align_corners)
    assert resized.shape == (1, 3, *size)
    if align_corners:
        y, x = torch.meshgrid(torch.linspace(0, 1, size[0]), torch.linspace(0, 1, size[1]), indexing="ij")
    else:
        y, x = (
            torch.nn.functional.interpolate(plane[None, None], size, mode="bilinear", align_corners=False)[0, 0]
            for plane in (y, x)
        )
    expected = torch.stack([y, x, 2 * y - x])
    middle = (..., slice(2, -2), slice(2, -2))  # a reduced border pixel has less than its share of neighbors
    # The filter is sampled at whole pixels, so where the ratio is a fraction it is off by some hundredths of a pixel.
    tolerance = 1e-5 if align_corners else 0.1 / 32
    torch.testing.assert_close(resized[0][middle], expected[middle], atol=tolerance, rtol=0)


def test_reduced_images_are_filtered():
    stripes = (torch.arange(65) % 2).float().expand(1, 3, 65, 65)  # every second column, which sampling would pick
    reduced = resize_images(stripes, (33, 33), align_corners=True)
    torch.testing.assert_close(reduced[..., 1:-1], torch.full((1, 3, 33, 31), 0.5))


class PoolWindows(nn.Module):
    """Notes the windows of its image pools."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        windows = [(9, 17), None] if align_corners else [(8, 16), None]
        self.pools = nn.ModuleList(
            ASPP(
                2, 2, rates=(1, 2, 3), atrous_conv="dense", mid_norm=False, dropout=0, pool_size=window,
                pool_norm=True, pool_bias=False, align_corners=align_corners, norm_eps=1e-5,
            )
            for window in windows
        )  # fmt: skip
        self.seen: list[list[tuple[int, int] | None]] = []

    def forward(self, images: Tensor) -> RawMaps:
        self.seen.append([pool.pool_size for pool in self.pools])
        if images.shape[-1] > 520:
            raise MemoryError
        return constant_maps(images)


@pytest.mark.parametrize(
    ("align_corners", "windows"), [(True, [(13, 25), (9, 17), (5, 9)]), (False, [(12, 24), (8, 16), (4, 8)])]
)
def test_the_window_of_the_image_pool_is_scaled_with_the_image(align_corners, windows):
    model = PoolWindows(align_corners)
    size = (129 + 16, 257 + 16) if align_corners else (144, 272)
    augmented(model, scales=(0.5, 1.0, 1.5), align_corners=align_corners)(torch.zeros(1, 3, *size))
    assert [seen[0] for seen in model.seen] == windows
    assert all(seen[1] is None for seen in model.seen)
    assert model.pools[0].pool_size == windows[1]
    with pytest.raises(MemoryError):
        augmented(model, scales=(2.0,), align_corners=align_corners)(torch.zeros(1, 3, *size))
    assert model.pools[0].pool_size == windows[1]


def test_estimates_and_averages():
    first = RawMaps(torch.zeros(1, 4, 2, 2), torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2, 2))
    second = RawMaps(torch.tensor([0.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2), *first[1:])
    average = Average()
    average.add(to_estimate(first))
    average.add(to_estimate(second))
    assert average.size == (2, 2)
    mean = to_raw_maps(average.mean())
    expected = (first.semantic_logits.softmax(1) + second.semantic_logits.softmax(1)) / 2
    torch.testing.assert_close(mean.semantic_logits.softmax(1), expected)
    assert torch.equal(mean.center_heatmap, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0), (1.0, 1.0)])
def test_scales_that_make_no_sense(scales):
    with pytest.raises(ConfigError, match=r"`test_time_augmentation\.scales` must be one or more different positive"):
        TestTimeAugmentationConfig(scales=scales)


def test_disabled_is_one_pass() -> None:
    calls = []

    def model(images: Tensor) -> RawMaps:
        calls.append(tuple(images.shape))
        return RawMaps(semantic_logits=images[:, :2, ::4, ::4], center_heatmap=None, offset=None)

    config = TestTimeAugmentationConfig(enabled=False, scales=(0.5, 1.0), flip=True)
    images = torch.rand(1, 3, 33, 33)
    maps = AugmentedModel(model, config, output_stride=16, align_corners=True)(images)
    assert calls == [(1, 3, 33, 33)]
    torch.testing.assert_close(maps.semantic_logits, images[:, :2, ::4, ::4], rtol=0, atol=0)
