"""Panoptic Quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019), equal to panopticapi's numbers.

    PQ = (sum of IoU over matched pairs) / (TP + FP / 2 + FN / 2) = SQ x RQ        for each class, then averaged

The rules of the reference implementation, all kept:

1. A predicted and a true segment match if they have the same class and an IoU above 0.5 (so at most one partner).
2. Pixels that are void in the truth are taken out of the union; void in the *prediction* is not.
3. Crowd regions are neither matched nor missed (no FN).
4. An unmatched prediction is no FP if more than half of it lies on void and on crowd of its class. Of several crowd
   regions of one class in an image only the last listed one counts.
5. Classes without TP, FP and FN are left out of the averages.

Two things differ without changing a number of well-formed data: areas are counted in the map instead of read from
`Segment.area`, and a group without any class gives None instead of a division by zero.

Dimension letters: `C` classes, `T` true segments, `P` predicted segments, `N` pairs that share a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import visible
from panoptic_deeplab.metrics.checks import check_prediction_size, train_ids_of
from panoptic_deeplab.metrics.metric import Metric, MetricReport, percent
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.places import check_consistency, segment_places
from panoptic_deeplab.results.run_lengths import find_runs


@dataclass(frozen=True, kw_only=True)
class ClassQuality:
    """PQ of one class. All numbers are None for a class that occurs neither in truth nor in predictions."""

    category_id: int
    name: str
    isthing: bool
    pq: float | None
    sq: float | None
    """Mean IoU of the matched pairs, 0 where there are none."""
    rq: float | None
    """F1 score of detection."""
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True, kw_only=True)
class QualityAverage:
    """Means over classes, in [0, 1]; None where no class counts."""

    pq: float | None
    sq: float | None
    rq: float | None
    num_classes: int
    """How many classes were averaged."""


@dataclass(frozen=True, kw_only=True)
class PanopticQualityReport(MetricReport):
    """The numbers of `PanopticQuality`, as fractions in [0, 1]."""

    numbers: ClassVar = {"PQ": "pq", "SQ": "sq", "RQ": "rq"}
    class_numbers: ClassVar = {**numbers, "TP": "true_positives", "FP": "false_positives", "FN": "false_negatives"}

    all_classes: QualityAverage
    things: QualityAverage
    stuff: QualityAverage
    per_class: tuple[ClassQuality, ...]
    """In the order of train ids."""

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Names of the classes that occur neither in truth nor in predictions, so in no average."""
        return tuple(row.name for row in self.per_class if row.pq is None)

    def values(self) -> dict[str, float | None]:
        """PQ, SQ and RQ of all classes, of things (`PQ_thing`, ...) and of stuff (`PQ_stuff`, ...)."""
        groups = (("", self.all_classes), ("_thing", self.things), ("_stuff", self.stuff))
        return {name + end: getattr(g, field) for end, g in groups for name, field in self.numbers.items()}

    def table(self) -> list[list[str]]:
        """A row a group, with the number of its classes."""
        groups = (("All", self.all_classes), ("Things", self.things), ("Stuff", self.stuff))
        rows = [[name, *map(percent, (g.pq, g.sq, g.rq)), str(g.num_classes)] for name, g in groups]
        return [["", *self.numbers, "N"], *rows]

    def remark(self) -> str:
        """The classes that are not counted."""
        names = visible(", ".join(self.not_counted))
        return f"Neither in the labels nor predicted, so not counted in PQ: {names}" if names else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: `{"all"|"things"|"stuff": {"pq", "sq", "rq", "num_classes"}, "per_class": [...], ...}`."""
        return {
            "all": vars(self.all_classes).copy(),
            "things": vars(self.things).copy(),
            "stuff": vars(self.stuff).copy(),
            "per_class": [vars(row).copy() for row in self.per_class],
            "not_counted": list(self.not_counted),
        }


@dataclass(frozen=True, kw_only=True)
class ImageQuality:
    """PQ of one image, the mean over the classes in it, and which segments found no partner."""

    image_id: str
    pq: float | None
    """None where nothing counts."""
    true_positives: int
    missed: tuple[int, ...]
    """Ids of true segments (FN)."""
    false: tuple[int, ...]
    """Ids of predicted segments (FP)."""


class PanopticQuality(Metric):
    """Accumulates PQ over images.

    >>> from panoptic_deeplab.categories import Category
    >>> table = CategoryTable(name="one", categories=(Category(id=1, name="cat", isthing=True, color=(0, 0, 0)),))
    >>> print(PanopticQuality(table).compute().all_classes.pq)  # no image yet
    None
    """

    name = "panoptic"
    note = "PQ: panopticapi's algorithm; areas are counted in the label map instead of read from its JSON."

    def __init__(self, categories: CategoryTable) -> None:
        self.categories = categories
        self.state: Float64[Tensor, "C 4"] = torch.zeros(len(categories), 4, dtype=torch.float64)
        """Columns: sum of IoU, TP, FP, FN. Counts are exact in float64, so one tensor travels between processes."""
        self.last_image: ImageQuality | None = None
        """The image that was added last."""

    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        """Add one image; scores and semantic map of the prediction are not looked at.

        Raises:
            DatasetError: the sizes differ, a map and its `segments_info` contradict each other, or a segment has a
                category that the table lacks.
        """
        check_prediction_size(prediction.panoptic_map, truth.panoptic_map, image_id=image_id)
        num_classes = len(self.categories)
        # Index 0 is void; its two classes agree with nothing, not even with each other.
        truth_class = np.array([-1, *train_ids_of(truth, self.categories, where=f"Truth of image {image_id}")])
        prediction_class = np.array(
            [-2, *train_ids_of(prediction, self.categories, where=f"Prediction of image {image_id}")]
        )
        iscrowd: Bool[np.ndarray, " T+1"] = np.array([False, *(s.iscrowd for s in truth.segments_info)])
        pairs = _overlaps(prediction, truth, image_id=image_id)
        t, p, intersection = pairs.truth_index, pairs.prediction_index, pairs.intersection

        truth_area = np.bincount(t, intersection, minlength=len(truth_class))
        prediction_area = np.bincount(p, intersection, minlength=len(prediction_class))
        on_void = np.bincount(p, np.where(t == 0, intersection, 0), minlength=len(prediction_class))

        same_class = truth_class[t] == prediction_class[p]
        candidates = np.flatnonzero(same_class & ~iscrowd[t])
        t_candidate, p_candidate, shared = t[candidates], p[candidates], intersection[candidates]
        iou = shared / (truth_area[t_candidate] + prediction_area[p_candidate] - shared - on_void[p_candidate])
        match = iou > 0.5
        t_match, p_match = t_candidate[match], p_candidate[match]

        # Void is neither missed nor false.
        missed = ~iscrowd
        missed[t_match] = False
        missed[0] = False

        crowd_of_class = np.full(num_classes, -1)
        crowd_of_class[truth_class[iscrowd]] = np.flatnonzero(iscrowd)  # of equal classes, numpy keeps the last
        on_remembered_crowd = same_class & (crowd_of_class[truth_class[t]] == t)
        on_crowd = np.bincount(p, np.where(on_remembered_crowd, intersection, 0), minlength=len(prediction_class))
        false = on_void + on_crowd <= 0.5 * prediction_area
        false[p_match] = False
        false[0] = False

        columns = (
            np.bincount(truth_class[t_match], iou[match], minlength=num_classes),
            np.bincount(truth_class[t_match], minlength=num_classes),
            np.bincount(prediction_class[false], minlength=num_classes),
            np.bincount(truth_class[missed], minlength=num_classes),
        )
        counts = np.stack(columns, axis=1).astype(np.float64)
        self.state += torch.from_numpy(counts)
        self.last_image = ImageQuality(
            image_id=image_id,
            pq=_average(self._rows(counts)).pq,
            true_positives=len(t_match),
            missed=tuple(truth.segments_info[index - 1].id for index in np.flatnonzero(missed)),
            false=tuple(prediction.segments_info[index - 1].id for index in np.flatnonzero(false)),
        )

    def counted(self) -> Float64[Tensor, "C 4"]:
        """The sums so far."""
        return self.state

    def merge(self, parts: Sequence[Float64[Tensor, "C 4"]]) -> None:
        """Add up the sums of several parts. Counts are exact; sums of IoU differ by rounding with the order."""
        self.state = torch.stack(list(parts)).sum(0)

    def compute(self) -> PanopticQualityReport:
        """The numbers of all images so far."""
        rows = self._rows(self.state.numpy())
        return PanopticQualityReport(
            all_classes=_average(rows),
            things=_average([row for row in rows if row.isthing]),
            stuff=_average([row for row in rows if not row.isthing]),
            per_class=tuple(rows),
        )

    def _rows(self, state: Float64[np.ndarray, "C 4"]) -> list[ClassQuality]:
        rows = []
        for category, (iou_sum, tp, fp, fn) in zip(self.categories.categories, state.tolist(), strict=True):
            counts = tp + fp + fn > 0
            rows.append(
                ClassQuality(
                    category_id=category.id,
                    name=category.name,
                    isthing=category.isthing,
                    pq=iou_sum / (tp + 0.5 * fp + 0.5 * fn) if counts else None,
                    sq=(iou_sum / tp if tp else 0.0) if counts else None,
                    rq=tp / (tp + 0.5 * fp + 0.5 * fn) if counts else None,
                    true_positives=int(tp),
                    false_positives=int(fp),
                    false_negatives=int(fn),
                )
            )
        return rows


class _Overlaps(NamedTuple):
    """Pairs of segments that share pixels. Index 0 is void, 1.. are the positions in `segments_info` plus 1."""

    truth_index: Int[np.ndarray, " N"]
    prediction_index: Int[np.ndarray, " N"]
    intersection: Int64[np.ndarray, " N"]


def _overlaps(prediction: PanopticResult, truth: PanopticResult, *, image_id: str) -> _Overlaps:
    """Count the pixels of all pairs in one pass; contradictions of map and segments are a `DatasetError`."""
    both = (("Truth", truth), ("Prediction", prediction))
    runs = find_runs(truth.panoptic_map, prediction.panoptic_map)
    codes, prediction_places = (
        segment_places(
            result.panoptic_map, runs, [s.id for s in result.segments_info], where=f"{who} of image {image_id}"
        )
        for who, result in both
    )
    num_columns = len(prediction.segments_info) + 1
    codes = codes * num_columns + prediction_places
    num_codes = (len(truth.segments_info) + 1) * num_columns
    if num_codes <= 65536:  # counting is several times faster than sorting
        counts = np.bincount(codes, runs.lengths, minlength=num_codes)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, inverse = np.unique(codes, return_inverse=True)
        counts = np.bincount(inverse, runs.lengths)
    places = np.divmod(present, num_columns)
    for (who, result), place in zip(both, places, strict=True):
        if np.union1d(place, [0]).size - 1 != len(result.segments_info):  # without void, which need not occur
            segment_ids = [s.id for s in result.segments_info]
            check_consistency(result.panoptic_map, segment_ids, where=f"{who} of image {image_id}")
    return _Overlaps(*places, counts.astype(np.int64))  # sums of whole numbers are exact in float64


def _average(rows: list[ClassQuality]) -> QualityAverage:
    counted = [(row.pq, row.sq, row.rq) for row in rows if row.pq is not None]
    if not counted:
        return QualityAverage(pq=None, sq=None, rq=None, num_classes=0)
    pq, sq, rq = np.array(counted, np.float64).mean(axis=0).tolist()
    return QualityAverage(pq=pq, sq=sq, rq=rq, num_classes=len(counted))
