"""The range of an image's numbers: against sorting them, and through every door."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.errors import ConfigError, ImageError
from panoptic_deeplab.images.intensity import stretched, viewable
from panoptic_deeplab.images.prepare import (
    brightness_warning,
    drawable,
    for_object_size,
    in_range,
    read_for,
    resize_image,
)
from panoptic_deeplab.images.read import read_image

STRETCH = InputConfig(range="percentile")
DIM = np.random.default_rng(0).integers(300, 700, (40, 50), np.uint16)
"""A gray image of a camera of 12 bits: at 8 bits, three numbers are left of its 400."""


def test_transparency_is_no_brightness_and_a_file_that_is_not_finite_is_named(tmp_path) -> None:
    config = InputConfig(range=(0.0, 255.0))
    dark = np.random.default_rng(0).integers(0, 8, (9, 9, 4)).astype(np.uint8)
    dark[..., 3] = 255
    Image.fromarray(dark).save(tmp_path / "a.png")
    assert "from 0 to 7" in str(brightness_warning(tmp_path / "a.png", read_for(tmp_path / "a.png", config), config))
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ImageError, match=r"b\.tif has floating-point values that are not finite"):
        read_for(tmp_path / "b.tif", config)
    channels = np.zeros((4, 4, 5), np.float32)
    channels[..., 4] = np.nan  # which is not looked at
    chosen = InputConfig(range=(0.0, 1.0), channels=(0, 1, 2))
    assert read_for(channels, chosen).shape == (4, 4, 5)
    with pytest.raises(ImageError, match="The image has floating-point values that are not finite"):
        read_for(channels, InputConfig(range=(0.0, 1.0), channels=(0, 1, 4)))


def _reference(image: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    ranks = np.sort(image, axis=None)
    low, high = (float(ranks[int(p / 100 * (ranks.size - 1))]) for p in percentiles)
    return np.rint(255 * np.clip((image - low) / max(high - low, 1), 0, 1)).astype(np.uint8)


@given(
    image=st.one_of(arrays(np.uint8, (4, 5, 3)), arrays(np.uint16, (4, 5, 3))),
    percentiles=st.sampled_from([(0.0, 100.0), (0.1, 99.9), (10.0, 80.0), (50.0, 60.0)]),
)
def test_stretching_equals_sorting_and_twice_is_once(image, percentiles):
    once = stretched(image, percentiles)
    assert np.array_equal(once, _reference(image, percentiles))
    assert np.array_equal(stretched(once, percentiles), once)


def test_colors_are_stretched_together():
    image = np.zeros((10, 10, 3), np.uint8)
    image[..., 0], image[:5, :, 1] = 40, 20
    assert stretched(image, (0, 100))[0, 0].tolist() == [255, 128, 0]


def test_sixteen_bits_keep_their_depth(tmp_path):
    Image.fromarray(DIM).save(tmp_path / "a.png")
    assert len(np.unique(read_image(tmp_path / "a.png"))) <= 3
    deep = read_image(tmp_path / "a.png", deep=True)
    assert np.array_equal(deep, np.repeat(DIM[..., None], 3, axis=2))
    assert len(np.unique(in_range(deep, STRETCH))) > 250
    assert np.array_equal(in_range(deep, InputConfig()), read_image(DIM))
    assert resize_image(deep, input_config=STRETCH).shape == (3, 40, 50)


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.float64, np.int16])
def test_numbers_of_any_range_are_the_same_image(kind):
    deep = read_image((DIM.astype(np.float64) * 3 - 500).astype(kind), deep=True)
    difference = in_range(deep, STRETCH).astype(int) - in_range(read_image(DIM, deep=True), STRETCH)
    assert np.abs(difference).max() <= 1


def test_a_file_of_large_integers_is_read_in_depth_alone(tmp_path):
    Image.fromarray(DIM.astype(np.int32) * 1000).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", deep=True).dtype == np.uint16
    with pytest.raises(ImageError, match="Expected 0 to 65535"):
        read_image(tmp_path / "a.tif")


def test_numbers_that_are_none_are_refused():
    for values, message in [(np.array([[1.0, np.nan]]), "finite"), (np.array([["a"]]), "dtype <U1")]:
        with pytest.raises(ImageError, match=message):
            read_image(values, deep=True)


def test_a_labeled_set_keeps_the_depth_of_its_images(tmp_path):
    for name in ("images", "instances"):
        (tmp_path / name).mkdir()
    Image.fromarray(DIM).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.ones(DIM.shape, np.uint8)).save(tmp_path / "instances" / "a.png")
    (tmp_path / "train.txt").write_text("a\n")
    sample = FolderSource(tmp_path, "train", CategoryTable.load("nuclei"))[0]
    assert np.array_equal(sample.pixels[..., 0], DIM)
    assert np.array_equal(sample.image, viewable(sample.pixels, where="it"))


def test_objects_of_another_size_get_another_scale():
    config = InputConfig(scale=1.5, object_size=20.0)
    assert for_object_size(config, 60.0) == InputConfig(scale=0.5, object_size=60.0)
    for other in (InputConfig(), InputConfig(object_size=20.0, longest_side=100)):
        with pytest.raises(ConfigError, match=re.escape("Set `input.scale`")):
            for_object_size(other, 60.0)
    with pytest.raises(ConfigError, match="positive"):
        for_object_size(config, 0.0)


LEVELS = InputConfig(range=(300.0, 700.0))


@given(
    image=st.one_of(
        arrays(np.uint8, (4, 5, 3)),
        arrays(np.uint16, (4, 5, 3)),
        arrays(np.int32, (4, 5, 3)),
        arrays(np.float32, (4, 5, 3), elements=st.floats(-1e6, 1e6, width=32)),
    ),
    levels=st.sampled_from([(0.0, 255.0), (10.0, 80.0), (-0.5, 0.25), (100.0, 4095.0)]),
)
def test_two_numbers_are_black_and_white_of_any_type(image, levels):
    low, high = levels
    expected = np.rint(255 * np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)).astype(np.uint8)
    assert np.array_equal(in_range(image, InputConfig(range=levels)), expected)


@given(
    image=st.one_of(
        arrays(np.uint8, (6, 7)),
        arrays(np.uint16, (6, 7)),
        arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=32)),
    ),
)
def test_the_range_of_the_type_in_numbers_is_the_range_of_the_type(image):
    white = {"u": np.iinfo(image.dtype).max if image.dtype.kind == "u" else 0, "f": 1}[image.dtype.kind]
    by_numbers = in_range(read_for(image, InputConfig(range=(0, white))), InputConfig(range=(0, white)))
    difference = by_numbers.astype(int) - in_range(read_for(image, InputConfig()), InputConfig())
    assert np.abs(difference).max() <= (image.dtype.kind == "f")  # 0.9 of a float32 times 255 is a half, or nearly


def test_two_numbers_keep_what_is_bright_in_one_image_and_dark_in_another(tmp_path):
    for name, factor in (("bright", 1), ("dark", 2)):
        Image.fromarray(DIM // factor).save(tmp_path / f"{name}.png")
    wide = InputConfig(range=(0.0, 700.0))
    bright, dark = (in_range(read_for(tmp_path / f"{n}.png", wide), wide) for n in ("bright", "dark"))
    assert np.abs(bright / 2 - dark).max() <= 1
    assert np.array_equal(
        in_range(read_for(tmp_path / "bright.png", STRETCH), STRETCH),
        in_range(read_for(DIM, STRETCH), STRETCH),
    )


def test_numbers_of_files_are_those_of_the_setting(tmp_path):
    Image.fromarray(DIM).save(tmp_path / "a.png")
    Image.fromarray(DIM.astype(np.float32)).save(tmp_path / "a.tif")
    expected = np.rint(255 * (DIM.astype(float) - 300) / 400).astype(np.uint8)
    for source in (tmp_path / "a.png", tmp_path / "a.tif", DIM, DIM.astype(np.float64)):
        seen = in_range(read_for(source, LEVELS), LEVELS)
        assert np.array_equal(seen, np.repeat(expected[..., None], 3, axis=2))


def test_two_numbers_drop_transparency_and_want_three_channels():
    config = InputConfig(range=(0.0, 255.0))
    rgba = np.arange(80, dtype=np.uint8).reshape(4, 5, 4)
    assert np.array_equal(in_range(read_for(rgba, config), config), rgba[..., :3])
    assert np.array_equal(drawable(read_for(rgba, config), config), rgba[..., :3])
    with pytest.raises(ImageError, match=r"has 5 channels\. Name the three"):
        in_range(np.zeros((4, 5, 5), np.uint8), config)
    with pytest.raises(ImageError, match="not finite"):
        in_range(np.full((4, 5, 3), np.nan), config)


def test_a_range_that_does_not_rise_is_refused():
    for levels in ((1.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match=r"`input\.range` must be type, percentile or two rising numbers"):
            InputConfig(range=levels)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 4095), None),
        ((0, 900), "from 0 to 900, so little of `input.range` 0 4095"),
        ((5000, 60000), "from 5000 to 60000"),
        ((77, 77), None),
    ],
)
def test_images_that_use_little_of_two_numbers_are_named(tmp_path, values, said):
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "a.png")
    config = InputConfig(range=(0.0, 4095.0))
    warning = brightness_warning(tmp_path / "a.png", read_for(tmp_path / "a.png", config), config)
    assert warning is None if said is None else said in str(warning)


def test_percentiles_and_chosen_channels_need_no_warning(tmp_path):
    Image.fromarray(DIM).save(tmp_path / "a.png")
    for config in (STRETCH, InputConfig(channels=(0, 1, 2))):
        assert brightness_warning(tmp_path / "a.png", read_for(tmp_path / "a.png", config), config) is None
    plain = InputConfig()
    assert "16 bits" in str(brightness_warning(tmp_path / "a.png", read_for(tmp_path / "a.png", plain), plain))


def test_people_see_something_of_a_dark_image():
    shown = viewable(np.repeat(DIM[..., None], 3, axis=2), where="it")
    assert shown.min() == 0
    assert shown.max() == 255
