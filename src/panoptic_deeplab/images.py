"""Images from files and memory to one form: RGB uint8 `(H, W, 3)`.

What is done to each kind of input, so that nothing is silent:

- EXIF orientation of files and PIL images is applied: the array looks as a viewer shows it. (Labelled sets are read by
  `data/images.py`, with the same decoder but no rotation.)
- Grey and 1-bit become three equal channels; palettes and CMYK are converted.
- Transparency is dropped: the stored colour counts, whatever its alpha.
- 16-bit values are divided by 257 (65535 -> 255) and rounded; floats in [0, 1] are multiplied by 255 and rounded.
- Of an animation or a multi-page file, the first frame is read.
- Files with more than `PIL.Image.MAX_IMAGE_PIXELS` pixels are an error, since a small file can hold billions.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.files import written_whole

ImageLike = str | Path | Image.Image | np.ndarray | torch.Tensor
"""What `read_image` takes."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"},
)
"""Files of a folder that count as images, in any case."""

_PILLOW_ERRORS = (
    OSError,  # missing, truncated, unknown format
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on broken files."""


def read_image(source: ImageLike) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image.

    Args:
        source: path of a file; PIL image; array `(H, W)` or `(H, W, 1|3|4)`; tensor `(1|3|4, H, W)`. Arrays and
            tensors are RGB(A) or grey: uint8, uint16, bool, or floating point in [0, 1].

    Returns:
        RGB uint8, C-contiguous. A uint8 RGB array may be returned as it is, without a copy.

    Raises:
        ImageError: the file is missing or corrupt, or the array has no pixels, another shape, dtype or range.
    """
    if isinstance(source, (str, Path)):
        with opened(Path(source)) as picture:
            return decode(picture, where=str(source), exif=True)
    if isinstance(source, Image.Image):
        return decode(source, where="the PIL image", exif=True)
    if isinstance(source, torch.Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, where="the array", layout="(H, W) or (H, W, channels) with 1, 3 or 4 channels")
    raise ImageError(
        f"An image must be a path, PIL image, NumPy array or torch tensor. Got {type(source).__name__} instead."
    )


def find_images(source: str | Path) -> list[Path]:
    """List image files.

    Args:
        source: a file; a folder (its files with an image suffix, without subfolders); or a pattern as
            `photos/**/*.jpg`, whose matches are all taken.

    Returns:
        Sorted paths, at least one.

    Raises:
        ImageError: nothing was found.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not paths:
            raise ImageError(
                f"Folder {path} has no image file directly in it. Expected one of {', '.join(sorted(IMAGE_SUFFIXES))};"
                f' for subfolders, pass the pattern "{path}/**/*.jpg".'
            )
        return paths
    root, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    paths = sorted(p for p in root.glob(pattern) if p.is_file()) if any(c in pattern for c in "*?[") else []
    if not paths:
        raise ImageError(f"There is no file, folder or match for {str(source)!r}. Check the path or pattern.")
    return paths


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file and load its pixels.

    Raises:
        ImageError: the file is missing, corrupt, no image or too large.
    """
    if not path.exists():
        raise ImageError(f"There is no image file {path}. Check the path.")
    with _pillow_errors(str(path)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # else errors begin at twice the limit
        picture = Image.open(path)
    with picture:
        with _pillow_errors(str(path)):
            picture.load()
        yield picture


def save_picture(picture: Image.Image, path: str | Path, **options: Any) -> None:
    """Write a picture, whole or not at all, in the format that its suffix says.

    Args:
        picture: of any mode that the format takes.
        path: its folder exists.
        options: those of Pillow's `save`.

    Raises:
        OutputError: the system refuses to write.
    """
    with written_whole(path) as temporary:
        picture.save(temporary, **options)


def decode(picture: Image.Image, *, where: str, exif: bool) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a picture as RGB, by the rules above.

    Args:
        picture: of any colour mode.
        where: file name, for the message.
        exif: apply its EXIF orientation; else the pixels come as they are stored.

    Raises:
        ImageError: it has no pixels, values out of range or no conversion to RGB, or its file is truncated.
    """
    if 0 in picture.size:
        raise ImageError(f"{where} has no pixels: its size is {picture.height} x {picture.width} (height x width).")
    with _pillow_errors(where):
        if exif:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):  # 16-bit grey; Pillow reads some of these files as 32-bit
            values = np.asarray(picture)
            if values.min() < 0 or values.max() > 65535:
                raise ImageError(
                    f"{where} has integer values from {values.min()} to {values.max()}. Expected 0 to 65535; rescale"
                    " it."
                )
            return _from_array(values.astype(np.uint16), where=where, layout="a grey image")
        if picture.mode == "F":
            return _from_array(np.asarray(picture), where=where, layout="a grey image")
        if picture.mode in ("P", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")  # the step by which Pillow understands every form of transparency
        return np.array(picture.convert("RGB"))


def exif_orientation(picture: Image.Image, *, where: str) -> int:
    """How viewers turn a picture: 1 = not at all, 2 to 8 = mirrored or rotated (EXIF 2.3, tag Orientation).

    Raises:
        ImageError: its EXIF data are corrupt.
    """
    with _pillow_errors(where):
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1  # other values mean nothing to viewers either


@contextmanager
def _pillow_errors(where: str) -> Iterator[None]:
    """Everything that Pillow raises on a bad picture becomes an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        num_pixels = re.findall(r"\d+", str(error))[0]  # Pillow keeps the number nowhere else
        raise ImageError(
            f"{where} is too large: {num_pixels} pixels. At most {Image.MAX_IMAGE_PIXELS} are read; cut it into tiles,"
            " or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust the file."
        ) from error
    except _PILLOW_ERRORS as error:
        raise ImageError(
            f"{where} is corrupt or no image ({type(error).__name__}: {error}). Expected a complete JPEG, PNG, TIFF,"
            " WebP, BMP, GIF or PNM file."
        ) from error


def _from_tensor(tensor: torch.Tensor) -> UInt8[np.ndarray, "H W 3"]:
    layout = "(channels, H, W) with 1, 3 or 4 channels"
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise ImageError(f"An image tensor must have shape {layout}. Got {tuple(tensor.shape)} instead.")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return _from_array(tensor.permute(1, 2, 0).numpy(), where="the tensor", layout=layout)


def _from_array(array: np.ndarray, *, where: str, layout: str) -> UInt8[np.ndarray, "H W 3"]:
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(f"An image array must have shape {layout}. Got {shape} instead.")
    if array.size == 0:
        raise ImageError(f"{where} has no pixels: its shape is {shape}.")
    values = _to_uint8(array[..., :3], where=where)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _to_uint8(values: np.ndarray, *, where: str) -> UInt8[np.ndarray, "H W c"]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    if values.dtype == np.uint16:
        reduced: UInt8[np.ndarray, "H W c"] = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return reduced
    if np.issubdtype(values.dtype, np.floating):
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= 0 and highest <= 1):  # written so that NaN fails too
            raise ImageError(
                f"{where} has floating-point values from {lowest:g} to {highest:g}. Expected 0 to 1;"
                " divide by 255, or pass uint8."
            )
        rounded: UInt8[np.ndarray, "H W c"] = np.rint(values * 255).astype(np.uint8)
        return rounded
    raise ImageError(f"{where} has dtype {values.dtype}. Expected uint8, uint16, bool, or floating point in [0, 1].")
