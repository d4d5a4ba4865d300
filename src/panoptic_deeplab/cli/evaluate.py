"""`panoptic-deeplab evaluate`."""

import functools
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from panoptic_deeplab.cli.inference_options import InferenceOnData
from panoptic_deeplab.cli.option_values import DataChanges, EvaluationChanges
from panoptic_deeplab.cli.ray_options import RunsOnRay
from panoptic_deeplab.cli.terminal import print_json, say_error, say_lines
from panoptic_deeplab.cli.verb import Flag, OptionalFolder, make_folder, progress_bar
from panoptic_deeplab.config.io import with_changes
from panoptic_deeplab.errors import DatasetError, MissingDependencyError
from panoptic_deeplab.files import user_path

if TYPE_CHECKING:
    from panoptic_deeplab.batch.evaluate_on_ray import Evaluated
    from panoptic_deeplab.config import DataConfig, EvaluationConfig
    from panoptic_deeplab.evaluation.evaluate import EvaluationReport
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.metrics.metric import Metric

_SEMANTIC_ONLY = "This model has no instance branch: it leaves things void, so their PQ and AP are 0. See the mIoU."


@dataclass(frozen=True, kw_only=True)
class Evaluate(RunsOnRay, InferenceOnData):
    """Measure PQ, mIoU and AP of a model on a labeled split.

    AP is COCO's, and on Cityscapes also Cityscapes' own, which the paper reports (it needs cityscapesScripts).
    Settings not named are those the model was trained with. Under torchrun, the images are shared among the processes;
    with --runner ray, among those of a Ray cluster.

    With --json, the document is: panoptic {all, things, stuff: each {pq, sq, rq, num_classes}; per_class: a list of
    {category_id, name, isthing, pq, sq, rq, true_positives, false_positives, false_negatives}; not_counted: names of
    classes neither in the labels nor predicted}; semantic {miou, num_classes, pixel_accuracy, per_class: a list of
    {category_id, name, iou}; confusion: pixels by true class (rows) and predicted class, void last}; instances {ap,
    ap50, ap75, ap_small, ap_medium, ap_large, max_detections, per_class: a
    list of {category_id, name, ap}}, or null without pycocotools; cityscapes {ap, ap50, per_class: a list of
    {category_id, name, ap, ap50}}, or null for other data sets and without cityscapesScripts; num_images; seconds
    {reading, prediction, metrics}; provenance {evaluator, data, processes, versions, notes, models, split, device,
    precision, compile, settings}.
    Metrics are fractions in [0, 1]; null means that there was nothing to measure.
    """

    split: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Split of the data set. Default: data.val_split."""
    json: Flag = False
    """Write one JSON document to stdout instead of a table."""
    per_class: Flag = False
    """Add a row a class to the table."""
    output: OptionalFolder = None
    """Also write report.html here, a page with all numbers and the worst images first (as many as
    --evaluation.num-pictures says), and report.json, table.txt, per_class_pq.png and mosaic.png."""
    evaluation: EvaluationChanges = field(default_factory=EvaluationChanges)

    def execute(self) -> None:
        """Evaluate; print the report."""
        from panoptic_deeplab.evaluation.report_files import write_report_files

        self.check_runner()
        if self.output is not None:
            make_folder(self.output)
        report = self._on_ray() if self.runner == "ray" else self._in_this_process()
        if report is None:
            return
        if self.output is not None:
            write_report_files(report, self.output)
        if self.json:
            print_json(report.to_json())
        else:
            say_lines(report.table(per_class=self.per_class).rstrip("\n"))

    def _in_this_process(self) -> "EvaluationReport | None":
        """Evaluate, or a share of it under torchrun; None in all processes but the first."""
        from panoptic_deeplab.distributed import process_group
        from panoptic_deeplab.evaluation.evaluate import evaluate
        from panoptic_deeplab.inference.exported.model_file import is_model_file

        # An exported file's runtime has devices of its own, and finds its own default.
        has_runtime = any(is_model_file(model) for model in self.model)
        with process_group("cpu" if has_runtime else self.device) as process:
            device = self.device if has_runtime else process.device
            predictor = self.load_predictor(device=device)
            if process.is_main and not predictor.config.model.instance_branch:
                say_error(_SEMANTIC_ONLY)
            data, split, evaluation = self._asked_for(predictor)
            source = self.open_split(data, split)
            metrics = self._further_metrics(predictor, data, split, is_main=process.is_main)
            with progress_bar("evaluate") as on_image:
                report = evaluate(
                    predictor,
                    source,
                    config=evaluation,
                    metrics=metrics,
                    process=process,
                    on_image=on_image,
                    provenance=self._provenance(split, device, self._settings(predictor, data, evaluation)),
                )
            return report if process.is_main else None

    def _on_ray(self) -> "EvaluationReport":
        """Let the actors of a cluster evaluate."""
        from panoptic_deeplab.batch.evaluate_on_ray import Evaluated, evaluate_on_ray

        predictor = self.load_here()
        if not predictor.config.model.instance_branch:
            say_error(_SEMANTIC_ONLY)
        data, split, evaluation = self._asked_for(predictor)
        source = self.open_split(data, split)
        further = functools.partial(self._further_metrics, predictor, data, split, is_main=False)
        self._further_metrics(predictor, data, split, is_main=True)  # says once what is left out
        root = DataChanges({**self.data, "root": str(user_path(data.root).absolute())})
        there = replace(self, model=self.models_anywhere(), data=root)
        with self.cluster() as (actors, gpus), progress_bar("evaluate") as on_image:
            device = "cuda" if gpus else "cpu"
            return evaluate_on_ray(
                functools.partial(_evaluated, there, split, device),
                Evaluated(predictor, source, further),
                config=evaluation,
                actors=actors,
                gpus=gpus,
                on_image=on_image,
                provenance=self._provenance(split, device, self._settings(predictor, data, evaluation)),
            )

    def _asked_for(self, predictor: "PanopticPredictor") -> "tuple[DataConfig, str, EvaluationConfig]":
        """The set, its split, and what to measure."""
        data = self.data_config(predictor.config)
        evaluation = with_changes(predictor.config.evaluation, self.evaluation, name="evaluation")
        return data, self.split or data.val_split, evaluation

    def _settings(
        self, predictor: "PanopticPredictor", data: "DataConfig", evaluation: "EvaluationConfig"
    ) -> dict[str, Any]:
        return {"data": asdict(data), **self.settings(predictor.config), "evaluation": asdict(evaluation)}

    def _further_metrics(
        self, predictor: "PanopticPredictor", data: "DataConfig", split: str, *, is_main: bool
    ) -> "list[Metric]":
        """Cityscapes' own AP on Cityscapes; where it cannot be measured, one sentence says why."""
        from panoptic_deeplab.metrics.cityscapes_ap import CityscapesAP, cityscapes_label_files

        if data.format != "cityscapes":
            return []
        try:
            return [CityscapesAP(predictor.categories, cityscapes_label_files(data.root, split))]
        except (DatasetError, MissingDependencyError) as error:
            if is_main:
                say_error(f"{error} It is left out; AP (COCO) is another number than the paper's.")
            return []

    def _provenance(self, split: str, device: str, settings: dict[str, Any]) -> dict[str, Any]:
        """What only this command knows of how its numbers came about."""
        return {
            "models": [str(model) for model in self.model],
            "split": split,
            "device": device,
            "precision": self.precision,
            "compile": self.compile,
            "settings": settings,
        }


def _evaluated(verb: Evaluate, split: str, device: str) -> "Evaluated":
    """What an actor works with; that the set is the model's was seen before."""
    from panoptic_deeplab.batch.evaluate_on_ray import Evaluated
    from panoptic_deeplab.data.sources import open_source

    predictor = verb.load_predictor(device=device)
    data = verb.data_config(predictor.config)
    further = functools.partial(verb._further_metrics, predictor, data, split, is_main=False)
    return Evaluated(predictor, open_source(data, split), further)
