"""TIFF label images that Pillow cannot read, or reads wrongly: napari and scikit-image write 64-bit integers.

They are read with tifffile, which scientists' programs use themselves; everything else stays with Pillow.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from panoptic_deeplab.errors import DatasetError, MissingDependencyError, first_line, require

_RAW = 1
"""TIFF's number for "not compressed"."""


def needs_tifffile(path: Path) -> bool:
    """Tell whether a file is a TIFF with numbers that Pillow does not read, or whose bytes it swaps."""
    if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
        return False
    try:
        with Image.open(path) as picture:
            tags = getattr(picture, "tag_v2", None)
            if tags is None:
                return False
            swapped = tags.prefix == b"MM" and picture.mode.startswith("I") and 2 in _tuple(tags.get(339, 1))
            return bool(swapped and tags.get(259, _RAW) != _RAW)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            return file.read(2) in (b"II", b"MM")
    except Exception:  # whoever reads the file says what is wrong with it
        return False


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
                    f"The label {path} is too large: {height * width} pixels. At most {Image.MAX_IMAGE_PIXELS} are read."
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
