"""Reading image and label files: every way a file can be missing, corrupt or of the wrong kind is one `DatasetError`.

Three kinds of files: photographs (any mode, become RGB), COCO panoptic PNG files (8-bit RGB that encodes ids), and
single-channel label maps (8 or 16 bits).
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from panoptic_deeplab.errors import DatasetError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""File names that count as photographs, in lower case."""


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a photograph as RGB.

    Grey and palette images are expanded, alpha is dropped, 16-bit grey is divided by 257 (so 65535 becomes 255).
    EXIF orientation is not applied, as labels do not carry it.

    Raises:
        DatasetError: the file is missing, corrupt, or has neither 8 nor 16 bits a channel.
    """
    with _opened(path, "image") as picture:
        if picture.mode.startswith("I"):  # 16-bit grey; plain "I" where Pillow widens it
            grey = np.asarray(picture).astype(np.int64)
            _check_range(path, grey, 65535)
            return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
        if picture.mode == "F":
            raise DatasetError(f"{path} holds floating-point pixels. Expected 8 or 16 bits; convert the image.")
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")  # Pillow asks for this step before the alpha is dropped
        return np.asarray(picture.convert("RGB"))


def read_rgb_label(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a COCO panoptic PNG, undecoded.

    Raises:
        DatasetError: the file is missing, corrupt or not 8-bit RGB.
    """
    with _opened(path, "label") as picture:
        if picture.mode != "RGB":
            raise DatasetError(
                f"{path} has the pixel format {picture.mode}. Expected an 8-bit RGB PNG whose colours are segment ids"
                " R + 256 G + 65536 B (COCO panoptic format)."
            )
        return np.asarray(picture)


def read_id_label(path: Path) -> Int32[np.ndarray, "H W"]:
    """Read a label map with one number a pixel: 8 or 16-bit grey, or palette indices (the palette is ignored).

    Raises:
        DatasetError: the file is missing, corrupt, has several channels or negative numbers.
    """
    with _opened(path, "label") as picture:
        if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
            raise DatasetError(
                f"{path} has the pixel format {picture.mode}. Expected one channel of 8 or 16 bits, a number for each"
                " pixel; colours mean nothing here."
            )
        ids = np.asarray(picture).astype(np.int32)
        _check_range(path, ids, 2**24 - 1)
        return ids


def image_size(path: Path) -> tuple[int, int]:
    """`(height, width)` from the header of a file, without reading its pixels.

    Raises:
        DatasetError: the file is missing or no image.
    """
    with _opened(path, "image", load=False) as picture:
        return picture.height, picture.width


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, without surrounding blanks.

    Raises:
        DatasetError: the file cannot be read as text.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a text file: {error}.") from error


def check_same_size(
    image: UInt8[np.ndarray, "H W 3"], label: np.ndarray, *, image_path: Path, label_path: Path
) -> None:
    """Raise `DatasetError` where an image and its label have different heights or widths."""
    if image.shape[:2] != label.shape[:2]:
        raise DatasetError(
            f"{label_path} has the size (height, width) {label.shape[:2]}, but its image {image_path} has"
            f" {image.shape[:2]}. Expected the same size; labels are never resized on loading."
        )


@contextmanager
def _opened(path: Path, what: str, *, load: bool = True) -> Iterator[Image.Image]:
    if not path.is_file():
        raise DatasetError(f"The {what} {path} does not exist. Is the set complete, and the root folder right?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if load:
                    picture.load()
                yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"The {what} {path} is too large to be read safely: {error}") from error
    except DatasetError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:  # what Pillow raises
        raise DatasetError(f"The {what} {path} is corrupt or no image ({error}). Copy or download it again.") from error


def _check_range(path: Path, values: np.ndarray, highest: int) -> None:
    if values.size and (values.min() < 0 or values.max() > highest):
        raise DatasetError(f"{path} holds {values.min()}..{values.max()}. Expected numbers between 0 and {highest}.")
