"""Average precision of instance masks: COCO's protocol, computed by pycocotools itself.

Truth are the thing segments (crowd regions flagged as such), detections the scored thing segments of the predictions,
best first. This module turns both into COCO records and reads the numbers off `COCOeval`.

Dimension letters: `H W` the image, `T R K A M` = IoU thresholds, recalls, classes, area ranges, detection limits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError, require
from panoptic_deeplab.metrics.checks import check_prediction_size, score_of, train_ids_of
from panoptic_deeplab.metrics.metric import Metric, MetricReport
from panoptic_deeplab.results.coco import to_rles
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

_Record = dict[str, Any]
"""A COCO annotation or detection, here still without its image's number."""


class ImageRecords(NamedTuple):
    """The instances of one image."""

    size: tuple[int, int]
    truth: list[_Record]
    detections: list[_Record]


@dataclass(frozen=True, kw_only=True)
class ClassAP:
    """AP of one class; None where the truth has no instance of it."""

    category_id: int
    name: str
    ap: float | None


@dataclass(frozen=True, kw_only=True)
class InstanceAPReport(MetricReport):
    """COCO's numbers as fractions in [0, 1]; None where the truth has no instance (of that size)."""

    numbers: ClassVar = {
        **{"AP": "ap", "AP50": "ap50", "AP75": "ap75"},
        **{"APs": "ap_small", "APm": "ap_medium", "APl": "ap_large"},
    }
    heads: ClassVar = {"AP": "AP (COCO)"}
    row_name: ClassVar[str] = "Masks"
    class_numbers: ClassVar = {"AP (COCO)": "ap"}

    ap: float | None
    """Mean over IoU thresholds 0.5, 0.55, ..., 0.95 and classes."""
    ap50: float | None
    """At IoU 0.5."""
    ap75: float | None
    ap_small: float | None
    """Instances below 32 x 32 pixels."""
    ap_medium: float | None
    ap_large: float | None
    """Instances above 96 x 96 pixels."""
    max_detections: int
    """How many detections a class and image count."""
    per_class: tuple[ClassAP, ...]
    """Thing classes, in the order of the categories given."""


class InstanceAP(Metric):
    """Collects instances of truth and predictions as run lengths.

    Args:
        categories: AP is taken over its things.
        max_detections: detections that count for each class and image, the best first (COCO: 100).

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """

    name = "instances"
    note = "AP (COCO): COCO's protocol (pycocotools), for every data set."
    packages = ("pycocotools",)

    def __init__(self, categories: CategoryTable, max_detections: int = 100) -> None:
        require("pycocotools.cocoeval", extra="eval", purpose="Measuring AP")
        self.categories = categories
        self.max_detections = max_detections
        self.records: dict[str, ImageRecords] = {}
        """By image id."""

    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        """Add one image; every thing segment of the prediction needs a `score`.

        Raises:
            DatasetError: the sizes differ, an instance has no score, a result contradicts itself, or the image was
                there before.
        """
        check_prediction_size(prediction.panoptic_map, truth.panoptic_map, image_id=image_id)
        if image_id in self.records:
            raise DatasetError(f"Image {image_id} was evaluated twice. Image ids must be unique in a data set.")
        detections = [
            {**record, "score": score_of(segment, image_id=image_id)}
            for segment, record in self._things(prediction, where=f"Prediction of image {image_id}")
        ]
        true = [
            {**record, "iscrowd": int(segment.iscrowd)}
            for segment, record in self._things(truth, where=f"Truth of image {image_id}")
        ]
        self.records[image_id] = ImageRecords(truth.size, true, detections)

    def counted(self) -> dict[str, ImageRecords]:
        """The records so far, by image id."""
        return self.records

    def merge(self, parts: Sequence[Mapping[str, ImageRecords]]) -> None:
        """Join the records of several parts.

        Raises:
            DatasetError: an image is in two parts.
        """
        merged: dict[str, ImageRecords] = {}
        for records in parts:
            twice = merged.keys() & records.keys()
            if twice:
                raise DatasetError(f"Image {min(twice)} was evaluated twice. Image ids must be unique in a data set.")
            merged.update(records)
        self.records = merged

    def compute(self) -> InstanceAPReport:
        """The numbers of all images so far."""
        images, truth, detections = [], [], []
        # Sorted, since COCOeval breaks ties between equal scores by the order of images.
        for number, image_id in enumerate(sorted(self.records), start=1):
            records = self.records[image_id]
            images.append({"id": number, "height": records.size[0], "width": records.size[1]})
            truth += [{**record, "image_id": number} for record in records.truth]
            detections += [{**record, "image_id": number} for record in records.detections]
        return coco_average_precision(
            {
                "images": images,
                "categories": [{"id": c.id, "name": c.name} for c in self.categories.categories if c.isthing],
                "annotations": [{**record, "id": number} for number, record in enumerate(truth, start=1)],
            },
            detections,
            max_detections=self.max_detections,
        )

    def _things(self, result: PanopticResult, *, where: str) -> Iterator[tuple[Segment, _Record]]:
        train_ids = train_ids_of(result, self.categories, where=where)
        result.check(where=where)
        things = [s for s, t in zip(result.segments_info, train_ids, strict=True) if self.categories[t].isthing]
        rles = to_rles(result.panoptic_map, [segment.id for segment in things])
        for segment, rle in zip(things, rles, strict=True):
            yield segment, {"category_id": segment.category_id, "segmentation": rle, "area": segment.area}


def coco_average_precision(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    iou_type: Literal["segm", "bbox"] = "segm",
    max_detections: int = 100,
) -> InstanceAPReport:
    """COCO's AP of records as they lie in COCO's files.

    Args:
        truth: `{"images", "categories", "annotations"}` of an instances file; annotation ids are not 0.
        detections: entries of a results file: `image_id`, `category_id`, `score`, and `segmentation` or `bbox`.
        iou_type: compare masks or boxes.
        max_detections: detections that count for each class and image, the best first.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    cocoeval = require("pycocotools.cocoeval", extra="eval", purpose="Measuring AP")
    mask = require("pycocotools.mask", extra="eval", purpose="Measuring AP")

    def completed(number: int, detection: Mapping[str, Any]) -> _Record:
        if iou_type == "segm":
            area = float(mask.area(detection["segmentation"]))
        else:
            area = detection["bbox"][2] * detection["bbox"][3]
        return {"id": number, "iscrowd": 0, **detection, "area": area}

    categories = sorted(truth["categories"], key=lambda category: category["id"])  # the order COCOeval works in
    with redirect_stdout(StringIO()):  # it reports its progress by print
        evaluation = cocoeval.COCOeval(
            _index(truth, truth["annotations"]),
            _index(truth, [completed(number, detection) for number, detection in enumerate(detections, start=1)]),
            iou_type,
        )
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    # COCOeval.summarize only works with limits 1, 10 and 100, so the means are taken here. -1 marks absent classes.
    precision: Float[np.ndarray, "T R K A"] = evaluation.eval["precision"][..., -1]
    areas = {label: number for number, label in enumerate(evaluation.params.areaRngLbl)}
    thresholds = evaluation.params.iouThrs
    everywhere = precision[..., areas["all"]]
    rank = {category["id"]: k for k, category in enumerate(categories)}
    return InstanceAPReport(
        ap=_mean(everywhere),
        ap50=_mean(everywhere[np.isclose(thresholds, 0.5)]),
        ap75=_mean(everywhere[np.isclose(thresholds, 0.75)]),
        ap_small=_mean(precision[..., areas["small"]]),
        ap_medium=_mean(precision[..., areas["medium"]]),
        ap_large=_mean(precision[..., areas["large"]]),
        max_detections=max_detections,
        per_class=tuple(
            ClassAP(category_id=c["id"], name=c["name"], ap=_mean(everywhere[:, :, rank[c["id"]]]))
            for c in truth["categories"]
        ),
    )


def _index(truth: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> Any:
    """A `COCO` object of these records; copies, since COCOeval writes into them."""
    coco = require("pycocotools.coco", extra="eval", purpose="Measuring AP").COCO()
    coco.dataset = {
        "images": list(truth["images"]),
        "categories": list(truth["categories"]),
        "annotations": [dict(annotation) for annotation in annotations],
    }
    coco.createIndex()
    return coco


def _mean(precision: Float[np.ndarray, "..."]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None
