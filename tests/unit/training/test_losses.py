"""Each loss term against a plain computation, and what splitting, padding and emptiness must not change."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from panoptic_deeplab.categories import IGNORE_INDEX
from panoptic_deeplab.config import LossConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps, Targets
from panoptic_deeplab.training.losses import PanopticDeepLabLoss

NUM_CLASSES = 4


def make_loss(*, align_corners: bool = True, **settings: float) -> PanopticDeepLabLoss:
    return PanopticDeepLabLoss(LossConfig(**settings), align_corners=align_corners)


def random_maps(batch_size: int, size: tuple[int, int]) -> RawMaps:
    return RawMaps(
        semantic_logits=(3 * torch.randn(batch_size, NUM_CLASSES, *size)).requires_grad_(),
        center_heatmap=torch.randn(batch_size, 1, *size).requires_grad_(),
        offset=torch.randn(batch_size, 2, *size).requires_grad_(),
    )


def random_targets(batch_size: int, size: tuple[int, int], *, void: float = 0.3) -> Targets:
    shape = (batch_size, *size)
    valid = torch.rand(shape) >= void
    instance = valid & (torch.rand(shape) < 0.5)
    semantic = torch.where(valid, torch.randint(NUM_CLASSES, shape), IGNORE_INDEX).to(torch.uint8)
    return Targets(
        semantic=semantic,
        center_heatmap=torch.rand(shape),
        offset=5 * torch.randn(batch_size, 2, *size),
        semantic_weight=torch.where(torch.rand(shape) < 0.5, 3.0, 1.0) * valid,
        center_weight=valid.float(),
        offset_weight=instance.float(),
    )


def plain_cross_entropy(logits: Tensor, targets: Targets, fraction: float) -> Tensor:
    """Mean over images of the mean over the hardest valid pixels."""
    terms = []
    for image_logits, semantic, weight in zip(logits, targets.semantic, targets.semantic_weight, strict=True):
        valid = semantic != IGNORE_INDEX
        if valid.any():
            pixels = F.cross_entropy(image_logits[:, valid].T, semantic[valid].long(), reduction="none") * weight[valid]
            terms.append(pixels.sort(descending=True).values[: max(1, round(fraction * len(pixels)))].mean())
    return torch.stack(terms).mean()


def part(maps: RawMaps | Targets, images: slice) -> tuple[Tensor, ...]:
    return tuple(m[images] for m in maps)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 1.0])
def test_cross_entropy_of_the_hardest_pixels_and_its_gradient(fraction: float) -> None:
    maps, targets = random_maps(3, (9, 11)), random_targets(3, (9, 11))
    targets.semantic[1, :4] = IGNORE_INDEX  # so that images have different numbers of valid pixels
    loss = make_loss(top_k_fraction=fraction, semantic_lambda=2.0)
    ours = loss(maps, targets).semantic
    expected = 2 * plain_cross_entropy(maps.semantic_logits, targets, fraction)
    torch.testing.assert_close(ours, expected)
    (our_gradient,) = torch.autograd.grad(ours, maps.semantic_logits)
    (expected_gradient,) = torch.autograd.grad(expected, maps.semantic_logits)
    torch.testing.assert_close(our_gradient, expected_gradient)


def test_images_without_a_valid_pixel_do_not_dilute_the_mean() -> None:
    maps, targets = random_maps(2, (5, 5)), random_targets(2, (5, 5))
    targets.semantic[1] = IGNORE_INDEX
    targets.semantic_weight[1] = 0
    ours = make_loss()(maps, targets).semantic
    torch.testing.assert_close(ours, plain_cross_entropy(maps.semantic_logits, targets, 0.2))


def test_center_term_is_the_weighted_squared_error() -> None:
    maps, targets = random_maps(2, (6, 7)), random_targets(2, (6, 7))
    supervised = targets.center_weight == 1
    assert maps.center_heatmap is not None
    expected = 200 * F.mse_loss(maps.center_heatmap[:, 0][supervised], targets.center_heatmap[supervised])
    torch.testing.assert_close(make_loss()(maps, targets).center, expected)


def test_offset_term_is_the_mean_over_pixels_and_channels() -> None:
    maps, targets = random_maps(2, (6, 7)), random_targets(2, (6, 7))
    supervised = targets.offset_weight == 1
    assert maps.offset is not None
    expected = 0.01 * F.l1_loss(maps.offset.movedim(1, -1)[supervised], targets.offset.movedim(1, -1)[supervised])
    torch.testing.assert_close(make_loss()(maps, targets).offset, expected)


@pytest.mark.parametrize(("align_corners", "size", "factor"), [(True, (33, 41), 4.0), (False, (32, 40), 4.0)])
def test_offsets_are_compared_in_input_pixels(align_corners: bool, size: tuple[int, int], factor: float) -> None:
    maps = random_maps(1, (9, 11) if align_corners else (8, 10))
    targets = random_targets(1, size)
    targets.offset[:, 0], targets.offset[:, 1] = 8.0, -12.0
    assert maps.offset is not None
    maps.offset.data[:, 0], maps.offset.data[:, 1] = 8 / factor, -12 / factor
    loss = make_loss(align_corners=align_corners)
    assert loss(maps, targets).offset.item() == pytest.approx(0, abs=1e-7)
    maps.offset.data[:, 0] += 1  # one pixel of the small map is four of the input, in one of two channels
    assert loss(maps, targets).offset.item() == pytest.approx(0.01 * factor / 2, rel=1e-5)


def test_losses_of_parts_with_common_normalizers_add_up_to_that_of_the_batch() -> None:
    maps, targets = random_maps(5, (4, 5)), random_targets(5, (13, 17))
    for map_ in targets[3:]:  # weights
        map_[2] = 0
    targets.semantic[2] = IGNORE_INDEX
    loss = make_loss()
    whole = loss(maps, targets)
    slices = [slice(0, 2), slice(2, 3), slice(3, 5)]
    parts = [Targets(*part(targets, s)) for s in slices]
    normalizers = torch.stack([loss.normalizers(p) for p in parts]).sum(dim=0)
    assert normalizers[0] == 4
    sums = [
        sum(terms)
        for terms in zip(
            *(loss(RawMaps(*part(maps, s)), p, normalizers) for s, p in zip(slices, parts, strict=True)), strict=True
        )
    ]
    torch.testing.assert_close(sums, list(whole))
    inputs = [m for m in maps if m is not None]
    for ours, expected in zip(
        torch.autograd.grad(sums[0], inputs), torch.autograd.grad(whole.total, inputs), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_padding_with_void_changes_nothing() -> None:
    maps, targets = random_maps(2, (8, 8)), random_targets(2, (8, 8))
    padding = (0, 5, 0, 3)
    padded_maps = RawMaps(*(F.pad(m, padding, value=7.0) for m in maps if m is not None))
    padded_targets = Targets(*(F.pad(m, padding) for m in targets))._replace(
        semantic=F.pad(targets.semantic, padding, value=IGNORE_INDEX)
    )
    loss = make_loss()
    torch.testing.assert_close(loss(padded_maps, padded_targets), loss(maps, targets))


def test_no_valid_pixel_gives_zero_with_a_graph() -> None:
    maps, targets = random_maps(2, (4, 4)), random_targets(2, (13, 13), void=1.0)
    terms = make_loss()(maps, targets)
    assert [t.item() for t in terms] == [0, 0, 0, 0]
    terms.total.backward()
    for map_ in maps:
        assert map_ is not None
        assert map_.grad is not None
        assert not map_.grad.any()


def test_a_semantic_only_model_has_no_instance_terms() -> None:
    maps, targets = random_maps(2, (4, 4)), random_targets(2, (13, 13))
    terms = make_loss()(RawMaps(semantic_logits=maps.semantic_logits, center_heatmap=None, offset=None), targets)
    assert terms.center == terms.offset == 0
    assert terms.total == terms.semantic > 0


def test_losses_are_float32_whatever_the_maps_are() -> None:
    maps, targets = random_maps(2, (4, 4)), random_targets(2, (13, 13))
    half = RawMaps(*(m.detach().bfloat16() for m in maps if m is not None))
    widened = RawMaps(*(m.float() for m in half if m is not None))
    loss = make_loss()
    with torch.autocast("cpu", torch.bfloat16):
        terms = loss(half, targets)
    assert all(t.dtype == torch.float32 for t in terms)
    torch.testing.assert_close(terms, loss(widened, targets), rtol=0, atol=0)


def test_total_is_the_sum_and_lambdas_scale_their_terms() -> None:
    maps, targets = random_maps(1, (4, 4)), random_targets(1, (13, 13))
    one = make_loss(semantic_lambda=1, heatmap_lambda=1, offset_lambda=1)(maps, targets)
    other = make_loss(semantic_lambda=2, heatmap_lambda=3, offset_lambda=5)(maps, targets)
    torch.testing.assert_close(other.semantic, 2 * one.semantic)
    torch.testing.assert_close(other.center, 3 * one.center)
    torch.testing.assert_close(other.offset, 5 * one.offset)
    torch.testing.assert_close(other.total, other.semantic + other.center + other.offset)


@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_class_weights_count_like_the_weight_of_a_pixel(fraction: float) -> None:
    maps, targets = random_maps(2, (9, 11)), random_targets(2, (9, 11))
    class_weights = torch.tensor([0.5, 2.0, 1.0, 0.0])
    loss = PanopticDeepLabLoss(
        LossConfig(top_k_fraction=fraction, class_weights=tuple(class_weights.tolist())), align_corners=True
    )
    pixel_weight = class_weights[targets.semantic.long().clamp(max=NUM_CLASSES - 1)]
    weighted = targets._replace(semantic_weight=targets.semantic_weight * pixel_weight)
    torch.testing.assert_close(
        loss(maps, targets).semantic, plain_cross_entropy(maps.semantic_logits, weighted, fraction)
    )


def test_class_weights_of_another_number_of_classes_are_refused() -> None:
    loss = PanopticDeepLabLoss(LossConfig(class_weights=(1.0, 2.0)), align_corners=True)
    with pytest.raises(ConfigError, match=r"class_weights.*4 classes.*Got 2"):
        loss(random_maps(1, (5, 5)), random_targets(1, (5, 5)))


def test_sigmoid_cross_entropy_of_the_heatmap() -> None:
    maps, targets = random_maps(2, (9, 11)), random_targets(2, (9, 11))
    logits = maps.center_heatmap
    config = LossConfig(heatmap_loss="cross_entropy", heatmap_lambda=3.0)
    ours = PanopticDeepLabLoss(config, align_corners=True)(maps._replace(center_heatmap=logits.sigmoid()), targets)
    pixels = F.binary_cross_entropy_with_logits(logits[:, 0], targets.center_heatmap, reduction="none")
    weight = targets.center_weight
    torch.testing.assert_close(ours.center, 3 * (pixels * weight).sum() / weight.sum())
