"""Which pictures `panoptic-deeplab predict` was given: files, and the pages of TIFF files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from panoptic_deeplab.cli.predict.tiles import is_stored_image
from panoptic_deeplab.errors import ConfigError, ImageError


class Picture(NamedTuple):
    """One picture to predict."""

    path: Path
    """The file."""
    page: int | None
    """Which page of it, from 0; None = it has one picture."""


def find_pictures(sources: Iterable[str], *, stored: bool) -> dict[Path, Picture]:
    """List the pictures of files, folders and patterns, each once, under the path that names it in results.

    That is the path of the file; for page 3 of several in `stack.tif`, `stack_page0003.tif` in the same folder, which
    is no file.

    Args:
        sources: what the user named.
        stored: take a folder that is one image (Zarr) as such.

    Raises:
        ImageError: a source means nothing.
        ConfigError: a page would have the name of another file.
    """
    from panoptic_deeplab.images.pages import TIFF_SUFFIXES, num_pages
    from panoptic_deeplab.images.read import find_images

    found: list[Path] = []
    for source in sources:
        found.extend([Path(source)] if stored and is_stored_image(source) else find_images(source))
    unique: dict[str, Path] = {}
    for path in found:
        unique.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links stay what they are
    pictures: dict[Path, Picture] = {}
    for path in unique.values():
        try:
            count = num_pages(path) if path.suffix.lower() in TIFF_SUFFIXES else 1
        except ImageError:  # said, with those of the other images, when it is read
            count = 1
        pages = {path: Picture(path, None)}
        if count > 1:
            pages = {
                path.with_name(f"{path.stem}_page{page + 1:04}{path.suffix}"): Picture(path, page)
                for page in range(count)
            }
        both = next((key for key in pages if key in pictures), None)
        if both is not None:
            raise ConfigError(
                f"{both} would name both a file and a page of another one. Predict them separately, into two folders."
            )
        pictures |= pages
    return pictures
