"""Pictures as files, whole or not at all, and as bytes."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from panoptic_deeplab.files import written_whole


def save_picture(picture: Image.Image, path: str | Path, **options: Any) -> None:
    """Write a picture, whole or not at all, in the format that its suffix says.

    Args:
        picture: may have any mode that the format takes.
        path: its folder exists.
        options: those of Pillow's `save`.

    Raises:
        OutputError: the system refuses to write.
    """
    with written_whole(path) as temporary:
        picture.save(temporary, **options)


def encoded(picture: Image.Image, form: str = "png", **options: Any) -> bytes:
    """A picture as the content of a file.

    Args:
        picture: may have any mode that the format takes.
        form: Pillow's name of the format: `png`, `jpeg`.
        options: those of Pillow's `save`.
    """
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
