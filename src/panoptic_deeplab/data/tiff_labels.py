"""TIFF label images that Pillow cannot read, or reads wrongly: napari and scikit-image write 64-bit integers.

They are read with tifffile, which scientists' programs use themselves; everything else stays with Pillow.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from panoptic_deeplab.errors import DatasetError, ImageError, MissingDependencyError, first_line, require
from panoptic_deeplab.images.read import opened

_COMPRESSION, _RAW = 259, 1
_SAMPLE_FORMAT, _SIGNED = 339, 2
"""Tags of TIFF, and values of them. Of signed integers and floats that are compressed and big-endian, Pillow swaps the
bytes."""


def needs_tifffile(path: Path) -> bool:
    """Tell whether a file is a TIFF with numbers that Pillow does not read, or whose bytes it swaps."""
    if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
        return False
    try:
        with opened(path, load=False) as picture:
            if not isinstance(picture, TiffImageFile):
                return False
            tags = picture.tag_v2
            signed = _SIGNED in np.ravel(tags.get(_SAMPLE_FORMAT, 1))
            return (signed or picture.mode == "F") and tags.prefix == b"MM" and tags.get(_COMPRESSION, _RAW) != _RAW
    except ImageError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            return False  # whoever reads the file says what is wrong with it
        with path.open("rb") as file:
            return file.read(2) in (b"II", b"MM")


def read_with_tifffile(path: Path) -> np.ndarray:
    """Read the only page of a TIFF file.

    Returns:
        Numbers `(H, W)` as they are stored.

    Raises:
        DatasetError: tifffile is not installed; or the file is corrupt, too large, or has several pages or channels.
    """
    try:
        tifffile = require("tifffile", extra="tiff", purpose=f"Reading the label {path}, which Pillow does not read,")
    except MissingDependencyError as error:
        raise DatasetError(f"{error}; or save it with 8 or 16 bits a pixel.") from error
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if not page.is_reduced]
            if len(pages) != 1 or len(pages[0].shape) != 2:
                raise DatasetError(
                    f"The label {path} has {len(pages)} pages, the first of shape {pages[0].shape if pages else ()}."
                    " Expected one page with one number for each pixel."
                )
            height, width = pages[0].shape
            if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
                raise DatasetError(
                    f"The label {path} is too large: {height * width} pixels. At most {Image.MAX_IMAGE_PIXELS} are"
                    " read."
                )
            values: np.ndarray = pages[0].asarray()
            return values
    except DatasetError:
        raise
    except Exception as error:  # tifffile gives the errors of whatever it stumbles over
        raise DatasetError(
            f"The label {path} cannot be read as TIFF: {first_line(error)}. Save it again, uncompressed or with"
            " compression zlib."
        ) from error
