"""Pages of a TIFF file: how many pictures it holds, and which of its directories they are.

Each directory of a TIFF is a page, but for smaller copies and masks of others, which say so (NewSubfileType). ImageJ
and OME may store the *channels* of one picture as directories too; they say in the description of the first how many
channels there are, and such files are refused, since no page would be a picture that was taken.

Frames of animations, the previews behind a photograph (MPO) and the layers of a PSD are no pages.
"""

import re
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.pillow_errors import pillow_errors

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
"""Files whose pages are pictures of one kind; those of slide scanners hold labels and overviews."""

_ONE_PICTURE = frozenset({"MPO", "PSD"})
"""Formats whose further frames are previews or layers of the first."""

_SUBFILE_TYPE, _NO_PAGE = 254, 1 | 4
"""The tag that marks a smaller copy (1) or mask (4) of another page, and its bits."""

_DESCRIPTION, _SAMPLES = 270, 277


def num_pages(path: Path) -> int:
    """Count the pages of a TIFF file; 1 for all others.

    Raises:
        ImageError: the file is missing, corrupt or too large, or its pages are channels.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return 1
    with pillow_errors(str(path)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(path, formats=["TIFF"])
        except UnidentifiedImageError:  # another format behind this name, or none
            return 1
        with picture:
            return len(_pages(picture, where=str(path)))


def turn_to_page(picture: Image.Image, page: int, *, where: str) -> None:
    """Go to a page of a picture, counted from 0 (`ImageError`: there is none, or the pages are channels)."""
    count = -1
    with pillow_errors(where):
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            if frame == 0:
                _check_channels(picture, where)
            count += _is_page(picture)
            if count == page:
                return
    raise ImageError(f"{where} has no page {page}: it has {count + 1}, counted from 0.")


def check_single(picture: Image.Image, *, where: str) -> None:
    """Refuse a picture with several pages or frames, of which only one would be read (`ImageError`)."""
    count = len(_pages(picture, where=where))
    if count > 1:
        is_tiff = isinstance(picture, TiffImageFile)
        how = "read_image(path, page=0), or pass `picture.copy()` of one" if is_tiff else "pass `picture.copy()` of one"
        raise ImageError(
            f"{where} has {count} pages or frames, and only one can be an image. Save each of them as a file of its"
            f" own (from Python: {how})."
        )


def _pages(picture: Image.Image, *, where: str) -> list[int]:
    """The frames that are pages; the picture is turned back to where it was."""
    with pillow_errors(where):
        count = 1 if picture.format in _ONE_PICTURE else getattr(picture, "n_frames", 1)
        if not isinstance(picture, TiffImageFile):
            return list(range(count))
        place = picture.tell()
        pages = []
        for frame in range(count):
            picture.seek(frame)
            if frame == 0:
                _check_channels(picture, where)
            if _is_page(picture):
                pages.append(frame)
        picture.seek(place)
    return pages


def _is_page(picture: Image.Image) -> bool:
    """Whether the frame that a picture is turned to is no copy or mask of another; the first never is."""
    if picture.tell() == 0 or not isinstance(picture, TiffImageFile):
        return True
    return not int(picture.tag_v2.get(_SUBFILE_TYPE, 0)) & _NO_PAGE


def _check_channels(picture: Image.Image, where: str) -> None:
    """Refuse channels that are stored as pages, and pages behind one directory, which Pillow does not see."""
    if not isinstance(picture, TiffImageFile):
        return
    text, is_stack = str(picture.tag_v2.get(_DESCRIPTION, "")), getattr(picture, "n_frames", 1) > 1
    if text.startswith("ImageJ="):
        program, channels = "ImageJ", _number(r"^channels=(\d+)", text)
        images = _number(r"^images=(\d+)", text)
        if images > 1 and not is_stack:
            raise ImageError(
                f"{where} is a stack of {images} pictures that ImageJ has written behind one directory, as it does"
                " above 4 GB. Save its planes as files of their own (Image Sequence)."
            )
    elif "<OME" in text[:2000]:
        program = "OME-TIFF"
        channels = _number(r'\bSizeC="(\d+)"', text) // int(picture.tag_v2.get(_SAMPLES, 1))
    else:
        return
    if is_stack and channels > 1:
        raise ImageError(
            f"{where} stores {channels} channels as pages ({program}), so that no page is a picture by itself. Save the"
            " channel that you want, or an RGB picture, as a file of its own."
        )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 1
