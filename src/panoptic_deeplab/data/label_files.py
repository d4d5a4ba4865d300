"""Reading image and label files: every way a file can be missing, corrupt or of the wrong kind is one `DatasetError`.

Three kinds of files: photographs (any mode, become RGB by the rules of `panoptic_deeplab/images/read.py`), COCO
panoptic PNG files (8-bit RGB that encodes ids), and single-channel label maps (8 or 16 bits).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.files import read_text
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.read import decode, exif_orientation, opened
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID

_EXACT_FORMATS = frozenset({"BMP", "PNG", "TGA", "TIFF"})
"""Formats that give every number of a label back as it was written. JPEG does not, and writers of GIF number the colors
anew."""

_CHANGED_GRAY = re.compile(r"[1L];[24I].*")
"""Pillow's raw modes that it spreads over 0 to 255, or inverts (a TIFF whose 0 is white)."""

_LOSSY_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})


def read_upright_image(path: Path) -> Pixels:
    """Read a photograph as RGB, the pixels as they are stored, with all of their bits.

    Raises:
        DatasetError: the file is missing, corrupt, too large, to be turned by viewers, or has values out of range.
    """
    with _opened(path, "image") as picture:
        return decode(picture, where=str(path), exif=False, deep=picture.mode.startswith("I;16"))


def read_rgb_label(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a COCO panoptic PNG, undecoded.

    Raises:
        DatasetError: the file is missing, corrupt or not 8-bit RGB.
    """
    with _opened(path, "label", _check_exact) as picture:
        if picture.mode != "RGB":
            raise DatasetError(
                f"{path} has the pixel format {picture.mode}. Expected an 8-bit RGB PNG whose colors are segment ids"
                " R + 256 G + 65536 B (COCO panoptic format)."
            )
        return np.asarray(picture)


def read_id_label(path: Path) -> Int32[np.ndarray, "H W"]:
    """Read a label map with one number a pixel: 8 or 16-bit gray, or palette indices (the palette is ignored).

    Raises:
        DatasetError: the file is missing, corrupt, has several channels or negative numbers.
    """
    with _opened(path, "label", _check_exact) as picture:
        if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
            raise DatasetError(
                f"{path} has the pixel format {picture.mode}. Expected one channel of 8 or 16 bits, a number for each"
                " pixel; colors mean nothing here."
            )
        ids = np.asarray(picture).astype(np.int32)
        if ids.size and (ids.min() < 0 or ids.max() > MAX_SEGMENT_ID):
            raise DatasetError(f"{path} holds {ids.min()} to {ids.max()}. Expected numbers from 0 to {MAX_SEGMENT_ID}.")
        return ids


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, without surrounding blanks.

    Raises:
        DatasetError: the file cannot be read as text.
    """
    text = read_text(path, what="list", error=DatasetError)
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_same_size(
    image: UInt8[np.ndarray, "H W 3"], label: np.ndarray, *, image_path: Path, label_path: Path
) -> None:
    """Raise `DatasetError` where an image and its label have different heights or widths."""
    if image.shape[:2] != label.shape[:2]:
        raise DatasetError(
            f"{label_path} has the size (height, width) {label.shape[:2]}, but its image {image_path} has"
            f" {image.shape[:2]}. Expected the same size; labels are never resized on loading."
        )


def _check_upright(picture: Image.Image, path: Path) -> None:
    """Raise where viewers turn a picture: its counterpart could belong to either form. (Pillow itself turns TIFFs.)"""
    orientation = exif_orientation(picture, where=str(path))
    if orientation != 1:
        raise DatasetError(
            f"{path} has the EXIF orientation {orientation}, so viewers turn it, and image and label may belong to the"
            " turned or to the stored pixels. Store both upright, without EXIF orientation."
        )


def _check_exact(picture: Image.Image, path: Path) -> None:
    """Raise where a label is stored in a way that changes its numbers."""
    raw_modes = [str(tile.args[0] if isinstance(tile.args, tuple) else tile.args) for tile in picture.tile]  # type: ignore[attr-defined]
    changed = next(filter(_CHANGED_GRAY.fullmatch, raw_modes), None)
    if changed is not None:
        raise DatasetError(
            f"The label {path} is stored as gray of few bits or inverted gray ({changed}), whose numbers are scaled on"
            " reading. Expected 8 or 16 bits a pixel, black = 0; export it again."
        )
    if picture.format not in _EXACT_FORMATS or picture.info.get("compression") in _LOSSY_TIFF:
        raise DatasetError(
            f"The label {path} is stored as {picture.format} with numbers that may have changed. Expected PNG, TIFF"
            " without JPEG in it, BMP or TGA; export it again."
        )


@contextmanager
def _opened(
    path: Path, what: str, check: Callable[[Image.Image, Path], None] = lambda picture, path: None
) -> Iterator[Image.Image]:
    if not path.is_file() and not path.is_symlink():
        raise DatasetError(f"The {what} {path} does not exist. Is the set complete, and the root folder right?")

    def look(picture: Image.Image) -> None:
        check(picture, path)
        _check_upright(picture, path)

    try:
        with opened(path, look=look) as picture:
            yield picture
    except ImageError as error:
        raise DatasetError(f"The {what} {error}") from error
