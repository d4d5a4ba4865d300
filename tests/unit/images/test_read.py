"""Every kind of image becomes RGB uint8, or an `ImageError`."""

import os
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.encoded import read_encoded
from panoptic_deeplab.images.read import IMAGE_SUFFIXES, find_images, range_warning, read_image

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
GRAY = np.array([[0, 100, 255], [7, 8, 9]], np.uint8)


def _gray3(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def _alpha(image: np.ndarray) -> np.ndarray:
    return np.dstack([image, np.zeros(image.shape[:2], np.uint8)])


def _closed_picture() -> Image.Image:
    picture = Image.new("RGB", (4, 4))
    picture.close()
    return picture


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (_alpha(RGB), RGB),
        (GRAY, _gray3(GRAY)),
        (GRAY[..., None], _gray3(GRAY)),
        (RGB.astype(np.uint16) * 257, RGB),
        (np.array([[0, 127, 128, 129, 65535]], np.uint16), _gray3([[0, 0, 0, 1, 255]])),
        (RGB / np.float32(255), RGB),
        (RGB / 255, RGB),
        (np.array([[False, True]]), _gray3([[0, 255]])),
        (RGB[:, ::-1], RGB[:, ::-1]),
    ],
)
def test_arrays(array, expected):
    image = read_image(array)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_have_channels_first(dtype):
    tensor = torch.tensor([0, 64, 128, 255, 32, 16], dtype=torch.uint8).reshape(1, 2, 3).repeat(3, 1, 1)
    expected = tensor.permute(1, 2, 0).numpy()
    image = read_image(tensor if dtype == torch.uint8 else (tensor / 255).to(dtype))
    assert np.abs(image.astype(int) - expected).max() <= (1 if dtype == torch.bfloat16 else 0)


def test_tensors_of_one_and_four_channels():
    assert np.array_equal(read_image(torch.from_numpy(GRAY)[None]), _gray3(GRAY))
    assert np.array_equal(read_image(torch.from_numpy(_alpha(RGB)).permute(2, 0, 1)), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "P", "PA"])
def test_pil_modes_look_the_same(mode):
    image = Image.new("RGB", (3, 2), (250, 250, 250)).convert(mode)
    assert np.abs(read_image(image).astype(int) - 250).max() <= 5


def test_transparency_is_dropped_without_a_warning(tmp_path):
    image = Image.fromarray(GRAY).convert("P")
    image.putpalette([c for i in range(256) for c in (i, 255 - i, 0)])
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    expected = np.stack([GRAY, 255 - GRAY, np.zeros_like(GRAY)], axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(tmp_path / "a.png"), expected)
    assert np.array_equal(read_image(Image.fromarray(_alpha(RGB))), RGB)


def test_sixteen_bit_files_are_divided_by_257(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(GRAY.astype(np.uint16) * 257).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), _gray3(GRAY))
    assert np.array_equal(read_image(Image.fromarray(GRAY.astype(np.int32) * 257)), _gray3(GRAY))
    assert np.array_equal(read_image(Image.fromarray(GRAY.astype(np.float32) / 255)), _gray3(GRAY))
    with pytest.raises(ImageError, match="0 to 65535"):
        read_image(Image.fromarray(GRAY.astype(np.int32) * 1000))


def test_exif_orientation_is_applied_to_files_and_pil_images(tmp_path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(RGB).save(path, exif=exif)
    expected = np.rot90(RGB, -1)
    assert np.array_equal(read_image(path), expected)
    with Image.open(str(path)) as image:
        assert np.array_equal(read_image(image), expected)


def test_paths_may_be_text(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert np.array_equal(read_image(str(tmp_path / "a.png")), RGB)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((0, 3, 3), np.uint8), "no pixels"),
        (np.zeros((3, 4, 5), np.uint8), r"Got \(3, 4, 5\)"),
        (np.zeros((3, 4, 2), np.uint8), r"1, 3 or 4 channels"),
        (np.zeros((1, 3, 4, 3), np.uint8), r"Got \(1, 3, 4, 3\)"),
        (np.zeros(5, np.uint8), r"Got \(5,\)"),
        (np.full((2, 2, 3), 255.0), "from 255 to 255"),
        (np.full((2, 2, 3), -0.1), "divide by 255"),
        (np.full((2, 2, 3), np.nan), "nan"),
        (np.zeros((2, 2, 3), np.int64), "dtype int64"),
        (torch.zeros(2, 3, 3), r"\(channels, H, W\)"),
        (torch.zeros(1, 3, 8, 8), r"Got \(1, 3, 8, 8\)"),
        (torch.zeros(3, 0, 4), "no pixels"),
        (Image.new("RGB", (0, 4)), "no pixels"),
    ],
)
def test_unusable_inputs_are_errors(source, message):
    with pytest.raises(ImageError, match=message):
        read_image(source)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow says so before it gives up
def test_missing_corrupt_and_truncated_files_are_errors(tmp_path):
    with pytest.raises(ImageError, match=r"no image file .*none\.jpg"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=r"it is a folder, a pipe or a device"):
        read_image(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "a.png", "a.tif", "a.webp", "a.gif"):
        path = tmp_path / name
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
        whole = path.read_bytes()
        for part in (b"", whole[:10], whole[: len(whole) // 2], b"not an image"):
            path.write_bytes(part)
            with pytest.raises(ImageError, match=name):
                read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_pil_images_are_errors(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-800])
    with Image.open(path) as image, pytest.raises(ImageError, match="the PIL image is corrupt or no image"):
        read_image(image)  # Pillow reads the pixels only here


@pytest.mark.parametrize("limit", [1000, 100])  # Pillow warns above the limit and raises above twice the limit
def test_files_with_too_many_pixels_are_errors(tmp_path, monkeypatch, limit):
    Image.new("RGB", (40, 40)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(
        ImageError, match=rf"bomb.png is too large: 1600 pixels. At most {limit} are read, and .* takes 9.6e-06 GB"
    ):
        read_image(tmp_path / "bomb.png")


def test_the_limit_holds_where_another_thread_takes_the_filter_of_warnings_away(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(warnings, "simplefilter", lambda *filter_: None)
        with pytest.raises(ImageError, match=r"bomb.png is too large: 1600 pixels"):
            read_image(tmp_path / "bomb.png")


def test_images_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    assert read_image("~/a.png").shape == (3, 4, 3)
    assert find_images("~") == find_images("~/*.png") == [tmp_path / "a.png"]


def test_find_images_in_files_folders_and_patterns(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.png", "odd[1].png"):
        (tmp_path / name).touch()
    found = [p.name for p in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "odd[1].png"]
    assert find_images(str(tmp_path / "odd[1].png")) == [tmp_path / "odd[1].png"]
    assert find_images(f"{tmp_path}/**/*.png") == [tmp_path / n for n in ("a.png", "odd[1].png", "sub/c.png")]
    assert find_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_relative_patterns_start_at_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    assert [p.name for p in find_images("*.png")] == ["a.png"]


@pytest.mark.parametrize("name", ["none.png", "*.jpg", "empty"])
def test_finding_nothing_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"no (file|image file|match)|There is no file"):
        find_images(tmp_path / name)


@pytest.mark.parametrize("name", ["a**.png", "**b/*.png", 300 * "x" + ".png", 5000 * "x"])
def test_paths_that_the_system_refuses_are_one_sentence(tmp_path, name):
    with pytest.raises(ImageError, match=r"is no path or pattern|There is no file"):
        find_images(tmp_path / name)
    with pytest.raises(ImageError, match=r"File name too long|does not exist"):
        read_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    os.mkfifo(path)
    monkeypatch.setattr(Image, "open", lambda path: pytest.fail("waits for whoever writes into the pipe"))
    with pytest.raises(ImageError, match=r"no image file .*a\.png: it is a folder, a pipe or a device"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png", "avif"])
def test_files_of_several_pages_are_refused_and_a_copy_of_one_is_taken(tmp_path, suffix):
    path, pages = tmp_path / f"a.{suffix}", [Image.new("RGB", (8, 8), (90 * i, 20, 30)) for i in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match=rf"a\.{suffix} has 3 pages or frames"):
        read_image(path)
    with Image.open(path) as picture:
        with pytest.raises(ImageError, match=r"the PIL image has 3 pages or frames.*picture.copy\(\)"):
            read_image(picture)
        picture.seek(1)
        assert abs(int(read_image(picture.copy())[0, 0, 0]) - 90) < 6


def test_previews_of_phones_and_reduced_copies_of_a_tiff_are_no_pages(tmp_path):
    large, small = Image.new("RGB", (64, 64), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    large.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[small])
    with Image.open(tmp_path / "phone.jpg") as picture:
        assert (picture.format, picture.n_frames) == ("MPO", 2)
    small = Image.new("RGB", (16, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: a reduced copy
    Image.new("RGB", (64, 64)).save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "pyramid.tif") as picture:
        assert picture.n_frames == 2
    for name in ("phone.jpg", "pyramid.tif"):
        assert read_image(tmp_path / name).shape == (64, 64, 3)


def _png16(path, values: np.ndarray) -> None:
    """A 16-bit color PNG, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("highest", "message"),
    [
        (4095, r"no value above 4095 of 65535.*12-bit data, set `input\.range` to 0 4095, or to percentile"),
        (16383, r"14-bit data, set `input\.range` to 0 16383"),
        (200, r"8-bit data, set `input\.range` to 0 255"),
        (16384, None),
        (65535, None),
        (0, None),
    ],
)
def test_sixteen_bit_files_of_fewer_bits_get_a_warning(tmp_path, highest, message):
    values = np.array([[0, highest], [highest // 2, 0]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "wide.tif")
    for name in ("a.png", "a.tif", "wide.tif"):
        warning = range_warning(tmp_path / name)
        assert (warning is None) == (message is None)
        assert warning is None or (name in warning and re.search(message, warning))


def test_sixteen_bit_colors_of_fewer_bits_get_a_warning(tmp_path):
    for channels in (3, 4):
        _png16(tmp_path / "a.png", np.full((2, 3, channels), 4000, np.uint16))
        assert "to 0 4095" in str(range_warning(tmp_path / "a.png"))
        _png16(tmp_path / "a.png", np.full((2, 3, channels), 40000, np.uint16))
        assert range_warning(tmp_path / "a.png") is None


def test_eight_bit_files_get_no_warning_however_dark(tmp_path):
    for mode in ("L", "RGB", "P", "1", "F"):
        Image.new(mode, (3, 2)).save(tmp_path / "a.tif")
        assert range_warning(tmp_path / "a.tif") is None


def test_pictures_that_no_decoder_reads_are_named(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ImageError, match=r"a.heic is a picture in the format HEIC.*Convert it"):
        read_image(tmp_path / "a.heic")
    Image.fromarray(RGB).save(tmp_path / "really_png.heic", format="PNG")
    assert np.array_equal(read_image(tmp_path / "really_png.heic"), RGB)
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"link.png: it is a link to a file that does not exist"):
        read_image(tmp_path / "link.png")


def test_programs_are_refused_before_they_run(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(ImageError, match=r"a.png is a picture in the format EPS"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".mpo", ".psd"}))
def test_every_suffix_that_counts_is_read(tmp_path, suffix):
    path, mode = tmp_path / f"a{suffix.upper()}", {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    Image.new(mode, (8, 8)).save(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(path)
    assert find_images(tmp_path) == [path]
    assert read_image(path).shape == (8, 8, 3)


def test_hidden_pictures_are_named(tmp_path, caplog):
    for name in ("a.png", "._a.png", ".b.jpg", ".DS_Store"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images(tmp_path)] == ["a.png"]
    assert f"Hidden files of {tmp_path} are not read: ._a.png, .b.jpg." in caplog.text
    caplog.clear()
    find_images(f"{tmp_path}/*.png")
    assert "are not read: ._a.png." in caplog.text
    caplog.clear()
    find_images(f"{tmp_path}/._*.png")
    find_images(tmp_path / "._a.png")
    assert caplog.text == ""


def test_a_folder_lists_what_cannot_be_read_and_leaves_out_what_the_system_hides(tmp_path):
    for name in ("a.jfif", "b.heic", "._a.jfif", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in find_images(tmp_path)] == ["a.jfif", "b.heic", "c.png"]
    assert [p.name for p in find_images(f"{tmp_path}/*.*f")] == ["a.jfif"]
    assert [p.name for p in find_images(f"{tmp_path}/*.png")] == ["c.png"]
    assert [p.name for p in find_images(f"{tmp_path}/._*")] == ["._a.jfif"]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: torch.zeros(3, 4, 4).to_sparse(), "sparse"),
        (lambda: torch.zeros(3, 4, 4).permute(1, 2, 0).to_sparse(), "sparse"),
        (lambda: torch.zeros(3, 4, 4, device="meta"), "meta"),
        (lambda: torch.zeros(3, 4, 4, dtype=torch.complex64).conj(), "complex64"),
        (lambda: np.full((4, 4, 3), None), "object"),
        (lambda: np.zeros((4, 4), [("red", "u1")]), "red"),
        (_closed_picture, "closed"),
    ],
)
def test_images_without_pixels_in_memory_are_one_sentence(make, word):
    with pytest.raises(ImageError, match=word) as caught:
        read_image(make())
    assert "\n" not in str(caught.value)


def test_a_view_that_negates_is_read_by_its_values():
    values = torch.full((1, 2, 2), -1j, dtype=torch.complex64).conj().imag
    assert (read_image(values) == 255).all()


def test_sixteen_bit_colors_have_numbers_of_sixteen_bits(tmp_path):
    values = np.array([[[0, 4000, 65535], [256, 513, 40000]]], np.uint16)
    _png16(tmp_path / "a.png", values)
    numbers = read_image(tmp_path / "a.png", every_channel=True)
    assert numbers.dtype == np.uint16
    assert np.abs(numbers.astype(int) - values).max() < 256  # Pillow keeps the upper byte
    assert np.array_equal(read_encoded((tmp_path / "a.png").read_bytes(), max_pixels=9, every_channel=True), numbers)
    assert read_image(tmp_path / "a.png").dtype == np.uint8


def test_videos_of_a_folder_are_named(tmp_path, caplog):
    (tmp_path / "b.MP4").touch()
    with pytest.raises(ImageError, match=r"has videos, and no image. Name the videos: .*b\.MP4"):
        find_images(tmp_path)
    (tmp_path / "a.png").touch()
    assert [p.name for p in find_images(tmp_path)] == ["a.png"]
    assert f"Videos of {tmp_path} are not taken with its images: b.MP4." in caplog.text
