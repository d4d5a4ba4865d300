"""Whatever Pillow raises on a bad picture as one `ImageError`."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from panoptic_deeplab.errors import ImageError

_PILLOW_ERRORS = (
    OSError,  # missing, truncated, unknown format
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    struct.error,
    zlib.error,
    UserWarning,  # where a warning was asked to be an error
)
"""What Pillow raises on broken files."""

_BYTES_TO_READ = 6
"""Bytes that a pixel takes while it is read: RGB as Pillow decodes it, and the array."""


@contextmanager
def pillow_errors(where: str) -> Iterator[None]:
    """Everything that Pillow raises on a bad picture becomes an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        num_pixels = int(re.findall(r"\d+", str(error))[0])  # Pillow keeps the number nowhere else
        raise ImageError(
            f"{where} is too large: {num_pixels} pixels. At most {Image.MAX_IMAGE_PIXELS} are read, and this one takes"
            f" {_BYTES_TO_READ * num_pixels / 1e9:.2g} GB before anything is predicted; save it as a tiled TIFF and"
            " predict that with `--tile 1024`, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust the file."
        ) from error
    except _PILLOW_ERRORS as error:
        raise ImageError(
            f"{where} is corrupt or no image ({type(error).__name__}: {error}). Expected a complete JPEG, PNG, TIFF,"
            " WebP, AVIF, JPEG 2000, BMP, GIF or PNM file."
        ) from error
