from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from panoptic_deeplab.config import DataConfig, InputConfig
from panoptic_deeplab.data.augment import (
    Pad,
    RandomResize,
    apply_transforms,
    training_transforms,
)
from panoptic_deeplab.data.colors import ColorJitter, RandomGrayscale
from panoptic_deeplab.images.prepare import image_tensor, prepare_image, resized_size
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID

PLAIN = InputConfig(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0))


def random_image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def all_augmentations(crop_size: tuple[int, int]) -> DataConfig:
    return DataConfig(
        crop_size=crop_size,
        vertical_flip_probability=0.5,
        rotate90=True,
        color_jitter=0.3,
        grayscale_probability=0.3,
        hue_jitter=0.2,
        invert_probability=0.3,
        gamma_jitter=0.5,
        blur=1.5,
        noise=0.05,
    )


@pytest.mark.parametrize("size", [(9, 40), (33, 65), (70, 20), (80, 90)])
def test_every_example_has_the_size_of_the_crop_and_known_ids(size: tuple[int, int]) -> None:
    panoptic_map = torch.randint(1, MAX_SEGMENT_ID + 1, (size[0] // 3 + 1, size[1] // 3 + 1), dtype=torch.int32)
    panoptic_map[0, 0] = MAX_SEGMENT_ID
    panoptic_map = panoptic_map.repeat_interleave(3, 0).repeat_interleave(3, 1)[: size[0], : size[1]]
    known = {0, *panoptic_map.unique().tolist()}
    steps = training_transforms(all_augmentations((33, 49)), InputConfig(longest_side=50))
    for _ in range(10):
        image, cropped = apply_transforms(steps, image_tensor(random_image(size)), panoptic_map)
        assert image.shape == (3, 33, 49)
        assert image.dtype == torch.float32
        assert cropped.shape == (33, 49)
        assert cropped.dtype == torch.int32
        assert type(image) is type(cropped) is Tensor
        assert image.is_contiguous()
        assert set(cropped.unique().tolist()) <= known


def test_image_and_map_move_together() -> None:
    panoptic_map = torch.arange(1, 1 + 12 * 17, dtype=torch.int32).reshape(12, 17)
    image = panoptic_map.to(torch.uint8).expand(3, -1, -1)
    data = DataConfig(crop_size=(15, 13), min_scale=1.0, max_scale=1.0, vertical_flip_probability=0.5, rotate90=True)
    seen = set()
    for _ in range(20):
        moved, moved_map = apply_transforms(training_transforms(data, PLAIN), image, panoptic_map)
        assert torch.equal((255 * moved[0]).round().int(), moved_map)  # void = 0 where the image is padded with 0
        assert (moved_map > 0).sum() >= 12 * 12
        seen.add(moved_map.numpy().tobytes())
    assert len(seen) > 10


@pytest.mark.parametrize("scale", [1 / 3, 0.6, 3.0])
def test_ids_and_colors_come_from_the_same_place(scale: float) -> None:
    column = torch.arange(120, dtype=torch.int32).expand(90, -1)  # a ramp tells where a value was taken
    resize = RandomResize(data=DataConfig(min_scale=scale, max_scale=scale), input_config=InputConfig())
    image, panoptic_map = resize(tv_tensors.Image(column.to(torch.uint8).expand(3, -1, -1)), tv_tensors.Mask(column))
    assert image.shape[1:] == panoptic_map.shape == (round(90 * scale), round(120 * scale))
    difference = (panoptic_map.as_subclass(Tensor) - image[0].as_subclass(Tensor).float())[:, 3:-3]
    assert difference.abs().max() <= 1
    assert abs(difference.mean().item()) < 0.15


def test_scales_are_drawn_from_the_grid_and_multiply_the_input_rule() -> None:
    data = DataConfig(min_scale=0.5, max_scale=2.0, scale_step=0.5)
    resize = RandomResize(data=data, input_config=InputConfig(longest_side=20))
    image, panoptic_map = tv_tensors.Image(torch.zeros(3, 5, 10).byte()), tv_tensors.Mask(torch.zeros(5, 10).int())
    widths = {resize(image, panoptic_map)[1].shape[-1] for _ in range(60)}
    assert widths == {10, 20, 30, 40}


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((480, 640), None, {(320, 427), (640, 853), (960, 1280)}),
        ((480, 640), 960, {(320, 427), (640, 853), (720, 960)}),  # as detectron2 resizes COCO for training
        ((640, 427), 960, {(480, 320), (959, 640), (960, 640)}),
    ],
)
def test_shortest_side_of_training(size: tuple[int, int], limit: int | None, expected: set[tuple[int, int]]) -> None:
    data = DataConfig(min_scale=0.5, max_scale=1.5, scale_step=0.5, shortest_side=640, longest_side_limit=limit)
    resize = RandomResize(data=data, input_config=InputConfig(longest_side=640))
    image, panoptic_map = tv_tensors.Image(torch.zeros(3, *size).byte()), tv_tensors.Mask(torch.zeros(*size).int())
    assert {tuple(resize(image, panoptic_map)[1].shape) for _ in range(25)} == expected
    assert max(resized_size(size, InputConfig(longest_side=640))) == 640  # prediction has its own rule


def test_without_a_step_scales_fill_the_interval() -> None:
    resize = RandomResize(data=DataConfig(min_scale=1.0, max_scale=2.0, scale_step=0), input_config=InputConfig())
    image, panoptic_map = tv_tensors.Image(torch.zeros(3, 1, 100).byte()), tv_tensors.Mask(torch.zeros(1, 100).int())
    widths = {resize(image, panoptic_map)[1].shape[-1] for _ in range(40)}
    assert len(widths) > 15
    assert 100 <= min(widths) < max(widths) <= 200


def test_padding_is_zero_and_void_on_any_side() -> None:
    pad = Pad(size=(8, 7), at_random=True)
    image, panoptic_map = tv_tensors.Image(torch.ones(3, 4, 9)), tv_tensors.Mask(torch.ones(4, 9).int())
    tops = set()
    for _ in range(40):
        padded, padded_map = pad(image, panoptic_map)
        assert padded.shape == (3, 8, 9)
        assert torch.equal(padded[0] == 0, padded_map == 0)
        assert (padded_map == 1).sum() == 36
        tops.add(int(padded_map[:, 0].argmax()))
    assert tops == {0, 1, 2, 3, 4}


def test_padding_at_the_bottom_and_on_the_right_as_in_prediction() -> None:
    data = DataConfig(crop_size=(9, 9), min_scale=1.0, max_scale=1.0, flip_probability=0.0, padding="bottom_right")
    image = random_image((5, 7))
    prepared = prepare_image(image, input_config=InputConfig(), output_stride=8, align_corners=True)
    for _ in range(5):
        example, panoptic_map = apply_transforms(
            training_transforms(data, InputConfig()), image_tensor(image), torch.ones(5, 7).int()
        )
        assert torch.equal(example, prepared.tensor)
        assert torch.equal(panoptic_map == 1, (torch.arange(9) < 5)[:, None] & (torch.arange(9) < 7))


def test_the_border_is_exactly_the_mean_color_whatever_happens_to_the_colors() -> None:
    data = DataConfig(crop_size=(40, 50), min_scale=1.0, max_scale=1.0, color_jitter=0.9, grayscale_probability=0.5)
    steps = training_transforms(data, InputConfig())
    for _ in range(10):
        image, panoptic_map = apply_transforms(steps, image_tensor(random_image((20, 30))), torch.ones(20, 30).int())
        assert (panoptic_map == 1).sum() == 20 * 30
        assert not image[:, panoptic_map == 0].any()
        assert image[:, panoptic_map == 1].any(0).float().mean() > 0.9


def test_a_step_that_loses_the_types_is_caught() -> None:
    def careless(image: Tensor, panoptic_map: Tensor) -> tuple[Tensor, Tensor]:
        return image, panoptic_map.flip(-1).as_subclass(Tensor)

    with pytest.raises(AssertionError, match="as map"):
        apply_transforms(
            [careless, v2.RandomHorizontalFlip(1.0)], image_tensor(random_image((4, 4))), torch.zeros(4, 4).int()
        )


def test_colors_change_and_ids_do_not() -> None:
    data = DataConfig(crop_size=(20, 20), min_scale=1.0, max_scale=1.0, flip_probability=0, color_jitter=0.5)
    panoptic_map = torch.arange(400, dtype=torch.int32).reshape(20, 20)
    image = image_tensor(random_image((20, 20)))
    jittered, same_map = apply_transforms(training_transforms(data, PLAIN), image, panoptic_map)
    assert torch.equal(same_map, panoptic_map)
    assert (jittered - image / 255).abs().max() > 0.01


@pytest.fixture
def several_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_augmentation_does_not_depend_on_the_number_of_threads(several_threads: Callable[[int], None]) -> None:
    """The workers of a loader have one thread each, the training process has many."""
    steps = training_transforms(all_augmentations((301, 403)), InputConfig(longest_side=500))
    image, panoptic_map = image_tensor(random_image((317, 411))), torch.ones(317, 411).int()
    for seed in range(4):
        images = []
        for threads in (1, 3):
            several_threads(threads)
            torch.manual_seed(seed)
            images.append(apply_transforms(steps, image, panoptic_map)[0])
        assert torch.equal(*images)


def test_contrast_does_not_depend_on_the_number_of_threads(
    several_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image whose mean is a whole number, so that half of the contrast puts every second value on a border of
    rounding: the last bit of a mean in float32, which several threads sum in another order, then changes many pixels.
    """
    half = torch.randint(2, 200, (1, 301, 803), dtype=torch.uint8)
    image = torch.cat([half, 202 - half], dim=1).expand(3, -1, -1)
    monkeypatch.setattr(torch, "rand", lambda *_: torch.tensor([0.5, 0.0, 0.5]))
    jittered = []
    for threads in (1, 2, 3):
        several_threads(threads)
        jittered.append(ColorJitter(strength=0.5)(tv_tensors.Image(image), tv_tensors.Mask(half[0].int()))[0])
    assert torch.equal(jittered[0], jittered[1])
    assert torch.equal(jittered[0], jittered[2])


@pytest.mark.parametrize("extreme", [0.0, 1.0])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_jitter_is_torchvisions_up_to_rounding(position: int, extreme: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.full((3,), 0.5)  # a factor of 1
    drawn[position] = extreme
    monkeypatch.setattr(torch, "rand", lambda *_: drawn)
    image = tv_tensors.Image(image_tensor(random_image((21, 34)) // 2 + 60))
    jittered, same_map = ColorJitter(strength=0.3)(image, panoptic_map := tv_tensors.Mask(torch.ones(21, 34).int()))
    assert same_map is panoptic_map
    functional = v2.functional
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[position]
    expected = adjust(image, 0.7 if extreme == 0 else 1.3)
    assert (jittered.int() - expected.int()).abs().max() <= 1
    assert (jittered.int() - image.int()).abs().float().mean() > 3


def test_jitter_draws_three_factors() -> None:
    image = tv_tensors.Image(torch.tensor([120, 100, 80], dtype=torch.uint8)[:, None, None].expand(3, 2, 2).clone())
    image[:, 0] //= 2
    panoptic_map = tv_tensors.Mask(torch.ones(2, 2).int())
    looks = [ColorJitter(strength=0.2)(image, panoptic_map)[0] for _ in range(30)]
    means = [look.float().mean().item() for look in looks]
    contrasts = [(look[:, 1].float().mean() - look[:, 0].float().mean()).item() / look.float().mean() for look in looks]
    saturations = [(look[0, 1, 0].item() - look[2, 1, 0].item()) / look[:, 1].float().mean().item() for look in looks]
    assert all(np.std(values) / np.mean(values) > 0.04 for values in (means, contrasts, saturations))
    assert abs(np.corrcoef(contrasts, means)[0, 1]) < 0.9


def test_gray_images_have_the_luma_in_all_channels() -> None:
    image = tv_tensors.Image(torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None])
    panoptic_map = tv_tensors.Mask(torch.ones(1, 1).int())
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert RandomGrayscale(probability=1.0)(image, panoptic_map)[0].flatten().tolist() == [luma] * 3
    assert RandomGrayscale(probability=0.0)(image, panoptic_map)[0] is image
    grays = [RandomGrayscale(probability=0.3)(image, panoptic_map)[0][0].item() == luma for _ in range(200)]
    assert 30 < sum(grays) < 90
