"""What everybody outside the network sees: `Segment` and `PanopticResult`.

The same two classes describe truth and prediction, so metrics, pictures and files treat both alike. The dependence on
files and formats of other tools (RLE, polygons, COCO records) is in `results/formats.py`.
"""

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt8

from panoptic_deeplab.categories import IGNORE_INDEX, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, VOID_ID
from panoptic_deeplab.results.run_lengths import Runs, areas_and_boxes, find_runs


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

    Every non-zero id of `panoptic_map` appears exactly once in `segments_info` and the other way round; `check` says
    whether it does. What writes results or measures them checks that first.

    Raises:
        DatasetError: a map is no array of integers of the right shape, or `segments_info` holds something else than
            segments with whole numbers, or an id twice.
    """

    panoptic_map: Int32[np.ndarray, "H W"]
    """Segment ids, 0 = void."""
    segments_info: list[Segment]
    categories: CategoryTable = field(repr=False)
    semantic_map: UInt8[np.ndarray, "H W"] | None = field(default=None, repr=False)
    """Train ids of the argmax before merging (255 = void, in truth). mIoU is taken from it, as official tools do."""

    def __post_init__(self) -> None:
        map_: Any = self.panoptic_map
        if not isinstance(map_, np.ndarray) or map_.ndim != 2 or not np.issubdtype(map_.dtype, np.integer):
            raise DatasetError(
                f"`panoptic_map` of a PanopticResult must be an array of integers with the shape (H, W). Got"
                f" {type(map_).__name__} {getattr(map_, 'dtype', '')} {tuple(getattr(map_, 'shape', ()))} instead."
            )
        semantic: Any = self.semantic_map
        shape, dtype = getattr(semantic, "shape", ()), getattr(semantic, "dtype", None)
        if semantic is not None and (shape != map_.shape or dtype != np.uint8):
            raise DatasetError(
                f"`semantic_map` of a PanopticResult must be uint8 {map_.shape}, as its `panoptic_map`, or None. Got"
                f" {type(semantic).__name__} {dtype} {tuple(shape)} instead."
            )
        _check_segments(self.segments_info)

    @classmethod
    def from_maps(
        cls,
        panoptic_map: Integer[np.ndarray, "H W"],
        category_ids: Mapping[int, int],
        categories: CategoryTable,
        *,
        crowd: Collection[int] = (),
        scores: Mapping[int, float] | None = None,
    ) -> "PanopticResult":
        """Describe the segments of a map: areas, boxes and names are computed.

        Args:
            panoptic_map: segment ids, 0 = void.
            category_ids: the `Category.id` of each segment id in the map.
            categories: the class table.
            crowd: ids of the thing segments that are groups which nobody separated; truth only.
            scores: scores of segment ids; predictions only.

        Raises:
            DatasetError: an id is in the map or in `category_ids` only, the table lacks a category, a stuff class has
                several segments, or `crowd` or `scores` name something else than segments of the map.

        Example:
            >>> table = CategoryTable.load("synthetic")
            >>> result = PanopticResult.from_maps(np.array([[0, 5], [5, 5]]), {5: 1}, table)
            >>> result.segments_info[0].area, result.segments_info[0].bbox
            (3, (0, 0, 2, 2))
        """
        where, scores = "The panoptic map", scores or {}
        cls(panoptic_map=panoptic_map, segments_info=[], categories=categories)  # refuses what is no map
        ids = [_whole(id_) for id_ in category_ids]
        runs = find_runs(panoptic_map)
        areas, boxes = areas_and_boxes(runs, segment_places(panoptic_map, runs, ids, where=where), len(ids))
        _check_present(ids, areas, where=where)
        segments = []
        for id_, category_id, area, box in zip(ids, category_ids.values(), areas.tolist(), boxes.tolist(), strict=True):
            category = categories[_train_id(id_, category_id, categories, where=where)]
            segments.append(
                Segment(
                    id=id_,
                    category_id=category.id,
                    name=category.name,
                    isthing=category.isthing,
                    area=area,
                    bbox=(box[0], box[1], box[2], box[3]),
                    iscrowd=id_ in crowd,
                    score=scores.get(id_),
                )
            )
        stuff: dict[int, Segment] = {}
        for segment in segments:
            if not segment.isthing and stuff.setdefault(segment.category_id, segment) is not segment:
                raise DatasetError(
                    f"{where} has the segments {stuff[segment.category_id].id} and {segment.id} of the stuff class"
                    f" {segment.name!r}. Expected one segment for all its pixels; give them one id."
                )
        things = [segment.id for segment in segments if segment.isthing]
        for name, named, allowed in (("crowd", crowd, things), ("scores", scores, ids)):
            if unknown := sorted(set(named) - set(allowed)):
                raise DatasetError(f"`{name}` names segment {unknown[0]}. Expected some of {allowed}.")
        return cls(
            panoptic_map=panoptic_map.astype(np.int32, copy=False), segments_info=segments, categories=categories
        )

    @property
    def size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        height, width = self.panoptic_map.shape
        return height, width

    def check(self, *, where: str = "The panoptic map") -> None:
        """Hold map, segments and categories against each other, in one pass over the map.

        Args:
            where: file or image, for the message.

        Raises:
            DatasetError: an id is in the map or in `segments_info` only, an area is not the number of its pixels, a
                bbox leaves the map, or the table lacks a category.
        """
        ids = [int(segment.id) for segment in self.segments_info]
        check_categories(self.segments_info, self.categories, where=where)
        areas = check_consistency(self.panoptic_map, ids, where=where)
        height, width = self.size
        for segment, area in zip(self.segments_info, areas.tolist(), strict=True):
            if segment.area != area:
                raise DatasetError(
                    f"{where}: segments_info says that segment {segment.id} ({segment.name}) has {segment.area} pixels,"
                    f" but the map has {area}. Expected its number of pixels as `area`."
                )
            x, y, box_width, box_height = segment.bbox
            if min(x, y, box_width - 1, box_height - 1) < 0 or x + box_width > width or y + box_height > height:
                raise DatasetError(
                    f"{where}: segment {segment.id} ({segment.name}) has the bbox {segment.bbox}, which leaves the map"
                    f" of {width} x {height} pixels. Expected (x, y, width, height)."
                )

    def masks(self) -> Bool[np.ndarray, "N H W"]:
        """One boolean mask a segment, in the order of `segments_info`. Takes N x H x W bytes."""
        ids = np.array([s.id for s in self.segments_info], np.int32)
        masks: Bool[np.ndarray, "N H W"] = self.panoptic_map[None] == ids[:, None, None]
        return masks

    def instances(self) -> list[Segment]:
        """The things, best score first (segments without a score last, in the order of `segments_info`)."""
        things = [s for s in self.segments_info if s.isthing]
        return sorted(things, key=lambda s: -np.inf if s.score is None else s.score, reverse=True)

    def segment_index(self, *, where: str = "The panoptic map") -> Int64[np.ndarray, "H W"]:
        """Which segment each pixel belongs to: 0 = void, n = `segments_info[n - 1]`; for lookups in tables of segments.

        Args:
            where: file or image, for the message.

        Raises:
            DatasetError: the map has an id that `segments_info` does not list.
        """
        return segment_index(self.panoptic_map, [s.id for s in self.segments_info], where=where)

    def train_id_map(self) -> UInt8[np.ndarray, "H W"]:
        """Train id of each pixel *after* merging, 255 where void."""
        train_ids = self.categories.train_id_by_category_id
        of_segments = np.array([IGNORE_INDEX, *(train_ids[s.category_id] for s in self.segments_info)], np.uint8)
        return of_segments.take(self.segment_index())

    def resized(self, size: tuple[int, int]) -> "PanopticResult":
        """The maps by nearest neighbor at another size, and the segments described anew.

        Ids stay as they are. A segment that loses all its pixels in a smaller map is left out of `segments_info`, so
        map and list agree.

        Args:
            size: the new `(height, width)`; the result itself is returned when it has that size already.

        Returns:
            A result of `size`, with `area` and `bbox` in its pixels.

        Raises:
            DatasetError: one of the two sizes has no pixels.
        """
        if self.size == size:
            return self
        if min(size) < 1 or 0 in self.size:
            raise DatasetError(f"A result of {self.size} cannot be resized to {size}. Expected positive sizes.")
        # The center of new pixel i lies at (i + 0.5) * old / new - 0.5 of the old pixels, as in an image's own resize.
        rows = ((2 * np.arange(size[0]) + 1) * self.size[0]) // (2 * size[0])
        columns = ((2 * np.arange(size[1]) + 1) * self.size[1]) // (2 * size[1])
        taken = np.ix_(rows, columns)
        panoptic_map = self.panoptic_map[taken]
        runs = find_runs(panoptic_map)
        ids = [segment.id for segment in self.segments_info]
        places = segment_places(panoptic_map, runs, ids, where="The panoptic map")
        areas, boxes = areas_and_boxes(runs, places, len(ids))
        segments = [
            replace(segment, area=area, bbox=(box[0], box[1], box[2], box[3]))
            for segment, area, box in zip(self.segments_info, areas.tolist(), boxes.tolist(), strict=True)
            if area > 0
        ]
        return replace(
            self,
            panoptic_map=panoptic_map,
            segments_info=segments,
            semantic_map=None if self.semantic_map is None else self.semantic_map[taken],
        )


def segment_index(
    panoptic_map: Integer[np.ndarray, "H W"], segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, "H W"]:
    """Place of each pixel's segment in a list: 0 = void, n = `segment_ids[n - 1]`.

    Args:
        panoptic_map: segment ids.
        segment_ids: non-zero, in any order; ids without a pixel may be listed.
        where: file or image, for the message.

    Raises:
        DatasetError: the map has an id that is not listed, or an id is listed twice or out of range.
    """
    runs = find_runs(panoptic_map)
    return runs.spread(segment_places(panoptic_map, runs, segment_ids, where=where))


def segment_places(
    panoptic_map: Integer[np.ndarray, "H W"], runs: Runs, segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, " R"]:
    """Place of each run's segment in a list: 0 = void, n = `segment_ids[n - 1]`.

    Args:
        panoptic_map: segment ids.
        runs: stretches in which the map is constant.
        segment_ids: non-zero, in any order; ids without a pixel may be listed.
        where: file or image, for the message.

    Raises:
        DatasetError: as for `segment_index`.
    """
    try:
        ids = np.array(segment_ids, np.int64)
    except OverflowError as error:
        raise DatasetError(
            f"{where}: segments_info lists an id of more than 64 bits. Expected 1 to {MAX_SEGMENT_ID}."
        ) from error
    unique_ids, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{where}: segments_info lists id {unique_ids[counts > 1][0]} more than once.")
    values = runs.of(panoptic_map)
    smallest, largest = int(values.min(initial=VOID_ID)), int(values.max(initial=VOID_ID))
    if smallest < 0 or largest > MAX_SEGMENT_ID:
        raise DatasetError(
            f"{where} has segment ids from {smallest} to {largest}. Expected 0 (void) to {MAX_SEGMENT_ID};"
            " renumber the segments."
        )
    impossible = unique_ids[(unique_ids <= VOID_ID) | (unique_ids > MAX_SEGMENT_ID)]
    if impossible.size:
        raise DatasetError(
            f"{where}: segments_info lists id {impossible[0]}. Expected 1 to {MAX_SEGMENT_ID}; {VOID_ID} means void."
        )
    # A table over all ids: zeroed memory is only touched where an id is looked up, so sparse 24-bit ids cost little.
    place_of_id = np.zeros(largest + 1, np.int64)
    visible = ids <= largest
    place_of_id[ids[visible]] = 1 + np.flatnonzero(visible)
    places: Int64[np.ndarray, " R"] = place_of_id[values]
    if np.count_nonzero(places) != np.count_nonzero(values):
        unknown = np.flatnonzero((places == 0) & (values != VOID_ID))[0]
        y, x = divmod(int(runs.starts[unknown]), runs.size[1])
        raise DatasetError(
            f"{where} has id {values[unknown]} at (y={y}, x={x}), but segments_info lists no such segment."
            " Expected every non-zero id of the map in segments_info (COCO panoptic format)."
        )
    return places


def check_consistency(
    panoptic_map: Integer[np.ndarray, "H W"], segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, " N"]:
    """Hold map and table against each other.

    Args:
        panoptic_map: segment ids.
        segment_ids: ids that the table lists.
        where: file or image, for the message.

    Returns:
        Number of pixels of each.

    Raises:
        DatasetError: an id is in one of the two only, twice in the table, or out of range.
    """
    runs = find_runs(panoptic_map)
    places = segment_places(panoptic_map, runs, segment_ids, where=where)
    areas: Int64[np.ndarray, " N"] = np.bincount(places, runs.lengths, minlength=len(segment_ids) + 1)[1:].astype(
        np.int64
    )
    _check_present(segment_ids, areas, where=where)
    return areas


def _check_present(segment_ids: Sequence[int], areas: Int64[np.ndarray, " N"], *, where: str) -> None:
    absent = np.flatnonzero(areas == 0)
    if absent.size:
        raise DatasetError(f"{where}: segments_info lists id {segment_ids[absent[0]]}, but no pixel of the map has it.")


def check_categories(segments: Sequence[Segment], categories: CategoryTable, *, where: str) -> None:
    """Hold the classes of segments against a table.

    Raises:
        DatasetError: the table lacks one.
    """
    for segment in segments:
        _train_id(segment.id, segment.category_id, categories, where=where)


def _train_id(segment_id: int, category_id: Any, categories: CategoryTable, *, where: str) -> int:
    known = categories.train_id_by_category_id
    if category_id not in known:
        raise DatasetError(
            f"{where}: segment {segment_id} has category_id {category_id}, which the category table"
            f" {categories.name!r} lacks. Expected one of {sorted(known)}."
        )
    return known[category_id]


def _whole(segment_id: Any) -> int:
    try:
        return operator.index(segment_id)
    except TypeError as error:
        raise DatasetError(f"Segment id {segment_id!r} is no whole number. Expected 1 to {MAX_SEGMENT_ID}.") from error


def _check_segments(segments: Sequence[Any]) -> None:
    """Refuse what would be an AttributeError or another segment later; without a pass over the map."""
    seen: set[int] = set()
    for segment in segments:
        if not isinstance(segment, Segment):
            raise DatasetError(
                f"`segments_info` of a PanopticResult holds a {type(segment).__name__}. Expected objects of the class"
                " `Segment`, as in Segment(id=1, category_id=26, name='car', isthing=True, area=9, bbox=(0, 0, 3, 3))."
            )
        box = tuple(segment.bbox) if isinstance(segment.bbox, Sequence) else ()
        if len(box) != 4 or not all(
            isinstance(number, Integral) for number in (segment.id, segment.category_id, segment.area, *box)
        ):
            raise DatasetError(
                f"Segment {segment.id!r} has category_id {segment.category_id!r}, area {segment.area!r} and bbox"
                f" {segment.bbox!r}. Expected whole numbers, four of them in the bbox (x, y, width, height)."
            )
        if segment.score is not None and not (isinstance(segment.score, Real) and isfinite(segment.score)):
            raise DatasetError(f"Segment {segment.id} has the score {segment.score!r}. Expected a number, or None.")
        if segment.id in seen:
            raise DatasetError(f"`segments_info` of a PanopticResult lists id {segment.id} more than once.")
        seen.add(segment.id)
