"""`evaluate(predictor, source) -> EvaluationReport`: PQ, mIoU and AP of a model on a labeled set.

One pass over the images, shared among the processes of torchrun; every process gets the report of the whole set.
The math is in `metrics/`, the looks in `visualize/`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch

import panoptic_deeplab
from panoptic_deeplab import distributed
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError, ConfigError, DatasetError, visible
from panoptic_deeplab.evaluation.part import Part, Picture, Predictor, badness, count_part, worst_of
from panoptic_deeplab.metrics.metric import Metric, MetricReport, percent
from panoptic_deeplab.metrics.panoptic_quality import ImageQuality
from panoptic_deeplab.metrics.standard import standard_metrics
from panoptic_deeplab.results.text_table import text_table

_ONE_PROCESS = Process()

_METRIC_KEYS = ("panoptic", "semantic", "instances", "cityscapes")
"""Keys of report.json that are there, as null, even where the metric was not measured."""
_T = TypeVar("_T")


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
    check_evaluable(predictor.categories, source)
    measures, notes = standard_metrics(source.categories, config, metrics)
    indices = range(process.rank, len(source), process.world_size)
    part = count_part(predictor, source, indices, measures, num_pictures=config.num_pictures, on_image=on_image)
    parts = distributed.gather_objects(part)
    facts = {"processes": process.world_size, **(provenance or {})}
    return report_of(parts, source, measures, num_pictures=config.num_pictures, notes=notes, provenance=facts)


def report_of(
    parts: Sequence[Part],
    source: PanopticSource,
    measures: Sequence[Metric],
    *,
    num_pictures: int,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
) -> EvaluationReport:
    """Put the parts of an evaluation together.

    Args:
        parts: each image of the set is in exactly one.
        source: the set.
        measures: metrics like those that counted; what they have counted is replaced.
        num_pictures: most pictures, and most pictures of the worst images.
        notes: what `standard_metrics` says beside the metrics' own notes.
        provenance: as for `evaluate`, and `processes`.
    """
    begin = perf_counter()
    for metric in measures:
        metric.merge([part.counted[metric.name] for part in parts])
    measured = {metric.name: metric.compute() for metric in measures}
    seconds = {name: max(part.seconds[name] for part in parts) for name in parts[0].seconds}
    seconds["metrics"] += perf_counter() - begin
    pictures = {index: picture for part in parts for index, picture in part.pictures.items()}
    worst = worst_of([pair for part in parts for pair in part.worst], num_pictures)
    return EvaluationReport(
        categories=source.categories,
        measured=measured,
        num_images=len(source),
        seconds=seconds,
        provenance={
            "evaluator": f"panoptic_deeplab {panoptic_deeplab.__version__}",
            "data": source.categories.name,
            "versions": _versions(measures),
            "notes": [*(metric.note for metric in measures if metric.note), *notes],
            **provenance,
        },
        pictures=[pictures[index] for index in sorted(pictures)],
        images=sorted((image for part in parts for image in part.images.values()), key=badness),
        worst=[picture for _, picture in worst],
    )


def check_evaluable(predicted: CategoryTable, source: PanopticSource) -> None:
    """See that a model and a set belong together, and that there is something to evaluate.

    Raises:
        CheckpointError: the model has other classes than the source.
        DatasetError: the set is empty.
    """
    check_same_categories(predicted, source.categories)
    if not len(source):
        raise DatasetError("The data set has no images to evaluate. Check data.root and data.val_split.")


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
