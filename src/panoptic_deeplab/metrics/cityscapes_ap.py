"""Cityscapes' own average precision of instances, which is what the paper's Cityscapes tables call AP.

COCO's AP (`instance_ap.py`) is another number: Cityscapes counts all detections, leaves out instances below 100 pixels,
forgives detections on void and groups, and integrates the curve in steps of every score. The mathematics are those of
cityscapesScripts, called as they are; only the overlaps that they start from are counted here, from two maps instead
of from a file a mask.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError, ImageError, require
from panoptic_deeplab.images.read import opened
from panoptic_deeplab.metrics.checks import check_prediction_size, score_of
from panoptic_deeplab.metrics.instance_ap import ClassAP
from panoptic_deeplab.metrics.metric import Metric, MetricReport
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.run_lengths import find_runs

_TAIL = "_gtFine_instanceIds.png"
_DIVISOR = 1000
_SCORE_DIGITS = 6
"""Digits of a score in the files that are handed in."""


@dataclass(frozen=True, kw_only=True)
class CityscapesClassAP(ClassAP):
    """AP of one class; None where the truth has no instance of it."""

    ap50: float | None


@dataclass(frozen=True, kw_only=True)
class CityscapesAPReport(MetricReport):
    """Fractions in [0, 1]; None where the truth has no instance."""

    numbers: ClassVar = {"AP (Cityscapes)": "ap", "AP50 (Cityscapes)": "ap50"}
    heads: ClassVar = {"AP50 (Cityscapes)": "AP50"}
    row_name: ClassVar[str] = "Masks"
    class_numbers: ClassVar = {"AP (Cityscapes)": "ap"}

    ap: float | None
    """Mean over IoU thresholds 0.5, 0.55, ..., 0.95 and classes."""
    ap50: float | None
    """At IoU 0.5."""
    per_class: tuple[CityscapesClassAP, ...]
    """Thing classes, in the order of the categories given."""


class CityscapesAP(Metric):
    """Collects the overlaps of predicted instances with the labels of Cityscapes.

    Args:
        categories: classes of the predictions; their things are those of Cityscapes, by id and name, or some of
            them.
        label_files: `*_gtFine_instanceIds.png` of each image id.

    Raises:
        MissingDependencyError: cityscapesScripts is not installed.
        DatasetError: the table has things of other classes, or there are no such files.
    """

    name = "cityscapes"
    note = "AP (Cityscapes): Cityscapes' protocol (cityscapesScripts), which the paper's tables on it show."

    def __init__(self, categories: CategoryTable, label_files: Mapping[str, Path]) -> None:
        purpose = "Measuring Cityscapes' own AP"
        script = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"
        self._script = require(script, extra="cityscapes", purpose=purpose)
        self._labels = require("cityscapesscripts.helpers.labels", extra="cityscapes", purpose=purpose).labels
        self._void_ids = [label.id for label in self._labels if label.ignoreInEval]
        self._names = {label.id: label.name for label in self._labels if label.hasInstances and not label.ignoreInEval}
        for category in categories.categories:
            if category.isthing and (self._names.get(category.id) != category.name or category.dataset_ids):
                raise DatasetError(
                    f"{purpose} needs its classes, but category table {categories.name!r} has the thing"
                    f" '{category.id} {category.name}', or joins classes into it."
                )
        if not label_files:
            raise DatasetError(f"{purpose} needs the files *{_TAIL} of gtFine, and there are none of this split.")
        self.categories = categories
        self._label_files = label_files
        self.matches: dict[str, dict[str, Any]] = {}
        """By image id: what cityscapesScripts call `matches`."""

    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        """Add one image; every thing segment of the prediction needs a `score`.

        The instances are read from the label file, since the scripts tell kinds of void apart that are all void here.

        Raises:
            DatasetError: the label file is missing, corrupt or of another size, or an instance has no score.
        """
        label = self._read_label(image_id)
        check_prediction_size(prediction.panoptic_map, label, image_id=image_id)
        runs = find_runs(label, prediction.panoptic_map)
        places = prediction.segment_index(where=f"Prediction of image {image_id}").reshape(-1)[runs.starts]
        values = runs.of(label)
        pairs, which = np.unique(np.stack([values, places]), axis=1, return_inverse=True)
        pixels = np.bincount(which.reshape(-1), runs.lengths, minlength=pairs.shape[1]).astype(np.int64)
        overlaps = {
            (value, place): count for (value, place), count in zip(pairs.T.tolist(), pixels.tolist(), strict=True)
        }
        self.matches[image_id] = self._match(overlaps, prediction, image_id)

    def counted(self) -> dict[str, dict[str, Any]]:
        """The matches so far, by image id."""
        return self.matches

    def merge(self, parts: Sequence[Mapping[str, dict[str, Any]]]) -> None:
        """Join the matches of several parts."""
        self.matches = {name: match for part in parts for name, match in part.items()}

    def compute(self) -> CityscapesAPReport:
        """The numbers of all images so far, by cityscapesScripts."""
        names = list(self._names.values())
        arguments = self._script.CArgs()
        for key in ("overlaps", "minRegionSizes", "distanceThs", "distanceConfs", "distanceAvailable"):
            setattr(arguments, key, getattr(self._script.args, key))
        arguments.instLabels = names
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # nan, the mean of nothing, is meant so
            matches = self._script.evaluateMatches(dict(sorted(self.matches.items())), arguments)
            averages = self._script.computeAverages(matches, arguments)
        return CityscapesAPReport(
            ap=finite(averages["allAp"]),
            ap50=finite(averages["allAp50%"]),
            per_class=tuple(
                CityscapesClassAP(
                    category_id=category.id, name=category.name, ap=finite(own["ap"]), ap50=finite(own["ap50%"])
                )
                for category in self.categories.categories
                if category.isthing
                for own in [averages["classes"][category.name]]
            ),
        )

    def _match(
        self, overlaps: Mapping[tuple[int, int], int], prediction: PanopticResult, image_id: str
    ) -> dict[str, Any]:
        """What `assignGt2Preds` of the scripts makes of one image.

        `overlaps` are pixels by (value of the label file, place of the predicted segment, 0 = void).
        """
        truth: dict[str, list[dict[str, Any]]] = {name: [] for name in self._names.values()}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self._names.values()}
        for value in sorted({value for value, _ in overlaps}):
            name = self._names.get(value // _DIVISOR if value >= _DIVISOR else value)
            if name is not None:
                area = sum(count for (other, _), count in overlaps.items() if other == value)
                row = {"instID": value, "pixelCount": area, "medDist": -1, "distConf": 0.0, "matchedPred": []}
                truth[name].append(row)
        place_of = {segment.id: place for place, segment in enumerate(prediction.segments_info, start=1)}
        for segment in prediction.instances():
            place, name = place_of[segment.id], self._names[segment.category_id]
            row = {
                "pixelCount": segment.area,
                "confidence": round(score_of(segment, image_id=image_id), _SCORE_DIGITS),
                "voidIntersection": sum(overlaps.get((void, place), 0) for void in self._void_ids),
            }
            shared = [
                (true, overlaps[true["instID"], place]) for true in truth[name] if (true["instID"], place) in overlaps
            ]
            for true, intersection in shared:
                true["matchedPred"].append(row | {"intersection": intersection})
            matched = [
                {key: true[key] for key in true if key != "matchedPred"} | {"intersection": n} for true, n in shared
            ]
            found[name].append(row | {"matchedGt": matched})
        return {"groundTruth": truth, "prediction": found}

    def _read_label(self, image_id: str) -> Int64[np.ndarray, "H W"]:
        if image_id not in self._label_files:
            raise DatasetError(f"Image {image_id} has no file *{_TAIL}, which Cityscapes' own AP is measured on.")
        try:
            with opened(self._label_files[image_id]) as picture:
                values = np.array(picture)
        except ImageError as error:
            raise DatasetError(str(error)) from error
        if values.ndim != 2:
            raise DatasetError(f"{self._label_files[image_id]} is a color image. Expected the ids of instances.")
        label: Int64[np.ndarray, "H W"] = values.astype(np.int64)
        return label


def cityscapes_label_files(root: str | Path, split: str) -> dict[str, Path]:
    """Image id -> file of instances of a split; empty where there are none (only a panoptic JSON, or the test split).

    `root` has the folder `gtFine`; `split` is `train`, `val` or `trainval`.
    """
    subsets = {"trainval": ("train", "val"), "test": ()}.get(split, (split,))
    folders = [Path(root).expanduser() / "gtFine" / subset for subset in subsets]
    return {path.name.removesuffix(_TAIL): path for folder in folders for path in sorted(folder.glob(f"*/*{_TAIL}"))}


def finite(value: Any) -> float | None:
    """The number, None where there was nothing to measure."""
    return float(value) if np.isfinite(value) else None
