"""`panoptic-deeplab evaluate`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from panoptic_deeplab.cli.verb import (
    Device,
    Flag,
    Folder,
    OptionalFolder,
    Precision,
    Verb,
    config_of_model,
    make_folder,
    print_json,
    progress_bar,
)
from panoptic_deeplab.config import DataConfig, EvaluationConfig, InputConfig, PostprocessConfig


@dataclass(frozen=True, kw_only=True)
class Evaluate(Verb):
    """Measure PQ, mIoU and AP of a model on a labelled split.

    Settings not named are those the model was trained with. Under torchrun, the images are shared among the processes.

    With --json, the document is: panoptic {all, things, stuff: each {pq, sq, rq, num_classes}; per_class: a list of
    {category_id, name, isthing, pq, sq, rq, true_positives, false_positives, false_negatives}; not_counted: names of
    classes neither in the labels nor predicted}; semantic {miou, num_classes, pixel_accuracy, per_class: a list of
    {category_id, name, iou}}; instances {ap, ap50, ap75, ap_small, ap_medium, ap_large, max_detections, per_class: a
    list of {category_id, name, ap}}, or null without pycocotools; num_images; seconds {reading, prediction, metrics};
    provenance {evaluator, data, processes, versions, notes, model, split, device, precision, settings}. Metrics are
    fractions in [0, 1]; null means that there was nothing to measure.
    """

    model: Folder
    """Model folder, such as runs/street/best."""
    split: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Split of the data set. Default: data.val_split."""
    json: Flag = False
    """Write one JSON document to stdout instead of a table."""
    per_class: Flag = False
    """Add a row a class to the table."""
    output: OptionalFolder = None
    """Also write report.json, table.txt, per_class_pq.png and mosaic.png here."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """bfloat16 is faster where the hardware has it, and slightly different."""
    data: DataConfig = field(default_factory=DataConfig)
    input: InputConfig = field(default_factory=InputConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Evaluate | None":
        """The settings of the model's run; the categories are those in its folder."""
        found = config_of_model(arguments)
        if found is None:
            return None
        folder, config = found
        return cls(
            model=Path(folder),
            data=replace(config.data, categories=str(Path(folder) / "categories.json")),
            input=config.input,
            postprocess=config.postprocess,
            evaluation=config.evaluation,
        )

    def execute(self) -> None:
        """Evaluate; print the report."""
        from panoptic_deeplab.data.sources import open_source
        from panoptic_deeplab.distributed import process_group
        from panoptic_deeplab.evaluation import evaluate
        from panoptic_deeplab.evaluation_files import write_report_files
        from panoptic_deeplab.inference.predictor import PanopticPredictor

        if self.output is not None:
            make_folder(self.output)
        with process_group(self.device) as process:
            predictor = PanopticPredictor.from_pretrained(
                self.model,
                device=process.device,
                precision=self.precision,
                input_config=self.input,
                postprocess=self.postprocess,
            )
            split = self.split or self.data.val_split
            source = open_source(self.data, split)
            with progress_bar("evaluate") as on_image:
                report = evaluate(
                    predictor,
                    source,
                    config=self.evaluation,
                    process=process,
                    on_image=on_image,
                    provenance=self._provenance(split, process.device),
                )
            if not process.is_main:
                return
        if self.output is not None:
            write_report_files(report, self.output)
        if self.json:
            print_json(report.to_json())
        else:
            print(report.table(per_class=self.per_class), end="")

    def _provenance(self, split: str, device: str) -> dict[str, Any]:
        """What only this command knows of how its numbers came about."""
        settings = {name: asdict(getattr(self, name)) for name in ("data", "input", "postprocess", "evaluation")}
        return {
            "model": str(self.model),
            "split": split,
            "device": device,
            "precision": self.precision,
            "settings": settings,
        }
