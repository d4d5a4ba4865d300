"""One labeled image, and the protocol that every data set reader follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One image with its truth, as a `PanopticSource` reads it from disk, before any transform."""

    image_id: str
    """Unique in the source; what files, reports and error messages call the image."""
    image: UInt8[np.ndarray, "H W 3"]
    """RGB. Readers refuse files whose EXIF orientation asks for a rotation, since labels do not say whether they were
    drawn before or after it."""
    panoptic_map: Int32[np.ndarray, "H W"] | None
    """Segment ids, 0 = void; None where the split has no labels (a test split)."""
    segments_info: list[Segment]
    """Truth, with `category_id` of the source's `categories` (dataset ids are translated, stuff segments of one
    class joined); empty where there are no labels."""
    image_path: Path | None = None
    """The file of the image; None where it was computed."""
    deep_image: Pixels | None = None
    """All that the file holds, `(H, W, channels)`, where that is more than RGB of 8 bits: other numbers, more channels.
    `image` is then what people see of it (`viewable`), and the network sees this one, by `input.range` and
    `input.channels`."""
    has_channels: bool = False
    """Whether the channels of `deep_image` are no colors, so that `input.channels` has to name three."""

    def __post_init__(self) -> None:
        """Refuse an image or a map of another shape or dtype with a `DatasetError`."""
        image: Any = self.image
        map_: Any = self.panoptic_map
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            raise DatasetError(
                f"{self.image_id}: the image is {_described(image)}. Expected RGB of uint8, (height, width, 3)."
            )
        if map_ is None:
            return
        if not (isinstance(map_, np.ndarray) and map_.dtype == np.int32 and map_.ndim == 2):
            raise DatasetError(
                f"{self.image_id}: the label map is {_described(map_)}. Expected an array of int32, (height, width);"
                " PanopticResult.from_maps makes one."
            )
        if map_.shape != self.size:
            raise DatasetError(
                f"{self.image_id}: the image has size {self.size}, its label map {map_.shape} (height, width). Expected"
                " equal sizes."
            )

    @property
    def pixels(self) -> Pixels:
        """The image with all of its depth and channels, for `input.range` and `input.channels`."""
        return self.image if self.deep_image is None else self.deep_image

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def truth(self, categories: CategoryTable) -> PanopticResult:
        """The label as a `PanopticResult`, with `semantic_map` from the segments (255 = void)."""
        assert self.panoptic_map is not None, f"{self.image_id} has no labels"
        result = PanopticResult(panoptic_map=self.panoptic_map, segments_info=self.segments_info, categories=categories)
        return replace(result, semantic_map=result.train_id_map())


@runtime_checkable
class PanopticSource(Protocol):
    """A labeled set on disk, or computed: any object with these three members, and nothing random in it.

    With `data.num_workers`, it is copied to worker processes. An attribute `image_ids`, the names of all images in
    their order, is optional: it spares reading a sample to name it, and shows a resumed run that a set has changed.
    """

    categories: CategoryTable

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: a file is missing, corrupt or contradicts another one.
        """
        ...


def image_ids(source: PanopticSource) -> Sequence[str]:
    """The names of all images of a source; their numbers where it does not know names without reading."""
    names: Sequence[str] = getattr(source, "image_ids", None) or [str(index) for index in range(len(source))]
    return names


def _described(value: Any) -> str:
    return f"{type(value).__name__} {getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ()))}"
