import numpy as np
import pytest
import torch

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.images.prepare import image_tensor, padded_size, prepare_image, resized_size

PLAIN = InputConfig(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0))


def random_image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "rule", "expected"),
    [
        ((480, 640), InputConfig(), (480, 640)),
        ((480, 640), InputConfig(longest_side=320), (240, 320)),
        ((640, 427), InputConfig(longest_side=641), (641, 428)),
        ((101, 50), InputConfig(scale=1.5), (152, 75)),
        ((1000, 1), InputConfig(longest_side=100), (100, 1)),
    ],
)
def test_resized_size(size: tuple[int, int], rule: InputConfig, expected: tuple[int, int]) -> None:
    assert resized_size(size, rule) == expected


@pytest.mark.parametrize(
    ("size", "stride", "align_corners", "expected"),
    [
        ((1024, 2048), 16, True, (1025, 2049)),
        ((1025, 2049), 16, True, (1025, 2049)),
        ((2, 33), 32, True, (33, 33)),
        ((1, 1), 8, True, (1, 1)),
        ((1024, 2048), 16, False, (1024, 2048)),
        ((1025, 2049), 16, False, (1040, 2064)),
        ((1, 32), 32, False, (32, 32)),
    ],
)
def test_padded_size(size: tuple[int, int], stride: int, align_corners: bool, expected: tuple[int, int]) -> None:
    assert padded_size(size, stride, align_corners=align_corners) == expected


def test_prepared_image_is_normalized_content_and_zeros() -> None:
    image = random_image((20, 30))
    image.flags.writeable = False  # as arrays from image files are
    rule = InputConfig()
    tensor, content_size = prepare_image(image, input_config=rule, output_stride=16, align_corners=True)
    assert content_size == (20, 30)
    assert tensor.shape == (3, 33, 33)
    expected = (image / 255 - rule.pixel_mean) / rule.pixel_std
    np.testing.assert_allclose(tensor[:, :20, :30].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert not tensor[:, 20:].any()
    assert not tensor[:, :, 30:].any()


def test_prepared_image_follows_the_resize_rule() -> None:
    image = np.full((40, 20, 3), 51, np.uint8)
    tensor, content_size = prepare_image(
        image,
        input_config=InputConfig(longest_side=60, pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)),
        output_stride=8,
        align_corners=False,
    )
    assert content_size == (60, 30)
    assert tensor.shape == (3, 64, 32)
    torch.testing.assert_close(tensor[:, :60, :30], torch.full((3, 60, 30), 0.2))


@pytest.mark.parametrize(
    ("pad_to", "align_corners", "expected"),
    [((33, 33), True, (33, 33)), ((34, 20), True, (49, 49)), ((32, 64), False, (32, 64)), ((8, 8), False, (32, 48))],
)
def test_prepared_image_is_padded_to_the_crop(
    pad_to: tuple[int, int], align_corners: bool, expected: tuple[int, int]
) -> None:
    rule = InputConfig(pad_to=pad_to)
    width = 40 if pad_to != (33, 33) else 30
    tensor, content_size = prepare_image(
        random_image((20, width)), input_config=rule, output_stride=16, align_corners=align_corners
    )
    assert content_size == (20, width)
    assert tensor.shape[1:] == expected
    assert tensor[:, :20, :width].all(0).float().mean() > 0.9
    assert not tensor[:, 20:].any()
    assert not tensor[:, :, width:].any()


def test_image_tensor_does_not_change_a_read_only_array() -> None:
    image = random_image((4, 5))
    image.flags.writeable = False
    before = image.copy()
    image_tensor(image).zero_()
    assert np.array_equal(image, before)
