"""Several models averaged: each sees its own input, and all maps meet on the grid of the first."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, InputConfig, ModelConfig, PostprocessConfig, TestTimeAugmentationConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.network import PanopticDeepLab

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=10, name="sky", isthing=False, color=(0, 0, 255)),
        Category(id=20, name="ball", isthing=True, color=(255, 0, 0)),
    ),
)
BALL = (20, 44, 32, 72)  # top, bottom, left, right
SIZE = (72, 92)  # even, so that half and one and a half of it are whole
CENTER = ((BALL[0] + BALL[1] - 1) / 2, (BALL[2] + BALL[3] - 1) / 2)


@pytest.fixture
def picture() -> np.ndarray:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 2] = 255
    image[BALL[0] : BALL[1], BALL[2] : BALL[3]] = (255, 0, 0)
    return image


def reader(
    *,
    mean: float = 0.0,
    deviation: float = 1.0,
    certainty: float = 10.0,
    scale: float = 1.0,
    categories: CategoryTable = CATEGORIES,
    **model_changes: object,
) -> PanopticPredictor:
    """A predictor with exact maps of the one red ball, whose images must come as its configuration says."""

    def model(images: Tensor) -> RawMaps:
        colors = images * deviation + mean
        is_aligned = config.model.align_corners
        # On a grid of areas, the middle of 4 x 4 pixels lies between the second and the third.
        pixels = colors[:, :, ::4, ::4] if is_aligned else (colors[:, :, 1::4, 1::4] + colors[:, :, 2::4, 2::4]) / 2
        assert 0 <= pixels.min() <= pixels.max() <= 1
        ball = pixels[:, 0] > 0.5
        y, x = torch.meshgrid(torch.arange(ball.shape[1]), torch.arange(ball.shape[2]), indexing="ij")
        center = [(c + 0.5) * scale - 0.5 for c in CENTER]  # in pixels of the input
        center = [c / 4 if is_aligned else (c - 1.5) / 4 for c in center]
        offset = torch.stack([center[0] - y, center[1] - x]).expand(len(images), -1, -1, -1)
        heatmap = (-(offset.square().sum(1, keepdim=True)) / (4 * scale**2)).exp()
        logits = torch.stack([~ball, ball], dim=1).float() * certainty
        return RawMaps(logits, heatmap, offset)

    config = Config(
        input=InputConfig(pixel_mean=(mean,) * 3, pixel_std=(deviation,) * 3, scale=scale),
        model=replace(ModelConfig(), **model_changes),
        postprocess=PostprocessConfig(stuff_area_limit=0),
    )
    return PanopticPredictor.from_network(model, categories, config, device="cpu")


def test_one_model_is_what_it_is_alone(picture):
    member = reader()
    result, maps = PanopticPredictor.ensemble([member]).predict_with_maps(picture)
    expected, expected_maps = member.predict_with_maps(picture)
    assert np.array_equal(result.panoptic_map, expected.panoptic_map)
    assert result.segments_info == expected.segments_info
    assert np.array_equal(maps.offset, expected_maps.offset)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mean": 0.5, "deviation": 0.25},
        {"scale": 2.0},
        {"scale": 0.5},
        {"output_stride": 32},
        {"align_corners": False},
        {"scale": 1.5, "align_corners": False, "output_stride": 32, "mean": 0.25},
    ],
)
def test_models_with_other_inputs_agree_in_place(picture, changes):
    ensemble = PanopticPredictor.ensemble([reader(), reader(**changes)])
    result, maps = ensemble.predict_with_maps(picture)
    (ball,) = result.instances()
    expected = (BALL[2], BALL[0], BALL[3] - BALL[2], BALL[1] - BALL[0])
    assert np.abs(np.subtract(ball.bbox, expected)).max() <= 8 / changes.get("scale", 1)
    assert ball.score > 0.7
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    reached = np.stack([y, x]) + maps.offset
    inner = (slice(None), slice(10, -10), slice(10, -10))
    assert np.abs(reached - np.reshape(CENTER, (2, 1, 1)))[inner].max() < 0.05
    peak = np.unravel_index(maps.center_heatmap.argmax(), SIZE)
    assert np.abs(np.subtract(peak, CENTER)).max() <= 2.5


def test_probabilities_are_averaged(picture):
    certain, doubtful = reader(certainty=np.log(9.0)), reader(certainty=np.log(3.0))
    (result,) = PanopticPredictor.ensemble([certain, doubtful]).predict([picture])
    sky = next(segment for segment in result.segments_info if segment.name == "sky")
    alone = next(s for s in certain.predict(picture).segments_info if s.name == "sky")
    assert sky.score == pytest.approx((0.9 + 0.75) / 2, abs=0.02)
    assert alone.score == pytest.approx(0.9, abs=0.02)


def test_real_networks_with_different_backbones(tiny_config, picture):
    configs = [replace(tiny_config.model, backbone=name, output_stride=stride) for name, stride in
               [("test_resnet", 16), ("test_efficientnet", 32)]]  # fmt: skip
    members = [
        PanopticPredictor.from_network(PanopticDeepLab(config, 2), CATEGORIES, Config(model=config), device="cpu")
        for config in configs
    ]
    ensemble = PanopticPredictor.ensemble(members)
    ready = ensemble.engine.ready(picture)
    assert [image.tensor.shape[-2:] for image in (ready.prepared, *ready.others)] == [(81, 97), (97, 97)]
    with torch.inference_mode():
        fused = ensemble.raw_maps(picture)
        first, second = (member.raw_maps(picture) for member in members)
    # Both networks have aligned corners and stride 4 on one unscaled image, so the second map only has more rows.
    probability = (first.semantic_logits.softmax(1) + second.semantic_logits[..., :21, :].softmax(1)) / 2
    torch.testing.assert_close(fused.semantic_logits.softmax(1), probability)
    torch.testing.assert_close(fused.offset, (first.offset + second.offset[..., :21, :]) / 2)
    assert ensemble.predict(picture).size == SIZE


def test_members_keep_their_scales_and_mirror_images(picture):
    seen = []
    plain = reader()

    def counting(images):
        seen.append(images.shape[-1])
        return plain.engine.model(images)

    config = replace(plain.config, test_time_augmentation=TestTimeAugmentationConfig(scales=(1.0,), flip=True))
    member = PanopticPredictor.from_network(counting, CATEGORIES, config, device="cpu")
    PanopticPredictor.ensemble([plain, member]).predict(picture)
    assert seen == [97, 97]


def test_streams_of_mixed_sizes(picture):
    ensemble = PanopticPredictor.ensemble([reader(), reader(align_corners=False, output_stride=32)])
    sizes = [(72, 92), (66, 92), (72, 92), (72, 90)]
    images = [picture[:height, :width] for height, width in sizes]
    for image, result in zip(images, ensemble.predict_iter(images, batch_size=3), strict=True):
        assert np.array_equal(result.panoptic_map, ensemble.predict(image).panoptic_map)


def test_other_classes_are_refused():
    renamed = replace(CATEGORIES, name="other", categories=(CATEGORIES[0], replace(CATEGORIES[1], name="cube")))
    with pytest.raises(CheckpointError, match="class 1 is 'ball' in one and 'cube' in another"):
        PanopticPredictor.ensemble([reader(), reader(categories=renamed)])
    fewer = replace(CATEGORIES, name="fewer", categories=CATEGORIES.categories[:1])
    with pytest.raises(CheckpointError, match=r"2 and 1 classes \(test, fewer\)"):
        PanopticPredictor.ensemble([reader(), reader(categories=fewer)])


def test_models_that_cannot_be_averaged():
    with pytest.raises(ConfigError, match="Number 3 of 3 differs from the first"):
        PanopticPredictor.ensemble([reader(), reader(), reader(instance_branch=False)])
    with pytest.raises(ConfigError, match="at least one model"):
        PanopticPredictor.ensemble([])
