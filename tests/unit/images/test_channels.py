"""`input.channels`: which channels of an image the network sees, whatever way they are stored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.errors import ConfigError, ImageError
from panoptic_deeplab.images.intensity import viewable
from panoptic_deeplab.images.prepare import drawable, in_range, prepare_image, read_for
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.images.regions import open_regions

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")

CHOICE = InputConfig(channels=(4, 0, 0))
NUMBERS = np.random.default_rng(0).integers(0, 255, (6, 7, 5), np.uint8)
EXPECTED = NUMBERS[..., [4, 0, 0]]
PLANES = np.moveaxis(NUMBERS, -1, 0)


def _write(path: Path, how: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "samples": {"data": NUMBERS, "photometric": "minisblack", "planarconfig": "contig"},
        "rgb with more": {"data": NUMBERS, "photometric": "rgb", "planarconfig": "contig"},
        "planes": {"data": PLANES, "photometric": "minisblack", "planarconfig": "separate"},
        "imagej": {"data": PLANES, "imagej": True, "metadata": {"axes": "CYX"}},
        "ome": {"data": PLANES, "ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"},
    }
    tifffile.imwrite(path, **options[how])


@pytest.mark.parametrize("how", ["samples", "rgb with more", "planes", "imagej", "ome"])
def test_channels_are_chosen_however_they_are_stored(tmp_path: Path, how: str) -> None:
    _write(tmp_path / "a.tif", how)
    numbers = read_for(tmp_path / "a.tif", CHOICE)
    assert np.array_equal(numbers, NUMBERS)
    assert np.array_equal(in_range(numbers, CHOICE), EXPECTED)
    assert np.array_equal(drawable(numbers, CHOICE), EXPECTED)
    with open_regions(tmp_path / "a.tif", every_channel=True) as image:
        assert np.array_equal(image.read(slice(1, 3), slice(0, 7)), NUMBERS[1:3])


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
@pytest.mark.parametrize("how", ["imagej", "ome"])
def test_channels_of_each_picture_of_a_stack(tmp_path: Path, axes: str, how: str) -> None:
    stack = np.stack([PLANES, 255 - PLANES, PLANES // 2], axis=axes.index("Z"))
    options: dict[str, Any] = {how: True}
    if how == "imagej" and axes == "CZYX":
        pytest.skip("ImageJ has one order")
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": axes}, photometric="minisblack", **options)
    for page, numbers in enumerate((NUMBERS, 255 - NUMBERS, NUMBERS // 2)):
        assert np.array_equal(read_for(tmp_path / "a.tif", CHOICE, page=page), numbers)
    with pytest.raises(ImageError, match="has 3 pictures of 5 channels"):
        read_for(tmp_path / "a.tif", CHOICE)
    with pytest.raises(ImageError, match="has no page 3"):
        read_for(tmp_path / "a.tif", CHOICE, page=3)


def test_arrays_tensors_and_pictures_have_channels_too() -> None:
    for image in (NUMBERS, torch.from_numpy(PLANES.copy())):
        assert np.array_equal(in_range(read_for(image, CHOICE), CHOICE), EXPECTED)
    rgba = Image.fromarray(NUMBERS[..., :4])
    alpha = InputConfig(channels=(3, 3, 0))
    assert np.array_equal(in_range(read_for(rgba, alpha), alpha), NUMBERS[..., [3, 3, 0]])
    assert np.array_equal(in_range(read_for(rgba, InputConfig()), InputConfig()), NUMBERS[..., :3])


def test_gray_counts_as_three_equal_channels_and_others_must_be_there() -> None:
    chosen = InputConfig(channels=(2, 0, 1))
    assert (in_range(read_for(NUMBERS[..., 0], chosen), chosen) == NUMBERS[..., :1]).all()
    with pytest.raises(ImageError, match=r"has 3 channels, and `input.channels` asks for number 4"):
        in_range(read_for(NUMBERS[..., :3], CHOICE), CHOICE)
    with pytest.raises(ConfigError, match=r"input\.channels"):
        InputConfig(channels=(-1, 0, 0))


def test_choosing_comes_before_the_range() -> None:
    numbers = NUMBERS.astype(np.float32)
    numbers[..., 1] = 1e9  # a channel that is not chosen changes nothing
    config = InputConfig(channels=(4, 0, 0), range="percentile", percentiles=(0, 100))
    plain = replace(config, channels=None)
    alone = in_range(read_for(EXPECTED.astype(np.float32), plain), plain)
    assert np.array_equal(in_range(read_for(numbers, config), config), alone)


def test_network_sees_the_chosen_channels() -> None:
    seen = prepare_image(NUMBERS, input_config=CHOICE, output_stride=16, align_corners=True)
    expected = prepare_image(EXPECTED, input_config=InputConfig(), output_stride=16, align_corners=True)
    assert torch.equal(seen.tensor, expected.tensor)


def test_many_channels_without_a_choice_are_one_sentence(tmp_path: Path) -> None:
    _write(tmp_path / "a.tif", "samples")
    with pytest.raises(ImageError, match=r"a\.tif has other channels than gray, RGB or RGBA.*`input\.channels`"):
        read_image(tmp_path / "a.tif")


def test_what_people_see_of_any_numbers() -> None:
    assert np.array_equal(viewable(NUMBERS, where="it"), NUMBERS[..., :3])
    assert np.array_equal(viewable(NUMBERS[..., :2], where="it"), NUMBERS[..., [0, 1, 1]])
    wide = viewable(NUMBERS[..., :3].astype(np.float32) * 20 - 900, where="it")
    assert (wide.dtype, wide.min(), wide.max()) == (np.uint8, 0, 255)
