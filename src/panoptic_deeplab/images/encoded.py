"""Images that come as the bytes of a file, from strangers: few formats, and a look at the head before any decoding."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.channels import TIFF_HEADS
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.pages import check_single
from panoptic_deeplab.images.pillow_errors import pillow_errors
from panoptic_deeplab.images.read import decode

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
"""What is decoded, by Pillow's names; others are not even looked at."""

_NAMES = "PNG, JPEG, WebP or TIFF"


class TooManyPixelsError(ImageError):
    """The head of an image says that it is larger than allowed."""


class UnknownFormatError(ImageError):
    """The bytes are no image of the formats that are read."""


def read_encoded(
    data: bytes, *, max_pixels: int, deep: bool = False, every_channel: bool = False, where: str = "The image"
) -> Pixels:
    """Decode an image as `read_image` decodes the file with these bytes.

    Args:
        data: the whole file, a PNG, JPEG, WebP or TIFF.
        max_pixels: images with more are refused before their pixels are decoded.
        deep: as for `read_image`.
        every_channel: as for `read_image`; of a TIFF, no more channels than colors.
        where: name of the image, for messages.

    Returns:
        RGB, turned as EXIF says; uint8, or uint16 with `deep`.

    Raises:
        UnknownFormatError: the bytes are no such image.
        TooManyPixelsError: it is too large.
        ImageError: it is corrupt, or has several pages.
    """
    with pillow_errors(where), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:  # its message names an object in memory
            if _is_video(data):
                raise UnknownFormatError(
                    f"{where} is a video, of which only pictures are read here. Send its frames one by one, or let"
                    " `panoptic-deeplab predict` take the file."
                ) from error
            if data[:4] in TIFF_HEADS:
                raise UnknownFormatError(
                    f"{where} is a TIFF with other channels than gray, RGB or RGBA, or other numbers. Save"
                    " three channels of it as RGB of 8 bits, or one as gray."
                ) from error
            raise UnknownFormatError(
                f"{where} is no image that is read here. Expected a complete {_NAMES} file; convert it."
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooManyPixelsError(
                f"{where} has more than {Image.MAX_IMAGE_PIXELS} pixels. At most {max_pixels} are read; make it"
                " smaller."
            ) from error
    with picture:
        if picture.width * picture.height > max_pixels:
            raise TooManyPixelsError(
                f"{where} has {picture.height} x {picture.width} pixels (height x width). At most {max_pixels} are"
                " read; make it smaller, or cut it into tiles."
            )
        check_single(picture, where=where)
        return decode(picture, where=where, exif=True, deep=deep, every_channel=every_channel)


def _is_video(data: bytes) -> bool:
    """Whether a file begins like MP4 or MOV (but for pictures in the same container), Matroska or AVI."""
    is_mp4 = data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    is_avi = data[:4] == b"RIFF" and data[8:11] == b"AVI"
    return is_mp4 or is_avi or data[:4] == b"\x1a\x45\xdf\xa3"
