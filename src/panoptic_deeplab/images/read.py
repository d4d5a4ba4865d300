"""Images from files and memory to one form: RGB uint8 `(H, W, 3)`, or uint16 where all of their depth is asked for.

What is done to each kind of input, so that nothing is silent:

- EXIF orientation of files and PIL images is applied: the array looks as a viewer shows it. (Labeled sets are read by
  `data/label_files.py`, with the same decoder but no rotation.)
- Gray and 1-bit become three equal channels; palettes and CMYK are converted.
- Transparency is dropped: the stored color counts, whatever its alpha.
- 16-bit values are divided by 257 (65535 -> 255) and rounded; floats in [0, 1] are multiplied by 255 and rounded.
  Fewer bits in 16, as cameras of 12 bits store them, come out nearly black: `range_warning` says so. With `deep`, the
  16 bits stay (of gray: of 16-bit colors, Pillow keeps the upper 8), for `input.range` percentile (`intensity.py`);
  with `every_channel`, numbers of any type stay as they are stored.
- Of a TIFF with several pages, the one that is asked for is read (`pages.py`). Without that, such files and animations
  are refused, so that no page is left out in silence.
- EPS and WMF are refused: they are programs, and Pillow would have them run.
- Files with more than `PIL.Image.MAX_IMAGE_PIXELS` pixels are an error, since a small file can hold billions.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.channels import has_many_channels, numbers_of, read_stored_channels
from panoptic_deeplab.images.intensity import NARROW_16_BITS, Pixels, rgb_of
from panoptic_deeplab.images.pages import check_single, turn_to_page
from panoptic_deeplab.images.pillow_errors import pillow_errors
from panoptic_deeplab.images.video import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

ImageLike = str | Path | Image.Image | np.ndarray | torch.Tensor
"""What `read_image` takes."""

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg",
    ".jpx", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".sgi", ".tga", ".tif", ".tiff",
    ".webp",
})
"""Files of a folder that count as images, in any case: those that Pillow reads."""

UNREADABLE_SUFFIXES = frozenset({
    ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".emf", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jxl", ".nef",
    ".orf", ".raf", ".rw2", ".svg", ".wmf",
})
"""Pictures that Pillow does not read without a plug-in. They count as images too, so that an error names them."""
# fmt: on

_PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats that Pillow gives to an interpreter (Ghostscript, Windows) to draw."""


def read_image(
    source: ImageLike, *, deep: bool = False, page: int | None = None, every_channel: bool = False
) -> Pixels:
    """Read an image.

    Args:
        source: path of a file; PIL image (a copy of one frame, where its file has several); array `(H, W)` or
            `(H, W, 1|3|4)`; tensor `(1|3|4, H, W)`. Arrays and tensors are RGB(A) or gray: uint8, uint16, bool, or
            floating point in [0, 1].
        deep: keep 16 bits; numbers of other types than uint8, uint16 and bool may then have any finite range.
        page: the one to read of a file with several (TIFF), from 0.
        every_channel: keep all channels, alpha too, and numbers as they are stored, for `input.channels`; arrays and
            tensors may then have any number of channels. Gray becomes three equal channels.

    Returns:
        RGB uint8, C-contiguous. A uint8 RGB array may be returned as it is, without a copy. With `deep`, uint16 where
        there are more than 8 bits. With `every_channel`, `(H, W, channels)` of any numbers.

    Raises:
        ImageError: the file is missing, corrupt or has several pages (or not the one asked for), or the array has no
            pixels, another shape, dtype or range.
    """
    if isinstance(source, (str, Path)):
        found = read_stored_channels(user_path(source), page) if every_channel else None
        if found is not None:
            return found
        with opened(user_path(source), page=page, load=False) as picture:
            return decode(picture, where=str(source), exif=True, deep=deep, every_channel=every_channel)
    if isinstance(source, Image.Image):
        check_single(source, where="the PIL image")
        return decode(source, where="the PIL image", exif=True, deep=deep, every_channel=every_channel)
    if isinstance(source, torch.Tensor):
        return _from_tensor(source, deep=deep, every_channel=every_channel)
    if isinstance(source, np.ndarray):
        if every_channel:
            return numbers_of(source, where="the array")
        layout = "(H, W) or (H, W, channels) with 1, 3 or 4 channels"
        return rgb_of(source, where="the array", layout=layout, deep=deep)
    raise ImageError(
        f"An image must be a path, PIL image, NumPy array or torch tensor. Got {type(source).__name__} instead."
    )


def find_images(source: str | Path) -> list[Path]:
    """List image files.

    Args:
        source: a file; a folder (its `image_files`, without subfolders); or a pattern as `photos/**/*.jpg`, whose
            matches are all taken, but hidden files (`._a.jpg`) only where the pattern has their dot.

    Returns:
        Sorted paths, at least one.

    Raises:
        ImageError: nothing was found.
    """
    path = user_path(source)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
        matches = [] if is_file or is_folder else _matches(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{str(source)!r} is no path or pattern that can be followed: {error}.") from error
    if is_file:
        return [path]
    if is_folder:
        paths = image_files(path)
        _name_hidden(str(path), path.iterdir())
        videos = videos_of(path)
        if not paths and videos:
            raise ImageError(f"Folder {path} has videos, and no image. Name the videos: {videos[0]}.")
        if not paths:
            raise ImageError(
                f"Folder {path} has no image file directly in it. Expected one of {', '.join(sorted(IMAGE_SUFFIXES))};"
                f' for subfolders, pass the pattern "{path}/**/*.jpg".'
            )
        name_videos(path, videos)
        return paths
    hidden = path.name.startswith(".")
    paths = sorted(p for p in matches if hidden or not p.name.startswith("."))
    if not hidden:
        _name_hidden(repr(str(source)), matches)
    if not paths:
        raise ImageError(f"There is no file, folder or match for {str(source)!r}. Check the path or pattern.")
    return paths


def _matches(path: Path) -> list[Path]:
    """What a pattern means; nothing where it is none."""
    root, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
    return [p for p in root.glob(pattern) if not p.is_dir()] if any(c in pattern for c in "*?[") else []


def _name_hidden(where: str, paths: Iterable[Path]) -> None:
    """Say which hidden pictures are not taken: macOS leaves `._a.jpg` beside `a.jpg`, and people hide some too."""
    hidden = sorted(p.name for p in paths if p.name.startswith(".") and p.suffix.lower() in IMAGE_SUFFIXES)
    if hidden:
        more = f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""
        logger.warning("Hidden files of %s are not read: %s%s.", where, ", ".join(hidden[:3]), more)


def image_files(folder: Path) -> list[Path]:
    """List the pictures that lie in a folder, by their suffix.

    Broken links and formats that cannot be read are among them: whoever reads them gets an error, while files that are
    not listed would be missed by nobody. Hidden files are not: the system put them there (`._a.png` of macOS).

    Returns:
        Sorted paths.
    """
    suffixes = IMAGE_SUFFIXES | UNREADABLE_SUFFIXES
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir()
    )


def videos_of(folder: Path) -> list[Path]:
    """List the videos that lie in a folder, by their suffix; sorted, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))


def name_videos(folder: Path, videos: Sequence[Path]) -> None:
    """Say which videos of a folder are not taken with its images."""
    if videos:
        more = f" and {len(videos) - 3} more" if len(videos) > 3 else ""
        names = ", ".join(path.name for path in videos[:3])
        logger.warning(
            "Videos of %s are not taken with its images: %s%s. `panoptic-deeplab predict` takes videos that are named.",
            *(folder, names, more),
        )


def has_decoder(path: Path) -> bool:
    """Tell by the suffix of a picture whether it can be read here; plug-ins of Pillow count."""
    suffix = path.suffix.lower()
    return (
        suffix not in UNREADABLE_SUFFIXES or Image.registered_extensions().get(suffix) in Image.OPEN.keys() - _PROGRAMS
    )


def range_warning(path: Path, *, page: int | None = None) -> str | None:
    """Tell whether an image of 16 bits a channel uses less than a quarter of its range, so that it is read as dark.

    Files of 8 bits cost a look at their head.

    Returns:
        One sentence for the user; None where nothing is wrong, and where all is black.

    Raises:
        ImageError: the file is missing, corrupt, no image, too large or has several pages.
    """
    with opened(path, load=False, page=page) as picture, pillow_errors(str(path)):
        if picture.mode.startswith("I"):
            highest = int(np.asarray(picture).max(initial=0))
        elif _has_16_bit_colors(picture):
            highest = int(decode(picture, where=str(path), exif=False).max(initial=0)) << 8 | 0xFF
            highest = 0 if highest == 0xFF else highest
        else:
            return None
    if not 0 < highest < NARROW_16_BITS:
        return None
    bits = max(highest.bit_length(), 8)
    return (
        f"{path} has 16 bits a channel, but no value above {highest} of 65535, and is read as a dark image. If it holds"
        f" {bits}-bit data, set `input.range` to 0 {(1 << bits) - 1}, or to percentile."
    )


@contextmanager
def opened(
    path: Path,
    *,
    load: bool = True,
    look: Callable[[Image.Image], None] = lambda picture: None,
    page: int | None = None,
) -> Iterator[Image.Image]:
    """Open an image file and load its pixels.

    Args:
        path: the file.
        load: load the pixels now; else whoever asks for them does.
        look: sees the head of the file before; Pillow forgets with the pixels how they were stored.
        page: the one to open of a file with several, from 0; None = it has one.

    Raises:
        ImageError: the file is missing, corrupt, no image, too large or has several pages.
    """
    with pillow_errors(str(path)):
        is_file = path.is_file()
    if not is_file:  # a pipe would be waited for
        absent = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        what = "is a folder, a pipe or a device" if path.exists() else absent
        raise ImageError(f"There is no image file {path}: it {what}. Check the path.")
    with pillow_errors(str(path)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # else errors begin at twice the limit
        if path.suffix.lower() in (".tif", ".tiff"):  # in other formats, what Pillow says there is harmless
            warnings.filterwarnings("error", "Corrupt EXIF data|Truncated File Read", UserWarning)
        try:
            picture = Image.open(path)
        except UnidentifiedImageError as error:
            if path.suffix.lower() in UNREADABLE_SUFFIXES:
                raise _unreadable(str(path), path.suffix[1:].upper()) from error
            if has_many_channels(path):
                raise ImageError(
                    f"{path} has other channels than gray, RGB or RGBA. Name the three that become red, green and blue"
                    " with `input.channels`."
                ) from error
            raise
        num_pixels, limit = picture.width * picture.height, Image.MAX_IMAGE_PIXELS
        if limit is not None and num_pixels > limit:  # the filter is of all threads, so another may have taken it away
            picture.close()
            raise Image.DecompressionBombWarning(f"{num_pixels} pixels")
    with picture:
        if picture.format in _PROGRAMS:
            raise _unreadable(str(path), picture.format)
        if page is not None:
            turn_to_page(picture, page, where=str(path))
        elif picture.format == "TIFF" or getattr(picture, "is_animated", False):
            check_single(picture, where=str(path))
        look(picture)
        with pillow_errors(str(path)):
            if load:
                picture.load()
        yield picture


def decode(picture: Image.Image, *, where: str, exif: bool, deep: bool = False, every_channel: bool = False) -> Pixels:
    """The pixels of a picture as RGB, by the rules above.

    Args:
        picture: may have any color mode.
        where: file name, for the message.
        exif: apply its EXIF orientation; else the pixels come as they are stored.
        deep: as for `read_image`.
        every_channel: as for `read_image`.

    Raises:
        ImageError: it has no pixels, values out of range or no conversion to RGB, or its file is truncated.
    """
    if 0 in picture.size:
        raise ImageError(f"{where} has no pixels: its size is {picture.height} x {picture.width} (height x width).")
    with pillow_errors(where):
        cut_colors = every_channel and _has_16_bit_colors(picture)
        if exif:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):  # 16-bit gray; Pillow reads some of these files as 32-bit
            values = np.asarray(picture)
            if values.min() >= 0 and values.max() <= 65535:
                values = values.astype(np.uint16)
            elif not deep and not every_channel:
                raise ImageError(
                    f"{where} has integer values from {values.min()} to {values.max()}. Expected 0 to 65535; rescale"
                    " it."
                )
        elif picture.mode == "F":
            values = np.asarray(picture)
        else:
            has_alpha = picture.mode in ("RGBA", "PA", "LA", "La") or "transparency" in picture.info
            if has_alpha or picture.mode == "P":
                picture = picture.convert("RGBA")  # the step by which Pillow understands every form of transparency
            values = np.array(picture if every_channel and has_alpha else picture.convert("RGB"))
            values = values.astype(np.uint16) * np.uint16(257) if cut_colors else values
        if every_channel:
            return numbers_of(values, where=where)
        return rgb_of(values, where=where, layout="a gray image", deep=deep)


def _has_16_bit_colors(picture: Image.Image) -> bool:
    """Whether a picture that is not loaded yet has colors of 16 bits, of which Pillow keeps the upper byte."""
    return (
        isinstance(picture, ImageFile)
        and not picture.mode.startswith("I")
        and any(";16" in str(tile[3]) for tile in picture.tile)
    )


def exif_orientation(picture: Image.Image, *, where: str) -> int:
    """How viewers turn a picture: 1 = not at all, 2 to 8 = mirrored or rotated (EXIF 2.3, tag Orientation).

    Raises:
        ImageError: its EXIF data are corrupt.
    """
    with pillow_errors(where):
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1  # other values mean nothing to viewers either


def _unreadable(where: str, kind: str) -> ImageError:
    return ImageError(f"{where} is a picture in the format {kind}, which cannot be read. Convert it to PNG or JPEG.")


def _from_tensor(tensor: torch.Tensor, *, deep: bool, every_channel: bool) -> Pixels:
    layout = "(channels, H, W)" if every_channel else "(channels, H, W) with 1, 3 or 4 channels"
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta or tensor.is_quantized:
        raise ImageError(f"The tensor is sparse, nested, quantized or meta. Expected a dense one of shape {layout}.")
    if tensor.ndim != 3 or (tensor.shape[0] not in (1, 3, 4) and not every_channel):
        raise ImageError(f"An image tensor must have shape {layout}. Got {tuple(tensor.shape)} instead.")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()  # NumPy has no views that negate
    tensor = tensor.float() if tensor.is_floating_point() else tensor  # NumPy has no bfloat16
    array = tensor.permute(1, 2, 0).numpy()
    if every_channel:
        return numbers_of(array, where="the tensor")
    return rgb_of(array, where="the tensor", layout=layout, deep=deep)
