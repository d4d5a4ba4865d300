"""Reading image and label files: every way a file can be missing, corrupt or of the wrong kind is one `DatasetError`.

Five kinds of files: photographs (any mode, become RGB by the rules of `panoptic_deeplab/images/read.py`), COCO
panoptic PNG files (8-bit RGB that encodes ids), single-channel label maps (whole numbers), label maps that may be
colored, and masks of one object.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8
from PIL import Image

from panoptic_deeplab.data.tiff_labels import needs_tifffile, read_with_tifffile
from panoptic_deeplab.errors import DatasetError, ImageError
from panoptic_deeplab.files import read_text
from panoptic_deeplab.images.channels import read_stored_channels
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.read import decode, exif_orientation, opened
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID

_EXACT_FORMATS = frozenset({"BMP", "PNG", "TGA", "TIFF"})
"""Formats that give every number of a label back as it was written. JPEG does not, and writers of GIF number the colors
anew."""

_CHANGED_GRAY = re.compile(r"[1L];[24I].*")
"""Pillow's raw modes that it spreads over 0 to 255, or inverts (a TIFF whose 0 is white)."""

_LOSSY_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})

_SOFT_EDGE = 128
"""A mask whose largest value lies below has no soft edge, but numbers."""


def read_upright_image(path: Path) -> Pixels:
    """Read a photograph, the pixels as they are stored: gray as three channels, alpha as a fourth, all of their bits.

    Raises:
        DatasetError: the file is missing, corrupt, too large, or to be turned by viewers.
    """
    with _opened(path, "image", load=False) as picture:
        return decode(picture, where=str(path), exif=False, every_channel=True)


def read_image_channels(path: Path) -> Pixels | None:
    """Read an image whose channels are no colors (`images/channels.py`); None where it is a photograph.

    Raises:
        DatasetError: the file is corrupt, or holds several pictures.
        MissingDependencyError: it needs tifffile.
    """
    try:
        return read_stored_channels(path, None)
    except ImageError as error:
        raise DatasetError(str(error)) from error


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
    """Read a label map with one number a pixel: gray of whole numbers, or palette indices (the palette is ignored).

    Raises:
        DatasetError: the file is missing, corrupt, has several channels, fractions or negative numbers.
    """
    if needs_tifffile(path):
        return _ids(read_with_tifffile(path), path)
    with _opened(path, "label", _check_exact) as picture:
        return _ids_of(picture, path)


def read_colored_label(path: Path, *, palette: bool) -> Int32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"]:
    """Read a label map whose pixels are numbers or colors.

    Args:
        path: the file.
        palette: what is stored with a palette has the colors of the palette; else its indices are numbers.

    Returns:
        Numbers `(H, W)`, or RGB `(H, W, 3)`, black where the file is transparent.

    Raises:
        DatasetError: the file is missing, corrupt, half transparent, or has fractions or negative numbers.
    """
    if needs_tifffile(path):
        return _ids(read_with_tifffile(path), path)
    with _opened(path, "label", _check_exact) as picture:
        if picture.mode not in ("RGB", "RGBA") and not (palette and picture.mode == "P"):
            return _ids_of(picture, path)
        rgba = np.asarray(picture.convert("RGBA"))
        if not np.isin(rgba[..., 3], (0, 255)).all():
            raise DatasetError(f"{path} has pixels that are half transparent. Expected colors that are there or not.")
        return np.where(rgba[..., 3:] > 0, rgba[..., :3], np.uint8(0))


def read_object_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """Read the mask of one object: its pixels are not black, and not transparent.

    A mask that is all black where it is visible (drawn on a transparent ground) holds what is visible. Pixels of a soft
    edge belong to the object from half of the largest value on.

    Raises:
        DatasetError: the file is missing, corrupt, lossy, or holds several small numbers (objects, rather than one).
    """
    with _opened(path, "mask", _check_lossless) as picture:
        values = np.asarray(picture)
        opaque = np.ones(values.shape[:2], np.bool_)
        if picture.mode not in ("1", "L", "F") and not picture.mode.startswith("I"):
            rgba = np.asarray(picture.convert("RGBA"))
            opaque = rgba[..., 3] > 127
            values = np.where(opaque, rgba[..., :3].max(axis=2), np.uint8(0))
        largest = values.max(initial=0)
        if largest == 0:
            return np.zeros_like(opaque) if opaque.all() else opaque
        if values.dtype != np.bool_ and largest < _SOFT_EDGE and len(np.unique(values[values > 0])) > 1:
            raise DatasetError(
                f"The mask {path} holds several numbers up to {largest}. Expected one object, black outside; pictures"
                " with a number for each object are read by the format label_images."
            )
        if values.dtype == np.bool_:
            return values
        mask: Bool[np.ndarray, "H W"] = values > (largest - 1) // 2
        return mask


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file, without surrounding blanks.

    Raises:
        DatasetError: the file cannot be read as text.
    """
    text = read_text(path, what="list", error=DatasetError)
    return [line.strip() for line in text.splitlines() if line.strip()]


def case_twin(path: Path) -> str | None:
    """The name of a file beside one that does not exist, from which it differs in upper and lower case alone."""
    if not path.parent.is_dir():
        return None
    names = _names(path.parent, path.parent.stat().st_mtime_ns).get(path.name.casefold(), ())
    return next((name for name in names if name != path.name), None)


@lru_cache(maxsize=8)
def _names(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder that was `changed` at a time, by what they have in common whatever the case."""
    names: dict[str, list[str]] = {}
    for name in sorted(path.name for path in folder.iterdir()):
        names.setdefault(name.casefold(), []).append(name)
    return names


def absent_file(name: str, path: Path) -> str:
    """Say that an entry of a file names another one that does not exist.

    Args:
        name: as it is written there.
        path: what it means.

    Returns:
        The rest of a sentence that begins with the entry.
    """
    twin = case_twin(path)
    if path.is_dir():
        return f"names the file {name!r}, but {path} is a folder. Expected a picture."
    if twin is None:
        return f"names the file {name!r}, which is not in {path.parent}. Add it, or remove the entry."
    return (
        f"names the file {name!r}, but the file in {path.parent} is {twin!r}. Expected the same letters, upper and"
        " lower case too; rename it, or correct the entry."
    )


def check_same_size(size: tuple[int, int], label: np.ndarray, *, image_path: Path, label_path: Path) -> None:
    """Raise `DatasetError` where a label has not the `(height, width)` of its image."""
    if label.shape[:2] != size:
        raise DatasetError(
            f"{label_path} has the size (height, width) {label.shape[:2]}, but its image {image_path} has"
            f" {size}. Expected the same size; labels are never resized on loading."
        )


def _check_upright(picture: Image.Image, path: Path) -> None:
    """Raise where viewers turn a picture: its counterpart could belong to either form. (Pillow itself turns TIFFs.)"""
    orientation = exif_orientation(picture, where=str(path))
    if orientation != 1:
        raise DatasetError(
            f"{path} has the EXIF orientation {orientation}, so viewers turn it, and image and label may belong to the"
            " turned or to the stored pixels. Store both upright, without EXIF orientation."
        )


def _ids_of(picture: Image.Image, path: Path) -> Int32[np.ndarray, "H W"]:
    if picture.mode not in ("1", "L", "P", "F") and not picture.mode.startswith("I"):
        raise DatasetError(
            f"{path} has the pixel format {picture.mode}. Expected one channel, a whole number for each pixel; colors"
            " mean nothing here."
        )
    return _ids(np.asarray(picture), path)


def _ids(values: np.ndarray, path: Path) -> Int32[np.ndarray, "H W"]:
    """Numbers as they are stored, as ids; ImageJ stores whole numbers as floats."""
    ids: Int32[np.ndarray, "H W"] = values.astype(np.int32) if values.dtype.kind in "biu" else _whole(values, path)
    if values.size and not (values.min() >= 0 and values.max() <= MAX_SEGMENT_ID):
        raise DatasetError(
            f"{path} holds {values.min()} to {values.max()}. Expected numbers from 0 to {MAX_SEGMENT_ID}."
        )
    return ids


def _whole(values: Float[np.ndarray, "H W"], path: Path) -> Int32[np.ndarray, "H W"]:
    finite = np.nan_to_num(values, nan=0.5, posinf=0.5, neginf=0.5)
    if (finite % 1 != 0).any():
        raise DatasetError(f"{path} holds fractions. Expected a whole number for each pixel: a label, 0 for none.")
    whole: Int32[np.ndarray, "H W"] = finite.clip(-1, MAX_SEGMENT_ID + 1).astype(np.int32)
    return whole


def _check_exact(picture: Image.Image, path: Path) -> None:
    """Raise where a label is stored in a way that changes its numbers."""
    _check_lossless(picture, path)
    arguments = [tile[3] for tile in picture.tile]  # type: ignore[attr-defined]  # without names before Pillow 11
    raw_modes = [str(each[0] if isinstance(each, tuple) else each) for each in arguments]
    changed = next(filter(_CHANGED_GRAY.fullmatch, raw_modes), None)
    if changed is not None:
        raise DatasetError(
            f"The label {path} is stored as gray of few bits or inverted gray ({changed}), whose numbers are scaled on"
            " reading. Expected 8 or 16 bits a pixel, black = 0; export it again."
        )


def _check_lossless(picture: Image.Image, path: Path) -> None:
    """Raise where a label is stored in a way that loses numbers."""
    if picture.format not in _EXACT_FORMATS or picture.info.get("compression") in _LOSSY_TIFF:
        raise DatasetError(
            f"The label {path} is stored as {picture.format} with numbers that may have changed. Expected PNG, TIFF"
            " without JPEG in it, BMP or TGA; export it again."
        )


@contextmanager
def _opened(
    path: Path,
    what: str,
    check: Callable[[Image.Image, Path], None] = lambda picture, path: None,
    *,
    load: bool = True,
) -> Iterator[Image.Image]:
    if not path.is_file() and not path.is_symlink():
        if path.is_dir():
            raise DatasetError(f"The {what} {path} is a folder. Expected a file.")
        twin = case_twin(path)
        advice = "Is the set complete, and the root folder right?"
        if twin is not None:
            advice = f"There is {twin!r}. Expected the same letters, upper and lower case too; rename it."
        raise DatasetError(f"The {what} {path} does not exist. {advice}")

    def look(picture: Image.Image) -> None:
        check(picture, path)
        _check_upright(picture, path)

    try:
        with opened(path, look=look, load=load) as picture:
            yield picture
    except ImageError as error:
        raise DatasetError(f"The {what} {error}") from error
