"""What everybody outside the network sees: `Segment` and `PanopticResult`.

The same two classes describe truth and prediction, so metrics, pictures and files treat both alike. The dependence on
files and formats of other tools (RLE, polygons, COCO records) is in `result_formats.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.encoding import VOID_ID
from panoptic_deeplab.errors import DatasetError


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a `panoptic_map`: an instance of a thing, or all pixels of a stuff class."""

    id: int
    """The value of its pixels in `panoptic_map`, never 0."""
    category_id: int
    """`Category.id` in the table of the result."""
    name: str
    """Name of the category."""
    isthing: bool
    area: int
    """Pixels."""
    bbox: tuple[int, int, int, int]
    """COCO order: `(x, y, width, height)` in pixels."""
    iscrowd: bool = False
    """Truth only: a group of things that nobody separated."""
    score: float | None = None
    """Predictions only. Things: objectness x class probability (section 3.3); stuff: mean class probability."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticResult:
    """A panoptic segmentation of one image.

    Every non-zero id of `panoptic_map` appears exactly once in `segments_info` and the other way round.
    """

    panoptic_map: Int32[np.ndarray, "H W"]
    """Segment ids, 0 = void."""
    segments_info: list[Segment]
    categories: CategoryTable = field(repr=False)
    semantic_map: UInt8[np.ndarray, "H W"] | None = field(default=None, repr=False)
    """Train ids of the argmax before merging (255 = void, in truth). mIoU is taken from it, as official tools do."""

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        height, width = self.panoptic_map.shape
        return height, width

    def masks(self) -> Bool[np.ndarray, "N H W"]:
        """One boolean mask a segment, in the order of `segments_info`. Takes N x H x W bytes."""
        ids = np.array([s.id for s in self.segments_info], np.int32)
        masks: Bool[np.ndarray, "N H W"] = self.panoptic_map[None] == ids[:, None, None]
        return masks

    def instances(self) -> list[Segment]:
        """The things, best score first (segments without a score last, in the order of `segments_info`)."""
        things = [s for s in self.segments_info if s.isthing]
        return sorted(things, key=lambda s: -np.inf if s.score is None else s.score, reverse=True)

    def train_id_map(self) -> UInt8[np.ndarray, "H W"]:
        """Train id of each pixel *after* merging, 255 where void."""
        train_ids = self.categories.train_id_by_category_id
        ids = np.array([VOID_ID, *(s.id for s in self.segments_info)], np.int64)
        classes = np.array([255, *(train_ids[s.category_id] for s in self.segments_info)], np.uint8)
        order = np.argsort(ids)
        return classes[order[np.searchsorted(ids[order], self.panoptic_map)]]


def check_consistency(panoptic_map: Int32[np.ndarray, "H W"], segment_ids: Sequence[int], *, where: str) -> None:
    """Hold map and table against each other.

    Args:
        panoptic_map: segment ids.
        segment_ids: ids that the table lists.
        where: file or image, for the message.

    Raises:
        DatasetError: an id is in one of the two only, or twice in the table.
    """
    listed = np.asarray(segment_ids, np.int64)
    unique_listed, counts = np.unique(listed, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{where}: segments_info lists id {unique_listed[counts > 1][0]} more than once.")
    present = np.unique(panoptic_map)
    present = present[present != VOID_ID]
    unlisted = np.setdiff1d(present, unique_listed)
    if unlisted.size:
        y, x = np.argwhere(panoptic_map == unlisted[0])[0]
        raise DatasetError(
            f"{where} has id {unlisted[0]} at (y={y}, x={x}), but segments_info lists no such segment."
            " Expected every non-zero id of the map in segments_info (COCO panoptic format)."
        )
    absent = np.setdiff1d(unique_listed, present)
    if absent.size:
        raise DatasetError(f"{where}: segments_info lists id {absent[0]}, but no pixel of the map has it.")
