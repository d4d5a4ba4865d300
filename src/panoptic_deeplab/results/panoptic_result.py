"""What everybody outside the network sees: `Segment` and `PanopticResult`.

The same two classes describe truth and prediction, so metrics, pictures and files treat both alike. The dependence on
files and formats of other tools (RLE, polygons, COCO records) is in `results/coco.py`.
"""

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt8

from panoptic_deeplab.categories import IGNORE_INDEX, Category, CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID
from panoptic_deeplab.results.places import check_consistency, check_present, segment_index, segment_places
from panoptic_deeplab.results.run_lengths import areas_and_boxes, find_runs


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
    """Predictions only, in [0, 1]. Things: how probably a true object is there, where the model is calibrated
    (`postprocess.score_calibration`), else `objectness_score` cut to [0, 1]; stuff: mean class probability."""
    objectness_score: float | None = None
    """Predicted things only: objectness x class probability (section 3.3), which may be above 1. AP ranks by it."""

    @property
    def ranking_score(self) -> float | None:
        """What AP and lists of instances rank by: `objectness_score`, or `score` where there is none."""
        return self.score if self.objectness_score is None else self.objectness_score

    @classmethod
    def of(cls, category: Category, number: int, area: int, box: Sequence[int], **more: Any) -> "Segment":
        """A segment of a category, with the id `number` and the COCO box; `more` are `iscrowd` or the scores."""
        names = {"category_id": category.id, "name": category.name, "isthing": category.isthing}
        x, y, width, height = box
        return cls(id=number, area=area, bbox=(x, y, width, height), **names, **more)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticResult:
    """A panoptic segmentation of one image.

    Every non-zero id of `panoptic_map` appears exactly once in `segments_info` and the other way round; `check` says
    whether it does. What writes results or measures them checks that first.

    Raises:
        DatasetError: a map is no array of integers of the right shape, `categories` is no table, or `segments_info`
            holds something else than segments with whole numbers, or an id twice.
    """

    panoptic_map: Int32[np.ndarray, "H W"]
    """Segment ids, 0 = void."""
    segments_info: list[Segment]
    categories: CategoryTable = field(repr=False)
    semantic_map: UInt8[np.ndarray, "H W"] | None = field(default=None, repr=False)
    """Train ids of the argmax before merging (255 = void, in truth). mIoU is taken from it, as official tools do."""

    def __post_init__(self) -> None:
        map_: Any = self.panoptic_map
        _check_map(map_)
        semantic: Any = self.semantic_map
        shape, dtype = getattr(semantic, "shape", ()), getattr(semantic, "dtype", None)
        if semantic is not None and (shape != map_.shape or dtype != np.uint8):
            raise DatasetError(
                f"`semantic_map` of a PanopticResult must be uint8 {map_.shape}, as its `panoptic_map`, or None. Got"
                f" {type(semantic).__name__} {dtype} {tuple(shape)} instead."
            )
        _check_table(self.categories)
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
        _check_map(panoptic_map)
        _check_table(categories)
        ids = [_whole(id_) for id_ in category_ids]
        runs = find_runs(panoptic_map)
        areas, boxes = areas_and_boxes(runs, segment_places(panoptic_map, runs, ids, where=where), len(ids))
        check_present(ids, areas, where=where)
        segments = []
        for id_, category_id, area, box in zip(ids, category_ids.values(), areas.tolist(), boxes.tolist(), strict=True):
            category = categories[_train_id(id_, category_id, categories, where=where)]
            segments.append(Segment.of(category, id_, area, box, iscrowd=id_ in crowd, score=scores.get(id_)))
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

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from panoptic_deeplab.results.notebook import result_html

        return result_html(self)

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
                bbox leaves the map, or the table lacks a category or a train id of `semantic_map`.
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
        if self.semantic_map is not None:
            count = len(self.categories)
            beyond = self.semantic_map[(self.semantic_map >= count) & (self.semantic_map != IGNORE_INDEX)]
            if beyond.size:
                raise DatasetError(
                    f"{where}: semantic_map has the train id {beyond[0]}, but the category table"
                    f" {self.categories.name!r} has {count} classes. Expected 0 to {count - 1}, or {IGNORE_INDEX}."
                )

    def masks(self) -> Bool[np.ndarray, "N H W"]:
        """One boolean mask a segment, in the order of `segments_info`. Takes N x H x W bytes."""
        ids = np.array([s.id for s in self.segments_info], np.int32)
        masks: Bool[np.ndarray, "N H W"] = self.panoptic_map[None] == ids[:, None, None]
        return masks

    def instances(self) -> list[Segment]:
        """The things, best score first (segments without a score last, in the order of `segments_info`)."""
        things = [s for s in self.segments_info if s.isthing]
        return sorted(things, key=lambda s: -np.inf if s.ranking_score is None else s.ranking_score, reverse=True)

    def without_weak_things(self, min_score: float) -> "PanopticResult":
        """The result without things whose score is lower; their pixels are void. Without scores, nothing is weak."""
        weak = [s.id for s in self.segments_info if s.isthing and s.score is not None and s.score < min_score]
        if not weak:
            return self
        kept = np.where(np.isin(self.panoptic_map, weak), np.int32(0), self.panoptic_map)
        return replace(self, panoptic_map=kept, segments_info=[s for s in self.segments_info if s.id not in set(weak)])

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


def _check_map(panoptic_map: Any) -> None:
    array = isinstance(panoptic_map, np.ndarray)
    if not array or panoptic_map.ndim != 2 or not np.issubdtype(panoptic_map.dtype, np.integer):
        got = f"{getattr(panoptic_map, 'dtype', '')} {tuple(getattr(panoptic_map, 'shape', ()))}"
        raise DatasetError(
            "`panoptic_map` of a PanopticResult must be an array of integers with the shape (H, W). Got"
            f" {type(panoptic_map).__name__} {got} instead."
        )


def _check_table(categories: Any) -> None:
    if not isinstance(categories, CategoryTable):
        raise DatasetError(
            f"`categories` of a PanopticResult must be a CategoryTable. Got {categories!r} instead; CategoryTable.load"
            " reads one by its name or from a file."
        )


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
        for score in (segment.score, segment.objectness_score):
            if score is not None and not (isinstance(score, Real) and isfinite(score)):
                raise DatasetError(f"Segment {segment.id} has the score {score!r}. Expected a number, or None.")
        if segment.id in seen:
            raise DatasetError(f"`segments_info` of a PanopticResult lists id {segment.id} more than once.")
        seen.add(segment.id)
