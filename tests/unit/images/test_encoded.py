"""Images that come as bytes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.encoded import TooManyPixelsError, UnknownFormatError, read_encoded
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.images.write import encoded

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 31, 3), np.uint8)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_reads_what_the_file_gives(form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(Image.fromarray(PIXELS), form, **({} if form == "tiff" else {"exif": exif}))
    path = tmp_path / f"image.{form}"
    path.write_bytes(data)
    found = read_encoded(data, max_pixels=20 * 31)
    assert np.array_equal(found, read_image(path))
    assert found.shape == ((20, 31, 3) if form == "tiff" else (31, 20, 3))


def test_keeps_16_bits_where_asked() -> None:
    gray = np.full((4, 5), 300, np.uint16)
    data = encoded(Image.fromarray(gray), "png")
    assert read_encoded(data, max_pixels=20, deep=True).dtype == np.uint16
    assert read_encoded(data, max_pixels=20).dtype == np.uint8


@pytest.mark.parametrize("form", ["gif", "bmp"])
def test_other_formats_and_text_are_unknown(form: str) -> None:
    for data in (encoded(Image.fromarray(PIXELS), form), b"hello", b""):
        with pytest.raises(UnknownFormatError, match="Expected a complete PNG, JPEG, WebP or TIFF file") as error:
            read_encoded(data, max_pixels=10**6)
        assert "0x" not in str(error.value)


@pytest.mark.parametrize("side", [100, 20_000, 60_000])
def test_the_head_is_looked_at_before_the_pixels(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("the pixels were asked for")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + struct.pack(">I", zlib.crc32(head))
    body = b"IDAT" + zlib.compress(bytes(9))
    data += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(TooManyPixelsError, match="At most 9999 are read"):
        read_encoded(data, max_pixels=9999)


def test_truncated_files_and_pages_are_errors() -> None:
    with pytest.raises(ImageError, match="corrupt"):
        read_encoded(encoded(Image.fromarray(PIXELS), "png")[:900], max_pixels=10**6)
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    with pytest.raises(ImageError, match="2 pages"):
        read_encoded(file.getvalue(), max_pixels=10**6)


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom", b"RIFF\0\0\0\0AVI LIST", b"\x1a\x45\xdf\xa3\x01"])
def test_videos_are_told_what_they_are(head: bytes) -> None:
    with pytest.raises(UnknownFormatError, match=r"It is a video.*Send its frames one by one"):
        read_encoded(head + bytes(50), max_pixels=9, where="It")
    with pytest.raises(UnknownFormatError, match="is no image that is read here"):
        read_encoded(b"\0\0\0\x18ftypheic" + bytes(50), max_pixels=9)


def test_pages_are_told_what_to_do() -> None:
    pages = [Image.fromarray(PIXELS)] * 3
    data = encoded(pages[0], "tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(
        ImageError, match=r"It has 3 pages or frames. Expected one picture: save each of them as a file"
    ):
        read_encoded(data, max_pixels=10**6, where="It")


def test_a_tiff_of_many_channels_is_told_apart() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((9, 8, 5), np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnknownFormatError, match="It is a TIFF with other channels than gray, RGB or RGBA"):
        read_encoded(file.getvalue(), max_pixels=10**6, where="It")
