"""Which images there are to predict: `list_images` of folders, patterns, manifests and URLs, each image once.

An image is known by its *key*: its path as the input gives it, or its URL. Two files of one name in different folders
have different keys. Everything is listed before anything is predicted, so that progress has an end; the list takes some
hundred bytes an image.

Remote files are read by fsspec, which knows `memory://`, and with its plug-ins `s3://`, `gs://`, `az://`, `https://`.
"""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from panoptic_deeplab.errors import ConfigError, DatasetError, ImageError, first_line, require
from panoptic_deeplab.files import parse_json, user_path
from panoptic_deeplab.images.read import (
    IMAGE_SUFFIXES,
    UNREADABLE_SUFFIXES,
    find_images,
    image_files,
    name_videos,
    videos_of,
)
from panoptic_deeplab.images.video import VIDEO_SUFFIXES

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
"""Files that list images."""

_COLUMNS = ("image", "file_name", "path", "url")
"""The column of a manifest that names the image: the first of these that there is."""

_SUFFIXES = IMAGE_SUFFIXES | UNREADABLE_SUFFIXES


class UnreachableError(ImageError):
    """The place of an image does not answer (network, credentials, a plug-in), which says nothing of the image."""


class Item(NamedTuple):
    """One image to predict."""

    key: str
    """What results call it, unique; bytes of a file name that are not UTF-8 are escapes, `\\udcff`."""
    place: str
    """Path or URL."""

    @property
    def stem(self) -> str:
        """Name without folder and suffix."""
        return PurePosixPath(self.key.replace("\\", "/")).stem


def list_images(inputs: Iterable[str]) -> list[Item]:
    """List the images of all inputs, each once, in their order.

    Args:
        inputs: each an image file; a folder (with all its subfolders); a pattern, `photos/**/*.jpg`; a manifest
            (`.csv`, `.jsonl`, `.parquet`) with a column `image`, `file_name`, `path` or `url`, relative to its folder;
            or a URL of any of these. Links to folders are not followed.

    Raises:
        ImageError: an input has no image, or a folder cannot be listed.
        DatasetError: a manifest cannot be read, or has no such column.
        ConfigError: a URL means nothing, or cannot be reached; or an input is a video.
    """
    found: dict[str, Item] = {}
    for source in inputs:
        for place in _places(source):
            _check_no_video(place)
            key = place.encode("utf-8", "backslashreplace").decode()
            found.setdefault(key, Item(key, place))
    if not found:
        raise ImageError("There is no image to predict. Name files, folders, patterns, manifests or URLs.")
    return list(found.values())


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """The file of an image; a remote one is copied for as long as it is needed.

    Raises:
        UnreachableError: its place does not answer.
        ImageError: it cannot be had.
    """
    if not is_url(item.place):
        yield Path(item.place)
        return
    try:
        file_system, path = _file_system(item.place)
        content = file_system.cat_file(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ImageError(f"There is no image file {item.place}. Check the address.") from error
    except PermissionError as error:
        raise ImageError(f"{item.place} cannot be read: {first_line(error)}. Check its permissions.") from error
    except Exception as error:  # each plug-in has errors of its own
        raise UnreachableError(f"{item.place} cannot be read: {first_line(error)}.") from error
    suffix = PurePosixPath(path).suffix.lower()
    with tempfile.TemporaryDirectory(prefix="panoptic-deeplab-") as folder:
        file = Path(folder) / f"image{suffix if suffix in _SUFFIXES else ''}"
        file.write_bytes(content)
        try:
            yield file
        except ImageError as error:  # names the copy
            raise ImageError(str(error).replace(str(file), item.place)) from error


def is_url(place: str) -> bool:
    """Whether a place is a URL for fsspec, `s3://bucket/key`."""
    return "://" in place or "::" in place


def _check_no_video(place: str) -> None:
    if PurePosixPath(place.replace("\\", "/")).suffix.lower() in VIDEO_SUFFIXES:
        raise ConfigError(
            f"{place} is a video, and only images are read here. Let `panoptic-deeplab predict` take it, or save its"
            " frames as files."
        )


def _places(source: str) -> Iterator[str]:
    suffix = PurePosixPath(source).suffix.lower()
    if suffix in MANIFEST_SUFFIXES:
        yield from _of_manifest(source, suffix)
    elif is_url(source):
        yield from _of_url(source)
    elif user_path(source).is_dir():
        images = []
        for folder, _, _ in os.walk(user_path(source), onerror=_refuse):
            images += image_files(Path(folder))
            name_videos(Path(folder), videos_of(Path(folder)))
        if not images:
            raise ImageError(f"Folder {source} has no image in it. Expected files such as .jpg, .png or .tif.")
        yield from map(str, sorted(images))
    else:
        yield from map(str, find_images(source))


def _refuse(error: OSError) -> None:
    """A folder that is left out in silence would be missed by nobody."""
    raise ImageError(
        f"Folder {error.filename} cannot be listed: {error.strerror}. Allow it, or name the other folders."
    ) from error


def _of_url(url: str) -> Iterator[str]:
    file_system, path = _file_system(url)
    try:
        if file_system.isdir(path):
            paths = [p for p in file_system.find(path) if _is_picture(p)]
        elif file_system.exists(path):  # its name may have letters of patterns
            paths = [path]
        else:
            paths = file_system.glob(path) if any(letter in path for letter in "*?[") else []
        places = [file_system.unstrip_protocol(p) for p in sorted(paths)]
    except Exception as error:  # each plug-in has errors of its own
        raise ConfigError(f"{url} cannot be listed: {first_line(error)}.") from error
    if not places:
        raise ImageError(f"There is no image at {url}. Check the address or pattern.")
    yield from places


def _is_picture(path: str) -> bool:
    """By the rules of `image_files`."""
    name = PurePosixPath(path).name
    return not (path.endswith("/") or name.startswith(".")) and PurePosixPath(name).suffix.lower() in _SUFFIXES


def _file_system(url: str) -> tuple[Any, str]:
    fsspec = require("fsspec", extra="batch", purpose="Reading URLs")
    try:
        file_system, path = fsspec.core.url_to_fs(url)
    except Exception as error:
        raise ConfigError(
            f"{url} cannot be opened: {first_line(error)}. URLs are read by fsspec; s3:// needs the package s3fs, gs://"
            " needs gcsfs."
        ) from error
    return file_system, path


def _of_manifest(source: str, suffix: str) -> Iterator[str]:
    where = f"The manifest {source}"
    try:
        if is_url(source):
            file_system, path = _file_system(source)
            content = file_system.cat_file(path)
        else:
            content = user_path(source).read_bytes()
    except ConfigError:
        raise
    except Exception as error:
        raise DatasetError(f"{where} cannot be read: {first_line(error)}.") from error
    folder = source.replace("\\", "/").rpartition("/")[0]
    for number, row in enumerate(_rows(content, suffix, where), start=1):
        column = next((name for name in _COLUMNS if name in row), None)
        name = row.get(column) if column else None
        if not isinstance(name, str) or not name:
            raise DatasetError(
                f"{where} names no image in row {number}. Expected a column {', '.join(_COLUMNS)} with a path or URL."
            )
        if is_url(name) or os.path.isabs(name):  # noqa: PTH117 - a URL is no path
            yield name
        else:
            yield f"{folder}/{name}" if folder else name


def _rows(content: bytes, suffix: str, where: str) -> Iterator[dict[str, Any]]:
    if suffix == ".parquet":
        parquet = require("pyarrow.parquet", extra="batch", purpose="Reading Parquet")
        try:
            table = parquet.read_table(io.BytesIO(content))
            column = next((name for name in _COLUMNS if name in table.column_names), None)
            rows = table.select([column] if column else []).to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's are kin of these
            raise DatasetError(f"{where} is no Parquet file: {first_line(error)}.") from error
        yield from rows or [{}]
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where} is no text in UTF-8. Save it as such.") from error
    if suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            row = parse_json(line, where=f"{where}, line {number},", error=DatasetError)
            if not isinstance(row, dict):
                raise DatasetError(f"{where} has no object in line {number}. Expected one a line.")
            yield row
