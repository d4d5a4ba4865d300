"""What goes from the process that speaks HTTP to a worker, and back."""

from typing import NamedTuple

from panoptic_deeplab.serving.options import Options


class Job(NamedTuple):
    """One request, on its way to a worker."""

    model: str
    options: Options
    image: bytes | None
    """An image file, or None where `image_id` names one that is kept."""
    image_id: str | None = None


class Reply(NamedTuple):
    """Its answer, on the way back."""

    body: bytes
    media_type: str
    image_id: str
    num_pixels: int
    passes: int
    """Images that went through the network for it: 0 or 1."""
    seconds: dict[str, float]
    """Time of each stage."""
