"""`evaluate(predictor, source) -> EvaluationReport`: PQ, mIoU and AP of a model on a labeled set.

One pass over the images, shared among the processes of torchrun; every process gets the report of the whole set.
The math is in `metrics/`, the looks in `visualize/`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

import panoptic_deeplab
from panoptic_deeplab import distributed
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError, ConfigError, DatasetError, MissingDependencyError, visible
from panoptic_deeplab.images.read import read_image
from panoptic_deeplab.metrics.instance_ap import InstanceAP
from panoptic_deeplab.metrics.metric import Metric, MetricReport, percent
from panoptic_deeplab.metrics.panoptic_quality import ImageQuality, PanopticQuality
from panoptic_deeplab.metrics.semantic_iou import SemanticIoU
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.text_table import text_table

logger = logging.getLogger(__name__)

_ONE_PROCESS = Process()
_WIDEST = 640

_METRIC_KEYS = ("panoptic", "semantic", "instances", "cityscapes")
"""Keys of report.json that are there, as null, even where the metric was not measured."""
_T = TypeVar("_T")


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
    """One evaluated image, for the mosaic and the page of errors."""

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]
    truth: PanopticResult
    prediction: PanopticResult

    def reduced(self) -> "Picture":
        """The same at most `_WIDEST` pixels wide, since many are kept until it is known which images are the worst."""
        height, width = self.truth.size
        if width <= _WIDEST:
            return self
        size = (max(1, round(height * _WIDEST / width)), _WIDEST)
        image = Image.fromarray(read_image(self.image)).resize((size[1], size[0]), Image.Resampling.BOX)
        return Picture(self.image_id, np.asarray(image), self.truth.resized(size), self.prediction.resized(size))


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationReport:
    """All numbers of an evaluation. Fractions in [0, 1]; `table` prints percent."""

    categories: CategoryTable
    measured: Mapping[str, MetricReport]
    """By `Metric.name`, in the order of the tables."""
    num_images: int
    seconds: Mapping[str, float]
    """`reading`, `prediction` and `metrics`: wall time of the slowest process."""
    provenance: Mapping[str, Any]
    """`evaluator`, `data` (name of the category table), `processes`, `versions` of packages, and `notes`: how the
    numbers were made where that is not obvious; and what the caller of `evaluate` adds."""
    pictures: list[Picture] = field(default_factory=list, repr=False)
    """The first images of the set; not in the JSON."""
    images: list[ImageQuality] = field(default_factory=list, repr=False)
    """PQ of every image, the worst first; not in the JSON."""
    worst: list[Picture] = field(default_factory=list, repr=False)
    """Pictures of the first ones of `images`, reduced; not in the JSON."""

    def values(self) -> dict[str, float | None]:
        """All numbers by name: PQ, SQ, RQ, each also with `_thing` and `_stuff`, mIoU, accuracy, AP, AP50, ...

        A `ConfigError` says that two metrics give numbers of one name.
        """
        return _joined(report.values() for report in self.measured.values())

    def metric(self, name: str) -> float:
        """One of the numbers, a key of `values`, such as `EvaluationConfig.metric`, which chooses the best checkpoint.

        Raises:
            ConfigError: there is no such metric, or this set has nothing to measure it on.
        """
        values = self.values()
        if name not in values:
            raise ConfigError(f"`evaluation.metric` must be one of {', '.join(values)}. Got {name!r} instead.")
        value = values[name]
        if value is None:
            raise ConfigError(
                f"`evaluation.metric` is {name}, but the {self.num_images} evaluated images have nothing to measure it"
                f" on. Choose another one; measured: {[n for n, v in values.items() if v is not None]}."
            )
        return value

    def class_columns(self) -> dict[str, Mapping[int, float | int | None]]:
        """Head -> category id -> fraction or count, of all metrics; the counts come last."""
        columns = _joined(report.class_columns() for report in self.measured.values())
        return dict(sorted(columns.items(), key=lambda item: any(isinstance(cell, int) for cell in item[1].values())))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `report.json`.

        Keys: `panoptic` (`all`, `things`, `stuff` with `pq`, `sq`, `rq`, `num_classes`; `per_class`; `not_counted`),
        `semantic` (`miou`, `pixel_accuracy`, ...), `instances` (`ap`, `ap50`, ..., or null), `cityscapes` (`ap`,
        `ap50`, `per_class`, or null), those of further metrics, `num_images`, `seconds` and `provenance`. Metrics are
        fractions in [0, 1]; null means that there was nothing to measure.
        """
        return {
            **dict.fromkeys(_METRIC_KEYS),
            **{name: report.to_json() for name, report in self.measured.items()},
            "num_images": self.num_images,
            "seconds": dict(self.seconds),
            "provenance": dict(self.provenance),
        }

    def table(self, per_class: bool = False) -> str:
        """The numbers in percent as plain text; `-` where there was nothing to measure."""
        reports = self.measured.values()
        parts = [text_table(report.table(), min_width=6) for report in reports]
        if per_class:
            parts.append(text_table(self._class_rows(), min_width=6))
        else:
            parts += [remark for report in reports if (remark := report.remark())]
        parts.append(f"{self.num_images} images, percent")
        return "\n\n".join(parts) + "\n"

    def _class_rows(self) -> list[list[str]]:
        columns = self.class_columns()
        rows = [["", *columns]]
        for category in self.categories.categories:
            cells = (column.get(category.id) for column in columns.values())
            texts = (str(cell) if isinstance(cell, int) else percent(cell) for cell in cells)
            rows.append([visible(category.name), *texts])
        return rows


def evaluate(
    predictor: Predictor,
    source: PanopticSource,
    *,
    config: EvaluationConfig,
    metrics: Sequence[Metric] = (),
    process: Process = _ONE_PROCESS,
    on_image: Callable[[int, int], None] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> EvaluationReport:
    """Predict every image of a labeled set and measure PQ, mIoU and AP.

    Args:
        predictor: its categories must be those of the source.
        source: every image needs a label.
        config: what to measure.
        metrics: further ones beside PQ, mIoU and AP, such as `CityscapesAP` or one's own; fresh, since they count.
        process: this process evaluates images rank, rank + world_size, ...; all processes must call this function.
        on_image: called after each image with the number of images done and to do, in this process.
        provenance: plain data that the report's `provenance` holds too, which only the caller knows: model folder,
            split, device, precision, compile, settings.

    Returns:
        The report of the whole set, equal in every process.

    Raises:
        CheckpointError: the predictor has other classes than the source.
        ConfigError: two metrics have the same name.
        DatasetError: an image has no label, or the set is empty.
        MissingDependencyError: `config.metric` is AP and pycocotools is not installed.
    """
    check_same_categories(predictor.categories, source.categories)
    if not len(source):
        raise DatasetError("The data set has no images to evaluate. Check data.root and data.val_split.")
    quality = PanopticQuality(source.categories)
    all_metrics: list[Metric] = [quality, SemanticIoU(source.categories)]
    left_out = []
    try:
        all_metrics.append(InstanceAP(source.categories, config.max_detections))
    except MissingDependencyError as error:
        if config.metric == "AP":
            raise
        logger.warning("%s AP is left out.", error)
        left_out.append(f"AP was left out: {error}")
    all_metrics += metrics
    names = [metric.name for metric in all_metrics]
    if len({*names, "num_images", "seconds", "provenance"}) < len(names) + 3:  # keys of one JSON object
        raise ConfigError(
            f"Each metric needs a name of its own, not num_images, seconds or provenance. Got {', '.join(names)}."
        )

    seconds = {"reading": 0.0, "prediction": 0.0, "metrics": 0.0}
    pictures: dict[int, Picture] = {}
    worst: list[tuple[ImageQuality, Picture]] = []
    images: list[ImageQuality] = []
    indices = range(process.rank, len(source), process.world_size)
    for done, index in enumerate(indices, start=1):
        begin = perf_counter()
        sample = source[index]
        if sample.panoptic_map is None:
            raise DatasetError(
                f"Image {sample.image_id} has no label, so it cannot be evaluated."
                " Evaluate a labeled split, or use `panoptic-deeplab predict` for this one."
            )
        truth = sample.truth(source.categories)
        read = perf_counter()
        prediction = predictor.predict(sample.pixels)
        predicted = perf_counter()
        for metric in all_metrics:
            metric.update(prediction, truth, sample.image_id)
        picture = Picture(sample.image_id, sample.image, truth, prediction)
        if index < config.num_pictures:
            pictures[index] = picture
        assert quality.last_image is not None
        images.append(quality.last_image)
        worst = _worst([*worst, (quality.last_image, picture)], config.num_pictures)
        seconds["reading"] += read - begin
        seconds["prediction"] += predicted - read
        seconds["metrics"] += perf_counter() - predicted
        if on_image:
            on_image(done, len(indices))

    begin = perf_counter()
    for metric in all_metrics:
        metric.synchronize()
    measured = {metric.name: metric.compute() for metric in all_metrics}
    seconds["metrics"] += perf_counter() - begin
    of_processes = distributed.gather_objects((seconds, pictures, images, worst))
    all_pictures = {index: picture for _, shown, _, _ in of_processes for index, picture in shown.items()}
    all_worst = _worst([pair for *_, pairs in of_processes for pair in pairs], config.num_pictures)
    return EvaluationReport(
        categories=source.categories,
        measured=measured,
        num_images=len(source),
        seconds={name: max(times[name] for times, *_ in of_processes) for name in seconds},
        provenance={
            "evaluator": f"panoptic_deeplab {panoptic_deeplab.__version__}",
            "data": source.categories.name,
            "processes": process.world_size,
            "versions": _versions(all_metrics),
            "notes": [*(metric.note for metric in all_metrics if metric.note), *left_out],
            **(provenance or {}),
        },
        pictures=[all_pictures[index] for index in sorted(all_pictures)],
        images=sorted((image for _, _, part, _ in of_processes for image in part), key=_badness),
        worst=[picture for _, picture in all_worst],
    )


def _worst(pairs: list[tuple[ImageQuality, Picture]], number: int) -> list[tuple[ImageQuality, Picture]]:
    kept = sorted(pairs, key=lambda pair: _badness(pair[0]))[:number]
    return [(image, picture.reduced()) for image, picture in kept]


def _badness(image: ImageQuality) -> tuple[float, int, str]:
    """Order of images: the lowest PQ first, of equal ones that with more errors; where nothing counts, last."""
    pq = 2.0 if image.pq is None else image.pq
    return pq, -len(image.missed) - len(image.false), image.image_id


def check_same_categories(predicted: CategoryTable, labeled: CategoryTable) -> None:
    """Hold ids, names, kinds and order of a model's classes against a data set's; differing is a `CheckpointError`."""
    for train_id, (ours, theirs) in enumerate(zip(predicted.categories, labeled.categories, strict=False)):
        if (ours.id, ours.name, ours.isthing) != (theirs.id, theirs.name, theirs.isthing):
            difference = f"class {train_id} is {_described(ours)} in the model and {_described(theirs)} in the data set"
            break
    else:
        if len(predicted) == len(labeled):
            return
        difference = "the first classes are equal, their number is not"
    raise CheckpointError(
        f"The model predicts {len(predicted)} classes ({predicted.name}), the data set has {len(labeled)}"
        f" ({labeled.name}): {difference}. Use a model trained on these categories, or set data.categories to the"
        " model's table."
    )


def _described(category: Any) -> str:
    return f"{category.name!r} (id {category.id}, {'thing' if category.isthing else 'stuff'})"


def _versions(metrics: Sequence[Metric]) -> dict[str, str]:
    packages = {package: metadata.version(package) for metric in metrics for package in metric.packages}
    return {"torch": torch.__version__, "numpy": np.__version__, **packages}


def _joined(parts: Iterable[Mapping[str, _T]]) -> dict[str, _T]:
    joined: dict[str, _T] = {}
    for part in parts:
        if twice := joined.keys() & part.keys():
            raise ConfigError(f"Two metrics call a number {min(twice)!r}. Give it another name in one of them.")
        joined |= part
    return joined
