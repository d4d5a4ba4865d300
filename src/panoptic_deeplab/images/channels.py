"""Every channel of an image, for `input.channels`: also those that Pillow does not give.

Three layouts of a TIFF have more channels than colors: samples beside each other in a pixel, and planes one after
another in one directory, which tifffile reads; and channels that ImageJ and OME store as pages (`pages.py`), which
Pillow reads one by one.
"""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError

from panoptic_deeplab.errors import ImageError, first_line, require
from panoptic_deeplab.images.pages import TIFF_SUFFIXES, channel_frames
from panoptic_deeplab.images.pillow_errors import pillow_errors

_MOST_COLORS = 4
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files of TIFF and BigTIFF begin."""
_SAMPLES = 277
"""The tag with the number of channels of a directory."""


def numbers_of(array: np.ndarray, *, where: str) -> Shaped[np.ndarray, "H W _"]:
    """Numbers as they are, with a last axis of channels; gray becomes three equal ones.

    Args:
        array: `(H, W)` or `(H, W, channels)`.
        where: its name, for the message.

    Raises:
        ImageError: another shape, or no pixels.
    """
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.size == 0:
        raise ImageError(f"{where} has the shape {array.shape}. Expected (H, W) or (H, W, channels), with pixels.")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array)


def has_many_channels(path: Path) -> bool:
    """Tell whether a file begins like a TIFF, although Pillow does not know its pixels."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    with path.open("rb") as file:
        return file.read(4) in TIFF_HEADS


def read_stored_channels(path: Path, page: int | None) -> Shaped[np.ndarray, "H W _"] | None:
    """Read a TIFF file whose channels Pillow would not give; None where it does.

    Args:
        path: any file.
        page: the one of several pictures in it, from 0.

    Raises:
        ImageError: the file is damaged, or has several pages and none is named.
        MissingDependencyError: it needs tifffile.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return None
    with pillow_errors(str(path)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(path, formats=["TIFF"])
        except UnidentifiedImageError:
            return _with_tifffile(path, page) if has_many_channels(path) else None
        with picture:
            if int(picture.getexif().get(_SAMPLES, 1)) > _MOST_COLORS:
                return _with_tifffile(path, page)
            frames = channel_frames(picture, page, where=str(path))
            if frames is None:
                return None
            planes = []
            for frame in frames:
                picture.seek(frame)
                planes.append(np.array(picture))
    if len({plane.shape for plane in planes}) > 1 or planes[0].ndim != 2:
        raise ImageError(f"{path} has channels of several sizes or colors. Expected gray planes of one size.")
    return np.stack(planes, axis=-1)


def _with_tifffile(path: Path, page: int | None) -> Shaped[np.ndarray, "H W _"]:
    tifffile = require("tifffile", extra="tiff", purpose=f"Reading the channels of {path}")
    try:
        with tifffile.TiffFile(path) as file:
            pages = [found for found in file.pages if not (found.is_reduced or found.is_mask)]
            if page is None and len(pages) > 1:
                raise ImageError(
                    f"{path} has {len(pages)} pages. Expected one picture: save each of them as a file of its own."
                )
            found = pages[page or 0]
            array, axes = found.asarray(), found.axes
    except ImageError:
        raise
    except Exception as error:  # of tifffile and its codecs
        raise ImageError(f"{path} cannot be read: {first_line(error)}. Expected a complete TIFF.") from error
    if sorted(axes) not in (["S", "X", "Y"], ["X", "Y"]):
        raise ImageError(f"{path} has the axes {axes}. Expected Y, X and channels.")
    return numbers_of(np.moveaxis(array, axes.index("S"), -1) if "S" in axes else array, where=str(path))
