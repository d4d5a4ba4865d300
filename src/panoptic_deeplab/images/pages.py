"""Pages of a TIFF file: how many pictures it holds, and which of its directories they are.

Each directory of a TIFF is a page, but for smaller copies and masks of others, which say so (NewSubfileType). ImageJ
and OME may store the *channels* of one picture as directories too; they say in the description of the first how many
channels there are and in which order. Such directories are no pages but channels, for `input.channels` (`channels.py`);
without it they are refused.

Frames of animations, the previews behind a photograph (MPO) and the layers of a PSD are no pages.
"""

import math
import re
import warnings
from pathlib import Path
from typing import NamedTuple

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
    """Count the pictures of a TIFF file; 1 for all others.

    Raises:
        ImageError: the file is missing, corrupt or too large.
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
            return len(_pages(picture, where=str(path))) // _channels(picture, str(path)).number


def turn_to_page(picture: Image.Image, page: int, *, where: str) -> None:
    """Go to a page of a picture, counted from 0 (`ImageError`: there is none, or the pages are channels)."""
    count = -1
    with pillow_errors(where):
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            if frame == 0:
                _check_no_channels(picture, where)
            count += _is_page(picture)
            if count == page:
                return
    raise ImageError(f"{where} has no page {page}: it has {count + 1}, counted from 0.")


def check_single(picture: Image.Image, *, where: str) -> None:
    """Refuse a picture with several pages or frames, of which only one would be read (`ImageError`)."""
    count = len(_pages(picture, where=where))
    _check_no_channels(picture, where)
    if count > 1:
        how = "pass `picture.copy()` of one in Python"
        if isinstance(picture, TiffImageFile):
            how = (
                "let `panoptic-deeplab predict` take all (in Python, read_image(path, page=0) or `picture.copy()` one)"
            )
        raise ImageError(
            f"{where} has {count} pages or frames. Expected one picture: save each of them as a file of its own, or"
            f" {how}."
        )


def channel_frames(picture: Image.Image, page: int | None, *, where: str) -> list[int] | None:
    """Where the channels of a picture are that are stored as pages; None where they are not.

    Args:
        picture: an opened file.
        page: the one of several pictures in it, from 0; None = it has one.
        where: its name, for the message.

    Raises:
        ImageError: it has several pictures and none is named, or another number of pages than it says.
    """
    channels = _channels(picture, where)
    if channels.number == 1:
        return None
    pages = _pages(picture, where=where)
    if len(pages) % (channels.number * channels.step):
        raise ImageError(
            f"{where} has {len(pages)} pages, and says that it has {channels.number} channels in steps of"
            f" {channels.step}. Expected a whole number of pictures; save it again."
        )
    first = [frame for number, frame in enumerate(pages) if number // channels.step % channels.number == 0]
    if page is None and len(first) > 1:
        raise ImageError(
            f"{where} has {len(first)} pictures of {channels.number} channels. Expected one: save each of them as a"
            " file of its own, or let `panoptic-deeplab predict` take all (in Python, read_image(path, page=0) one)."
        )
    if not 0 <= (page or 0) < len(first):
        raise ImageError(f"{where} has no page {page}: it has {len(first)}, counted from 0.")
    start = pages.index(first[page or 0])
    return [pages[start + number * channels.step] for number in range(channels.number)]


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
            if _is_page(picture):
                pages.append(frame)
        picture.seek(place)
    return pages


def _is_page(picture: Image.Image) -> bool:
    """Whether the frame that a picture is turned to is no copy or mask of another; the first never is."""
    if picture.tell() == 0 or not isinstance(picture, TiffImageFile):
        return True
    return not int(picture.tag_v2.get(_SUBFILE_TYPE, 0)) & _NO_PAGE


class _Channels(NamedTuple):
    """How channels are stored as pages."""

    number: int
    """How many there are of each picture; 1 = they are not."""
    step: int = 1
    """How many pages lie between one channel of a picture and the next."""
    program: str = ""


def _channels(picture: Image.Image, where: str) -> _Channels:
    """What the description of a TIFF says; an `ImageError` where Pillow does not see all of its pages."""
    if not isinstance(picture, TiffImageFile):
        return _Channels(1)
    with pillow_errors(where):
        place = picture.tell()
        picture.seek(0)
        text, samples = str(picture.tag_v2.get(_DESCRIPTION, "")), int(picture.tag_v2.get(_SAMPLES, 1))
        is_stack = getattr(picture, "n_frames", 1) > 1
        picture.seek(place)
    if text.startswith("ImageJ="):
        images = _number(r"^images=(\d+)", text)
        if images > 1 and not is_stack:
            raise ImageError(
                f"{where} is a stack of {images} pictures that ImageJ has written behind one directory, as it does"
                " above 4 GB. Save its planes as files of their own (Image Sequence)."
            )
        return _Channels(_number(r"^channels=(\d+)", text) if is_stack else 1, 1, "ImageJ")
    if "<OME" in text[:2000] and is_stack:
        count = max(1, _number(r'\bSizeC="(\d+)"', text) // samples)
        order = re.search(r'\bDimensionOrder="XY([ZCT]{3})"', text)
        before = order[1].partition("C")[0] if order else ""
        sizes = {axis: _number(rf'\bSize{axis}="(\d+)"', text) for axis in "ZT"}
        return _Channels(count, math.prod(sizes[axis] for axis in before), "OME-TIFF")
    return _Channels(1)


def _check_no_channels(picture: Image.Image, where: str) -> None:
    """Refuse channels that are stored as pages (`ImageError`)."""
    channels = _channels(picture, where)
    if channels.number > 1:
        raise ImageError(
            f"{where} stores {channels.number} channels as pages ({channels.program}), so that no page is a picture by"
            " itself. Name the three that become red, green and blue with `input.channels`, or save one as a file."
        )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 1
