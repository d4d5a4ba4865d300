"""Reading image and label files, whole and broken."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.data.label_files import read_id_label, read_lines, read_rgb_label, read_upright_image
from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.images import read as images
from panoptic_deeplab.images.prepare import in_range, read_for


def saved(path: Path, picture: Image.Image) -> Path:
    picture.save(path)
    return path


def test_gray_jpeg_becomes_rgb(tmp_path):
    image = read_upright_image(saved(tmp_path / "a.jpg", Image.new("L", (5, 3), 80)))
    assert image.shape == (3, 5, 3)
    assert (image == 80).all()


def test_16_bit_gray_keeps_its_depth(tmp_path):
    values = np.array([[0, 257, 65535, 32896]], np.uint16)
    image = read_upright_image(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert image[0, :, 0].tolist() == [0, 257, 65535, 32896]
    assert (image == image[..., :1]).all()


def test_alpha_is_a_channel_and_palettes_are_expanded(tmp_path):
    rgba = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert read_upright_image(saved(tmp_path / "a.png", rgba))[0, 0].tolist() == [10, 20, 30, 0]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.info["transparency"] = b"\x00\x80"
    assert read_upright_image(saved(tmp_path / "p.png", palette))[0, 0].tolist() == [200, 100, 50, 128]


@pytest.mark.parametrize(
    "config",
    [
        InputConfig(),
        InputConfig(range="percentile", percentiles=(0, 90)),
        InputConfig(channels=(2, 0, 0)),
        InputConfig(channels=(1, 1, 0), range="percentile"),
    ],
    ids=["type", "percentile", "channels", "both"],
)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_network_sees_the_same_in_training_and_prediction(tmp_path, mode, config):
    gray = np.arange(24).reshape(4, 6) * 10
    if mode in ("I;16", "F"):
        picture = Image.fromarray((gray * 257).astype(np.uint16) if mode == "I;16" else (gray / 255).astype(np.float32))
    else:
        picture = Image.fromarray(np.dstack([gray, 255 - gray, gray // 2]).astype(np.uint8)).convert(mode)
    path = saved(tmp_path / "a.tif", picture)
    trained, predicted = in_range(read_upright_image(path), config), in_range(read_for(path, config), config)
    assert np.array_equal(trained, predicted)
    assert np.ptp(trained) > 0


def test_floating_point_images_of_any_range_are_seen_alike(tmp_path):
    values = np.linspace(-3, 900, 24, dtype=np.float32).reshape(4, 6)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    config = InputConfig(range="percentile", percentiles=(0, 100))
    trained = in_range(read_upright_image(path), config)
    assert np.array_equal(trained, in_range(read_for(path, config), config))
    assert (trained.min(), trained.max()) == (0, 255)
    for read in (read_upright_image, lambda path: read_for(path, InputConfig())):
        with pytest.raises(ImageError, match=r"floating-point values from -3 to 900. Expected 0 to 1"):
            in_range(read(path), InputConfig())


@pytest.mark.parametrize("orientation", [2, 6])
def test_images_that_viewers_turn_are_refused(tmp_path, orientation):
    exif = Image.Exif()
    path = tmp_path / "a.jpg"
    for harmless in (1, 0, 9):
        exif[0x0112] = harmless
        Image.new("RGB", (6, 4)).save(path, exif=exif)
        assert read_upright_image(path).shape == (4, 6, 3)
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    with pytest.raises(DatasetError, match=rf"a.jpg has the EXIF orientation {orientation}.*Store both upright"):
        read_upright_image(path)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("read", [read_upright_image, read_rgb_label, read_id_label])
def test_images_and_labels_are_turned_by_nobody(tmp_path, suffix, read):
    exif = Image.Exif()
    exif[0x0112] = 3
    path, mode = tmp_path / f"a.{suffix}", "L" if read is read_id_label else "RGB"
    Image.new(mode, (4, 4)).save(path, exif=exif)  # Pillow would turn the TIFF, and not the PNG
    with pytest.raises(DatasetError, match=rf"a.{suffix} has the EXIF orientation 3"):
        read(path)


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_whose_numbers_pillow_scales_are_refused(tmp_path, bits):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)  # gray; the two pixels are 1 and 2
    row = bytes([0, (1 << bits | 2) << 8 - 2 * bits])
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")
    path = tmp_path / "few.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert images.read_image(path).max() == 2 * 255 // (2**bits - 1)
    with pytest.raises(DatasetError, match=rf"few.png is stored as gray of few bits .*\(L;{bits}\)"):
        read_id_label(path)


def test_labels_whose_zero_is_white_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[1, 2]], np.uint8)))
    content = path.read_bytes()
    black = struct.pack("<HHIHH", 262, 3, 1, 1, 0)  # tag PhotometricInterpretation
    assert content.count(black) == 1
    path.write_bytes(content.replace(black, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    with pytest.raises(DatasetError, match=r"a.tif is stored as .*inverted gray \(L;I\)"):
        read_id_label(path)


def test_id_labels_of_8_and_16_bits_and_palettes(tmp_path):
    ids = np.array([[0, 7], [255, 3]])
    for name, array in (("a", ids.astype(np.uint8)), ("b", (ids * 257).astype(np.uint16))):
        read = read_id_label(saved(tmp_path / f"{name}.png", Image.fromarray(array)))
        assert read.dtype == np.int32
        assert (read == array).all()
    palette = Image.fromarray(np.array([[2, 1]], np.uint8)).convert("P")
    palette.putpalette([9] * 768)
    assert read_id_label(saved(tmp_path / "p.png", palette)).tolist() == [[2, 1]]


def test_labels_of_the_wrong_kind_are_refused(tmp_path):
    gray = saved(tmp_path / "gray.png", Image.new("L", (2, 2)))
    color = saved(tmp_path / "color.png", Image.new("RGB", (2, 2)))
    with pytest.raises(DatasetError, match=r"gray.png has the pixel format L. Expected an 8-bit RGB"):
        read_rgb_label(gray)
    with pytest.raises(DatasetError, match=r"color.png has the pixel format RGB. Expected one channel"):
        read_id_label(color)


@pytest.mark.parametrize("read", [read_upright_image, read_rgb_label, read_id_label])
def test_missing_and_broken_files_are_named(tmp_path, read):
    with pytest.raises(DatasetError, match=r"gone.png does not exist"):
        read(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DatasetError, match=r"text.png is corrupt"):
        read(tmp_path / "text.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(tmp_path / f"cut.{suffix}", Image.fromarray(noise))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DatasetError, match=r"cut.*is corrupt"):
        read_upright_image(path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.png", Image.new("RGB", (40, 40)))
    for limit in (1000, 100):  # Pillow warns above the limit and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DatasetError, match=r"The image .*bomb.png is too large: 1600 pixels"):
            read_upright_image(path)


def test_lines_skip_blanks_and_name_the_file(tmp_path):
    (tmp_path / "list.txt").write_text("a\n\n b \n")
    assert read_lines(tmp_path / "list.txt") == ["a", "b"]
    with pytest.raises(DatasetError, match=r"none.txt cannot be read"):
        read_lines(tmp_path / "none.txt")


@pytest.mark.parametrize("suffix", ["jpg", "gif", "webp", "jp2", "pgm"])
def test_labels_in_formats_that_change_numbers_are_refused(tmp_path, suffix):
    gray, color = Image.new("L", (32, 32), 3), Image.new("RGB", (32, 32), (3, 2, 1))
    with pytest.raises(DatasetError, match=r"a\.\w+ is stored as \w+ with numbers that may have changed"):
        read_id_label(saved(tmp_path / f"a.{suffix}", color if suffix == "webp" else gray))
    color.save(tmp_path / "b.png", format="JPEG")
    with pytest.raises(DatasetError, match=r"b.png is stored as JPEG"):
        read_rgb_label(tmp_path / "b.png")
    gray.save(tmp_path / "c.tif", compression="jpeg")
    with pytest.raises(DatasetError, match=r"c.tif is stored as TIFF with numbers"):
        read_id_label(tmp_path / "c.tif")


def test_labels_and_images_of_several_pages_are_refused(tmp_path):
    page = Image.new("L", (4, 4), 1)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page.copy()])
    for read in (read_upright_image, read_id_label):
        with pytest.raises(DatasetError, match=r"a.tif has 2 pages or frames"):
            read(tmp_path / "a.tif")


def test_a_broken_link_is_told_from_a_missing_file(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DatasetError, match=r"a.png: it is a link to a file that does not exist"):
        read_upright_image(tmp_path / "a.png")
