"""Parts of images that are too large to be read whole: `open_regions` gives a `Regions`.

- What `read_image` takes is read by it, as far as it is read at all; a part is then a view.
- Larger TIFF files (also OME-TIFF, BigTIFF, GeoTIFF, SVS, NDPI) are read by tifffile, and Zarr arrays and OME-Zarr by
  zarr: the pixels of the largest resolution of the first image, from as many blocks of the file as the part touches.

Numbers become 8 bits as in `read_image`, or keep 16 with `deep`. Files with several planes (z, t) or, without
`every_channel`, with other than 1, 3 or 4 channels are refused, as are palettes, CMYK, inverted gray and rotations,
which `read_image` handles for files within its limit.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from panoptic_deeplab.errors import ImageError, first_line, require
from panoptic_deeplab.files import user_path
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.read import ImageLike, read_image
from panoptic_deeplab.maps import Size

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf8", ".svs", ".ndpi", ".scn"})
"""Files that tifffile reads."""

_LARGEST_BLOCK = 2**29
"""Bytes of a block of a file; all of it is decoded for any of its pixels."""

_ORIENTATION = 274
"""The tag of TIFF that says how a picture is rotated."""

_PHOTOMETRIC = {1: "gray", 2: "RGB", 6: "YCbCr"}
"""Color models of TIFF whose numbers tifffile gives as gray or RGB."""


class Regions(ABC):
    """An image of which parts can be read; a context manager, which closes its file."""

    size: Size
    """`(height, width)` in pixels."""
    where: str = "The image"
    """Its name, for messages."""

    @abstractmethod
    def read(self, rows: slice, columns: slice) -> Pixels:
        """Read a part.

        Args:
            rows: with a start and a stop inside of the image.
            columns: likewise.

        Raises:
            ImageError: the file is damaged there.
        """

    def close(self) -> None:  # noqa: B027 - nothing to close by default
        """Close the file."""

    def __enter__(self) -> "Regions":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WholeImage(Regions):
    """An image in memory.

    Args:
        pixels: RGB.
        where: its name.
    """

    def __init__(self, pixels: Pixels, where: str = "The image") -> None:
        self._pixels = pixels
        self.size = (pixels.shape[0], pixels.shape[1])
        self.where = where

    def read(self, rows: slice, columns: slice) -> Pixels:
        """A view; see `Regions.read`."""
        return self._pixels[rows, columns]


class StoredImage(Regions):
    """An image in an array on disk.

    Args:
        array: is indexed with a slice or a number for each axis, and gives NumPy arrays.
        axes: a letter for each: `Y`, `X`, at most one of `C` and `S` for channels, and others of length 1.
        where: its name.
        file: is closed with it.
        deep: give uint16 as it is.
        every_channel: give numbers of all channels as they are.

    Raises:
        ImageError: the axes are not those of one picture.
    """

    def __init__(
        self, array: Any, axes: str, *, where: str, file: Any = None, deep: bool = False, every_channel: bool = False
    ) -> None:
        self._array = array
        self._axes = axes
        self._file = file
        self._deep, self._every_channel = deep, every_channel
        self.where = where
        if deep and np.dtype(array.dtype) not in (np.uint8, np.uint16, np.bool_):
            raise ImageError(
                f"{where} has dtype {array.dtype}. In an image of this size, `input.range` percentile takes uint8 and"
                " uint16; set the range to two numbers, black and white."
            )
        lengths = dict(zip(axes, array.shape, strict=True))
        others = [f"{letter} ({n})" for letter, n in lengths.items() if letter not in "YXCS" and n > 1]
        channels = [n for letter, n in lengths.items() if letter in "CS" and n > 1]
        if len(lengths) != len(axes) or not {"Y", "X"} <= set(axes) or others or len(channels) > 1:
            raise ImageError(
                f"{where} has the axes {axes} with {' x '.join(map(str, array.shape))} numbers. Expected one picture:"
                " Y, X and up to 4 channels; save the plane that you want as a file of its own."
            )
        if channels and channels[0] not in (3, 4) and not every_channel:
            raise ImageError(
                f"{where} has {channels[0]} channels. Expected 1 (gray), 3 (RGB) or 4 (RGBA); name three"
                " with `input.channels`."
            )
        self.size = (lengths["Y"], lengths["X"])
        block = math.prod(getattr(array, "chunks", (0,))) * np.dtype(array.dtype).itemsize
        if block > _LARGEST_BLOCK:
            raise ImageError(
                f"{where} is stored in blocks of {block / 1e9:.1f} GB, each of which must be read whole. Save it in"
                " tiles, such as 512 x 512."
            )

    def read(self, rows: slice, columns: slice) -> Pixels:
        """Read the blocks that a part touches; see `Regions.read`."""
        parts = {"Y": rows, "X": columns, "C": slice(None), "S": slice(None)}
        lengths = dict(zip(self._axes, self._array.shape, strict=True))
        kept = [a for a in self._axes if a in "YX" or (a in "CS" and lengths[a] > 1)]
        try:
            values = self._array[tuple(parts[a] if a in kept else 0 for a in self._axes)]
        except Exception as error:  # each codec has errors of its own
            raise ImageError(
                f"{self.where} cannot be read in rows {rows.start} to {rows.stop}: {first_line(error)}. The file is"
                " damaged, or its compression is not known here."
            ) from error
        kept.sort(key=lambda a: "YX".find(a) % 3)  # channels last
        order = [a for a in self._axes if a in kept]
        values = np.transpose(np.asarray(values), [order.index(a) for a in kept])
        return read_image(
            np.asarray(values, values.dtype.newbyteorder("=")), deep=self._deep, every_channel=self._every_channel
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def open_regions(image: "ImageLike | Regions", *, deep: bool = False, every_channel: bool = False) -> Regions:
    """Open an image of any size.

    Args:
        image: what `read_image` takes, a TIFF file of any size, or the folder of a Zarr array or of an OME-Zarr image.
        deep: keep 16 bits, as `read_image` does.
        every_channel: keep all channels, as `read_image` does.

    Raises:
        ImageError: it cannot be read, or is no single picture.
        MissingDependencyError: the file needs tifffile or zarr, which are not installed.
    """
    if isinstance(image, Regions):
        return image
    keep = {"deep": deep, "every_channel": every_channel}
    if not isinstance(image, (str, Path)):
        return WholeImage(read_image(image, **keep))
    path = user_path(image)
    if path.is_dir():
        return _open_zarr(path, **keep)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return WholeImage(read_image(path, **keep), where=str(image))
    try:
        return WholeImage(read_image(path, **keep), where=str(image))
    except ImageError:
        if not path.is_file():
            raise
        return _open_tiff(path, **keep)


def _open_tiff(path: Path, **keep: bool) -> Regions:
    purpose = f"Reading {path} in parts"
    tifffile, zarr = (
        require("tifffile", extra="large", purpose=purpose),
        require("zarr", extra="large", purpose=purpose),
    )
    try:
        file = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise ImageError(f"{path} is no TIFF file that can be read: {first_line(error)}.") from error
    try:
        series = file.series[0]
        page = series.levels[0].pages[0]
        photometric, orientation = int(page.photometric), page.tags.get(_ORIENTATION)
        if photometric not in _PHOTOMETRIC or (orientation is not None and orientation.value != 1):
            raise ImageError(
                f"{path} stores its colors as {page.photometric.name}, or rotated. In a file of this size, expected"
                " gray or RGB, upright; convert it."
            )
        pages = [other.pages[0] for other in file.series[1:]]
        if not (file.is_svs or file.is_ndpi or file.is_scn) and any(not (p.is_reduced or p.is_mask) for p in pages):
            raise ImageError(
                f"{path} has {len(file.series)} pictures, and only one can be an image. Save each of them as a file of"
                " its own."
            )
        if series.dataoffset is not None:  # one block, without compression
            return StoredImage(_Mapped(tifffile, path, series), series.axes, where=str(path), file=file, **keep)
        level = series.levels[0]
        return StoredImage(zarr.open(series.aszarr(level=0), mode="r"), level.axes, where=str(path), file=file, **keep)
    except ImageError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise ImageError(f"{path} is no TIFF file that can be read in parts: {first_line(error)}.") from error


class _Mapped:
    """The numbers of a file without compression; mapped anew for each part, so that memory does not fill with it."""

    def __init__(self, tifffile: Any, path: Path, series: Any) -> None:
        self._tifffile, self._path = tifffile, path
        self.shape = series.shape
        self.dtype = series.dtype

    def __getitem__(self, part: Any) -> np.ndarray:
        return np.array(self._tifffile.memmap(self._path, series=0, level=0, mode="r")[part])


def _open_zarr(path: Path, **keep: bool) -> Regions:
    zarr = require("zarr", extra="large", purpose=f"Reading {path}")
    try:
        found = zarr.open(str(path), mode="r")
        axes = None
        if isinstance(found, zarr.Group):
            attributes: Mapping[str, Any] = found.attrs.asdict()
            image = (attributes.get("ome") or attributes)["multiscales"][0]
            axes = "".join(str(axis["name"] if isinstance(axis, Mapping) else axis).upper() for axis in image["axes"])
            found = found[image["datasets"][0]["path"]]
        axes = axes or {2: "YX", 3: "YXC"}[found.ndim]
    except Exception as error:  # of zarr, and where a key is missing
        raise ImageError(
            f"{path} is no image: {first_line(error)}. Expected the folder of a Zarr array (Y, X) or (Y, X, channels),"
            " or of an OME-Zarr image."
        ) from error
    return StoredImage(found, axes, where=str(path), **keep)
