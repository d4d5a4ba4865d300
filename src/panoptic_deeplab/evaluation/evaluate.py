"""`evaluate(predictor, source) -> EvaluationReport`: PQ, mIoU and AP of a model on a labelled set.

One pass over the images, shared among the processes of torchrun; every process gets the report of the whole set.
The maths is in `metrics/`, the looks in `visualize/`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

import panoptic_deeplab
from panoptic_deeplab import distributed
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError, ConfigError, DatasetError, MissingDependencyError, visible
from panoptic_deeplab.metrics.cityscapes_ap import CityscapesAP, CityscapesAPReport
from panoptic_deeplab.metrics.instance_ap import InstanceAP, InstanceAPReport
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panoptic_deeplab.metrics.semantic_iou import SemanticIoU, SemanticIoUReport
from panoptic_deeplab.results.panoptic_result import PanopticResult

logger = logging.getLogger(__name__)

_ONE_PROCESS = Process()
_NOTES = (
    "PQ: panopticapi's algorithm; areas are counted in the label map instead of read from its JSON.",
    "mIoU: Cityscapes' algorithm on the semantic map before merging, with this table's classes.",
    "AP (COCO): COCO's protocol (pycocotools), for every data set.",
)
_CITYSCAPES_NOTE = "AP (Cityscapes): Cityscapes' protocol (cityscapesScripts), which the paper's tables on it show."


@runtime_checkable  # tests check types at run time
class Predictor(Protocol):
    """What is evaluated: `PanopticPredictor`, or anything else with these two members."""

    @property
    def categories(self) -> CategoryTable:
        """The classes it predicts."""
        ...

    def predict(self, image: UInt8[np.ndarray, "H W 3"]) -> PanopticResult:
        """Segment one RGB image, at its own size."""
        ...


class Picture(NamedTuple):
    """One evaluated image, for the mosaic."""

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]
    truth: PanopticResult
    prediction: PanopticResult


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationReport:
    """All numbers of an evaluation. Fractions in [0, 1]; `table` prints percent."""

    panoptic: PanopticQualityReport
    semantic: SemanticIoUReport
    instances: InstanceAPReport | None
    """COCO's AP; None where pycocotools is not installed."""
    cityscapes: CityscapesAPReport | None
    """Cityscapes' own AP; None where it was not asked for."""
    num_images: int
    seconds: Mapping[str, float]
    """`reading`, `prediction` and `metrics`: wall time of the slowest process."""
    provenance: Mapping[str, Any]
    """`evaluator`, `data` (name of the category table), `processes`, `versions` of packages, and `notes`: how the
    numbers were made where that is not obvious; and what the caller of `evaluate` adds."""
    pictures: list[Picture] = field(default_factory=list, repr=False)
    """The first images of the set; not in the JSON."""

    def metric(self, name: str) -> float:
        """The number that chooses the best checkpoint.

        Args:
            name: `PQ`, `mIoU` or `AP` (`EvaluationConfig.metric`).

        Raises:
            ConfigError: there is no such metric, or this set has nothing to measure it on.
        """
        values = {
            "PQ": self.panoptic.all_classes.pq,
            "mIoU": self.semantic.miou,
            "AP": self.instances.ap if self.instances else None,
        }
        if name not in values:
            raise ConfigError(f"`evaluation.metric` must be one of {', '.join(values)}. Got {name!r} instead.")
        value = values[name]
        if value is None:
            raise ConfigError(
                f"`evaluation.metric` is {name}, but the {self.num_images} evaluated images have nothing to measure it"
                f" on. Choose another one; measured: {[n for n, v in values.items() if v is not None]}."
            )
        return value

    def to_json(self) -> dict[str, Any]:
        """Plain data for `report.json`.

        Keys: `panoptic` (`all`, `things`, `stuff` with `pq`, `sq`, `rq`, `num_classes`; `per_class`; `not_counted`),
        `semantic` (`miou`, `pixel_accuracy`, ...), `instances` (`ap`, `ap50`, ..., or null), `num_images`, `seconds`,
        `provenance`, and `cityscapes` (`ap`, `ap50`, `per_class`, or null). Metrics are fractions in [0, 1]; null means
        that there was nothing to measure.
        """
        return {
            "panoptic": self.panoptic.to_json(),
            "semantic": self.semantic.to_json(),
            "instances": self.instances.to_json() if self.instances else None,
            "cityscapes": self.cityscapes.to_json() if self.cityscapes else None,
            "num_images": self.num_images,
            "seconds": dict(self.seconds),
            "provenance": dict(self.provenance),
        }

    def table(self, per_class: bool = False) -> str:
        """The numbers in percent as plain text; `-` where there was nothing to measure.

        Args:
            per_class: add a row a class.
        """
        quality = self.panoptic
        groups = (("All", quality.all_classes), ("Things", quality.things), ("Stuff", quality.stuff))
        rows = [["", "PQ", "SQ", "RQ", "N"]]
        rows += [[name, *map(_percent, (g.pq, g.sq, g.rq)), str(g.num_classes)] for name, g in groups]
        pixels = self.semantic
        further = [["", "mIoU", "accuracy"], ["Pixels", _percent(pixels.miou), _percent(pixels.pixel_accuracy)]]
        parts = [_columns(rows), _columns(further)]
        if self.instances:
            ap = self.instances
            numbers = (ap.ap, ap.ap50, ap.ap75, ap.ap_small, ap.ap_medium, ap.ap_large)
            head = ["", "AP (COCO)", "AP50", "AP75", "APs", "APm", "APl"]
            parts.append(_columns([head, ["Masks", *map(_percent, numbers)]]))
        if self.cityscapes:
            own = (self.cityscapes.ap, self.cityscapes.ap50)
            parts.append(_columns([["", "AP (Cityscapes)", "AP50"], ["Masks", *map(_percent, own)]]))
        if per_class:
            parts.append(_columns(self._class_rows()))
        elif quality.not_counted:
            names = ", ".join(quality.not_counted)
            parts.append(f"Neither in the labels nor predicted, so not counted in PQ: {visible(names)}")
        parts.append(f"{self.num_images} images, percent")
        return "\n\n".join(parts) + "\n"

    def _class_rows(self) -> list[list[str]]:
        protocols: dict[str, InstanceAPReport | CityscapesAPReport | None] = {"AP (COCO)": self.instances}
        if self.cityscapes:
            protocols["AP (Cityscapes)"] = self.cityscapes
        ap_of = [
            {row.category_id: row.ap for row in report.per_class} if report else {} for report in protocols.values()
        ]
        rows = [["", "PQ", "SQ", "RQ", "IoU", *protocols, "TP", "FP", "FN"]]
        for row, pixels in zip(self.panoptic.per_class, self.semantic.per_class, strict=True):
            fractions = (row.pq, row.sq, row.rq, pixels.iou, *(ap.get(row.category_id) for ap in ap_of))
            counts = (row.true_positives, row.false_positives, row.false_negatives)
            rows.append([visible(row.name), *map(_percent, fractions), *map(str, counts)])
        return rows


def evaluate(
    predictor: Predictor,
    source: PanopticSource,
    *,
    config: EvaluationConfig,
    cityscapes: CityscapesAP | None = None,
    process: Process = _ONE_PROCESS,
    on_image: Callable[[int, int], None] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> EvaluationReport:
    """Predict every image of a labelled set and measure PQ, mIoU and AP.

    Args:
        predictor: its categories must be those of the source.
        source: every image needs a label.
        config: what to measure.
        cityscapes: to measure Cityscapes' own AP too, on the images of its label files.
        process: this process evaluates images rank, rank + world_size, ...; all processes must call this function.
        on_image: called after each image with the number of images done and to do, in this process.
        provenance: plain data that the report's `provenance` holds too, which only the caller knows: model folder,
            split, device, precision, compile, settings.

    Returns:
        The report of the whole set, equal in every process.

    Raises:
        CheckpointError: the predictor has other classes than the source.
        DatasetError: an image has no label, or the set is empty.
        MissingDependencyError: `config.metric` is AP and pycocotools is not installed.
    """
    check_same_categories(predictor.categories, source.categories)
    if not len(source):
        raise DatasetError("The data set has no images to evaluate. Check data.root and data.val_split.")
    quality, semantic = PanopticQuality(source.categories), SemanticIoU(source.categories)
    notes = list(_NOTES)
    try:
        instances = InstanceAP(source.categories, config.max_detections)
    except MissingDependencyError as error:
        if config.metric == "AP":
            raise
        logger.warning("%s AP is left out.", error)
        notes.append(f"AP was left out: {error}")
        instances = None
    if cityscapes is not None:
        notes.append(_CITYSCAPES_NOTE)
    metrics = [metric for metric in (quality, semantic, instances, cityscapes) if metric is not None]

    seconds = {"reading": 0.0, "prediction": 0.0, "metrics": 0.0}
    pictures: dict[int, Picture] = {}
    indices = range(process.rank, len(source), process.world_size)
    for done, index in enumerate(indices, start=1):
        begin = perf_counter()
        sample = source[index]
        if sample.panoptic_map is None:
            raise DatasetError(
                f"Image {sample.image_id} has no label, so it cannot be evaluated."
                " Evaluate a labelled split, or use `panoptic-deeplab predict` for this one."
            )
        truth = sample.truth(source.categories)
        read = perf_counter()
        prediction = predictor.predict(sample.image)
        predicted = perf_counter()
        for metric in metrics:
            metric.update(prediction, truth, sample.image_id)
        if index < config.num_pictures:
            pictures[index] = Picture(sample.image_id, sample.image, truth, prediction)
        seconds["reading"] += read - begin
        seconds["prediction"] += predicted - read
        seconds["metrics"] += perf_counter() - predicted
        if on_image:
            on_image(done, len(indices))

    begin = perf_counter()
    for metric in metrics:
        metric.synchronize()
    panoptic_report, semantic_report = quality.compute(), semantic.compute()
    instance_report = instances.compute() if instances else None
    cityscapes_report = cityscapes.compute() if cityscapes else None
    seconds["metrics"] += perf_counter() - begin
    of_processes = distributed.gather_objects((seconds, pictures))
    all_pictures = {index: picture for _, shown in of_processes for index, picture in shown.items()}
    return EvaluationReport(
        panoptic=panoptic_report,
        semantic=semantic_report,
        instances=instance_report,
        cityscapes=cityscapes_report,
        num_images=len(source),
        seconds={name: max(times[name] for times, _ in of_processes) for name in seconds},
        provenance={
            "evaluator": f"panoptic_deeplab {panoptic_deeplab.__version__}",
            "data": source.categories.name,
            "processes": process.world_size,
            "versions": _versions(with_ap=instances is not None),
            "notes": notes,
            **(provenance or {}),
        },
        pictures=[all_pictures[index] for index in sorted(all_pictures)],
    )


def check_same_categories(predicted: CategoryTable, labelled: CategoryTable) -> None:
    """Hold the classes of a model against those of a data set: ids, names, thing or stuff, and their order.

    Raises:
        CheckpointError: they differ.
    """
    for train_id, (ours, theirs) in enumerate(zip(predicted.categories, labelled.categories, strict=False)):
        if (ours.id, ours.name, ours.isthing) != (theirs.id, theirs.name, theirs.isthing):
            difference = f"class {train_id} is {_described(ours)} in the model and {_described(theirs)} in the data set"
            break
    else:
        if len(predicted) == len(labelled):
            return
        difference = "the first classes are equal, their number is not"
    raise CheckpointError(
        f"The model predicts {len(predicted)} classes ({predicted.name}), the data set has {len(labelled)}"
        f" ({labelled.name}): {difference}. Use a model trained on these categories, or set data.categories to the"
        " model's table."
    )


def _described(category: Any) -> str:
    return f"{category.name!r} (id {category.id}, {'thing' if category.isthing else 'stuff'})"


def _versions(*, with_ap: bool) -> dict[str, str]:
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    if with_ap:
        versions["pycocotools"] = metadata.version("pycocotools")
    return versions


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _columns(rows: list[list[str]]) -> str:
    """Align cells: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(max(w, 6)) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
