"""The path from image to result, with a model that reads the answer off the image's colors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, InputConfig, ModelConfig, PostprocessConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError, ImageError
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.results.places import check_consistency
from panoptic_deeplab.weights.folder import save_pretrained

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=10, name="sky", isthing=False, color=(0, 0, 255)),
        Category(id=20, name="ball", isthing=True, color=(255, 0, 0)),
    ),
)
CONFIG = Config(
    input=InputConfig(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)),
    postprocess=PostprocessConfig(stuff_area_limit=0),
)


class ColorReader(nn.Module):
    """Perfect maps at stride 4: red pixels are balls, the amount of green tells one ball from another."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> RawMaps:
        assert not self.training
        assert images.is_contiguous(memory_format=torch.channels_last)
        self.shapes.append(tuple(images.shape))
        pixels = images[:, :, ::4, ::4]  # exact for sizes k * 4 + 1 with aligned corners
        ball = pixels[:, 0] > 0.5
        logits = torch.stack([~ball, ball], dim=1).float() * 10
        number = torch.where(ball, (pixels[:, 1] * 4).round(), -1)
        y, x = torch.meshgrid(torch.arange(number.shape[1]), torch.arange(number.shape[2]), indexing="ij")
        offset, heatmap = torch.zeros(len(images), 2, *number.shape[1:]), torch.zeros(len(images), 1, *number.shape[1:])
        for b in range(len(images)):
            for value in number[b][ball[b]].unique():
                mask = number[b] == value
                center_y, center_x = y[mask].float().mean(), x[mask].float().mean()
                offset[b, 0][mask] = center_y - y[mask]
                offset[b, 1][mask] = center_x - x[mask]
                heatmap[b, 0, int(center_y.round()), int(center_x.round())] = 0.9
        return RawMaps(logits, heatmap, offset)


def _picture(size: tuple[int, int], balls: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Blue, with a red square for each `(top, bottom, left, right)`."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., 2] = 255
    for number, (top, bottom, left, right) in enumerate(balls):
        image[top:bottom, left:right] = (255, 64 * number, 0)
    return image


BALLS = [(8, 24, 8, 28), (32, 56, 40, 72)]
PICTURE = _picture((70, 93), BALLS)


def _predictor(**input_changes: float) -> PanopticPredictor:
    config = replace(CONFIG, input=replace(CONFIG.input, **input_changes))
    return PanopticPredictor.from_network(ColorReader(), CATEGORIES, config)


def _check_balls(result, image, *, tolerance: int) -> None:
    """Each ball is one segment whose box is right up to the stride of the maps."""
    assert result.size == image.shape[:2]
    check_consistency(result.panoptic_map, [s.id for s in result.segments_info], where="test")
    red = image[..., 0] > 127
    greens = np.unique(image[..., 1][red])
    balls = [s for s in result.segments_info if s.isthing]
    assert len(balls) == len(greens)
    for green in greens:
        y, x = np.nonzero(red & (image[..., 1] == green))
        segment = next(s for s in balls if s.id == result.panoptic_map[round(y.mean()), round(x.mean())])
        expected = (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        assert np.abs(np.subtract(segment.bbox, expected)).max() <= tolerance
        assert segment.area == (result.panoptic_map == segment.id).sum()
        assert segment.name == "ball"
        assert 0.8 < segment.score < 0.91


@pytest.mark.parametrize("size", [(65, 97), (70, 93), (64, 80), (66, 130)])
def test_any_size_comes_back_as_it_was(size):
    image = _picture(size, BALLS)
    _check_balls(_predictor().predict(image), image, tolerance=6)


@pytest.mark.parametrize(
    ("changes", "tolerance"), [({"scale": 2.0}, 4), ({"scale": 0.5}, 10), ({"longest_side": 193}, 4)]
)
def test_results_have_the_original_size_whatever_the_network_sees(changes, tolerance):
    predictor = _predictor(**changes)
    _check_balls(predictor.predict(PICTURE), PICTURE, tolerance=tolerance)
    _, _, height, width = predictor.engine.model.shapes[0]
    factor = changes.get("scale", 193 / 93)
    assert height % 16 == 1
    assert width % 16 == 1
    assert 0 <= height - round(70 * factor) < 16
    assert 0 <= width - round(93 * factor) < 16


def test_enlarging_finds_finer_borders():
    image = _picture((65, 97), [(21, 43, 31, 53)])  # borders between the samples of the stride-4 maps
    truth = image[..., 0] > 0
    wrong = [np.count_nonzero((_predictor(scale=s).predict(image).semantic_map == 1) != truth) for s in (1.0, 4.0)]
    assert wrong[1] < 0.6 * wrong[0]
    assert wrong[1] < 0.1 * np.count_nonzero(truth)


def test_exif_rotation_is_applied_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path, exif=exif)
    _check_balls(_predictor().predict(path), np.rot90(PICTURE, -1), tolerance=6)


def test_inputs_of_every_kind_give_one_result(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    predictor = _predictor()
    inputs = [str(path), path, Image.fromarray(PICTURE), PICTURE, torch.from_numpy(PICTURE).permute(2, 0, 1)]
    results = predictor.predict(inputs)
    assert isinstance(results, list)
    for result, image in zip(results, inputs, strict=True):
        assert np.array_equal(result.panoptic_map, results[0].panoptic_map)
        assert predictor.predict(image).segments_info == results[0].segments_info
    assert predictor.predict([]) == []


def test_batches_of_mixed_sizes_keep_the_order():
    sizes = [(65, 97), (80, 97), (65, 97), (65, 97), (80, 97), (65, 98), (63, 95), (129, 97), (80, 97), (65, 97)]
    images = [_picture(size, BALLS[: 1 + i % 2]) for i, size in enumerate(sizes)]
    predictor = _predictor()
    results = list(predictor.predict_iter(iter(images), batch_size=2))
    assert len(results) == len(images)
    for image, result in zip(images, results, strict=True):
        alone = predictor.predict(image)
        assert np.array_equal(alone.panoptic_map, result.panoptic_map)
        assert alone.segments_info == result.segments_info
    batch_sizes = [shape[0] for shape in predictor.engine.model.shapes[: -len(images)]]
    assert sum(batch_sizes) == len(images)
    assert max(batch_sizes) == 2
    assert len(batch_sizes) < 8


def test_a_stream_is_read_only_as_far_as_needed():
    read = 0

    def stream():
        nonlocal read
        while True:
            read += 1
            yield PICTURE

    predictor = _predictor()
    results = predictor.predict_iter(stream())
    next(results)
    next(results)
    assert read == 2
    next(predictor.predict_iter(stream(), batch_size=3))
    assert read <= 2 + 4 * 3


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_what_was_read_comes_before_the_error(tmp_path, batch_size):
    """Whether the source raises, or an image cannot be read."""
    small, large = _picture((65, 97), BALLS), _picture((80, 97), BALLS)

    def stream():
        yield from (small, large, small, small)
        raise KeyError("the camera is gone")

    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    predictor = _predictor()
    for source, expected in ((stream(), KeyError), ([small, large, small, small, damaged, small], ImageError)):
        results = predictor.predict_iter(source, batch_size=batch_size)
        sizes = [next(results).size for _ in range(4)]
        assert sizes == [(65, 97), (80, 97), (65, 97), (65, 97)]
        with pytest.raises(expected):
            next(results)
        assert list(results) == []


def test_a_batch_that_fails_does_not_take_others_with_it():
    """Images 0 and 2 go through the network together; that of image 1 fails."""
    predictor = _predictor()
    model = predictor.engine.model

    def fails_on_large(images):
        if images.shape[2] > 70:
            raise CheckpointError("too large")
        return model(images)

    predictor = PanopticPredictor.from_network(fails_on_large, predictor.categories, predictor.config, device="cpu")
    images = [_picture(size, BALLS) for size in ((65, 97), (80, 97), (65, 97))]
    results = predictor.predict_iter(images, batch_size=2)
    assert next(results).size == (65, 97)
    with pytest.raises(CheckpointError, match="too large"):
        next(results)


def test_maps_for_pictures_have_the_size_and_unit_of_the_image():
    result, maps = _predictor(scale=2.0).predict_with_maps(PICTURE)
    assert maps.center_heatmap.shape == result.size
    assert maps.offset.shape == (2, *result.size)
    top, bottom, left, right = BALLS[1]
    center_y, center_x = (top + bottom - 1) / 2, (left + right - 1) / 2
    peak = np.unravel_index(maps.center_heatmap[30:60, 36:76].argmax(), (30, 40))
    assert np.abs(np.add(peak, (30, 36)) - (center_y, center_x)).max() <= 2
    y, x = np.mgrid[top + 3 : bottom - 3, left + 3 : right - 3]
    inside = maps.offset[:, top + 3 : bottom - 3, left + 3 : right - 3]
    assert np.abs(inside[0] - (center_y - y)).max() < 2
    assert np.abs(inside[1] - (center_x - x)).max() < 2


def test_semantic_only_model_has_no_instance_maps():
    def model(images):
        return ColorReader().eval()(images)._replace(center_heatmap=None, offset=None)

    result, maps = PanopticPredictor.from_network(model, CATEGORIES, CONFIG).predict_with_maps(PICTURE)
    assert maps == (None, None)
    assert not result.instances()
    assert (result.semantic_map == 1).any()


def test_model_is_put_in_evaluation_mode_each_time():
    predictor = _predictor()
    predictor.engine.model.train()
    predictor.predict(PICTURE)
    assert not predictor.engine.model.training


def test_bfloat16_runs_the_network_under_autocast_and_returns_the_same_answer():
    seen = []

    def model(images):
        seen.append((images.unflatten(1, (1, 3))[:, 0] @ torch.ones(images.shape[-1], 1)).dtype)
        maps = ColorReader().eval()(images)
        return RawMaps(*(m.bfloat16() for m in maps))

    low = PanopticPredictor.from_network(model, CATEGORIES, CONFIG, precision="bfloat16").predict(PICTURE)
    assert seen == [torch.bfloat16]
    assert np.array_equal(low.panoptic_map, _predictor().predict(PICTURE).panoptic_map)


def test_a_saved_network_comes_back_through_from_pretrained(tmp_path):
    model_config = ModelConfig(
        backbone="test_resnet",
        output_stride=16,
        aspp_channels=8,
        instance_aspp_channels=8,
        decoder_channels=8,
        instance_decoder_channels=8,
        head_channels=8,
        instance_head_channels=8,
        projections=(4, 4),
        instance_projections=(4, 4),
    )
    config = replace(CONFIG, model=model_config)
    model = PanopticDeepLab(model_config, num_classes=2)
    save_pretrained(tmp_path, model, config=config, categories=CATEGORIES)
    loaded = PanopticPredictor.from_pretrained(tmp_path, device="cpu")
    assert loaded.categories == CATEGORIES
    assert loaded.config == config
    expected = PanopticPredictor.from_network(model, CATEGORIES, config).predict(PICTURE)
    assert np.array_equal(loaded.predict(PICTURE).semantic_map, expected.semantic_map)

    changed = replace(config, input=InputConfig(scale=2.0), postprocess=PostprocessConfig(top_k=7))
    other = PanopticPredictor.from_pretrained(
        tmp_path, precision="bfloat16", input_config=changed.input, postprocess=changed.postprocess
    )
    assert other.config == changed
    assert other.engine.precision == "bfloat16"


@pytest.mark.parametrize(("align_corners", "padded"), [(False, (512, 512)), (True, (513, 513))])
def test_the_padding_follows_the_convention_of_the_model(align_corners, padded):
    config = replace(CONFIG, model=ModelConfig(align_corners=align_corners))
    predictor = PanopticPredictor.from_network(ColorReader(), CATEGORIES, config)
    assert predictor.predict(_picture((512, 512), BALLS)).size == (512, 512)
    assert predictor.engine.model.shapes == [(1, 3, *padded)]


@pytest.mark.parametrize("part", ["semantic_logits", "center_heatmap", "offset"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_an_error(part, value):
    def model(images):
        maps = ColorReader().eval()(images)
        getattr(maps, part)[0, 0, 1, 2] = value
        return maps

    with pytest.raises(CheckpointError, match=r"output is not finite .* in precision float32"):
        PanopticPredictor.from_network(model, CATEGORIES, CONFIG).predict(PICTURE)


def test_unknown_devices_are_errors():
    with pytest.raises(ConfigError, match="gpu"):
        PanopticPredictor.from_network(ColorReader(), CATEGORIES, CONFIG, device="gpu")


def test_another_number_of_classes_is_an_error():
    table = CategoryTable(name="small", categories=CATEGORIES.categories[:1])
    with pytest.raises(CheckpointError, match="2 classes, but category table 'small' has 1"):
        PanopticPredictor.from_network(ColorReader(), table, CONFIG).predict(PICTURE)


def test_unusable_images_and_batch_sizes_are_errors(tmp_path):
    with pytest.raises(ImageError, match=r"none\.jpg"):
        _predictor().predict(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        list(_predictor().predict_iter([PICTURE], batch_size=0))


def test_other_settings_on_the_same_weights_and_maps():
    predictor = _predictor()
    ready = predictor.engine.ready(PICTURE)
    raw_maps = predictor.engine.raw_maps([ready])
    settings = PostprocessConfig(stuff_area_limit=10**6, top_k=1)
    views = predictor.config.test_time_augmentation
    engine = predictor.engine.changed(postprocess=settings, test_time_augmentation=views)
    assert engine.model is predictor.engine.model
    (result,) = engine.results(raw_maps, [ready])
    expected = PanopticPredictor.from_network(ColorReader(), CATEGORIES, replace(CONFIG, postprocess=settings))
    assert result.segments_info == expected.predict(PICTURE).segments_info
    assert len(result.segments_info) == 1
    assert predictor.predict(PICTURE).segments_info == predictor.engine.results(raw_maps, [ready])[0].segments_info
    mirrored = replace(views, flip=True)
    assert predictor.engine.changed(postprocess=settings, test_time_augmentation=mirrored).config != predictor.config
