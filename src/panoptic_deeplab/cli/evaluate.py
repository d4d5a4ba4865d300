"""`panoptic-deeplab evaluate`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panoptic_deeplab.cli.verb import (
    Device,
    Flag,
    Folder,
    OptionalFolder,
    Precision,
    Verb,
    config_of_model,
    print_json,
    progress_bar,
)
from panoptic_deeplab.config import DataConfig, EvaluationConfig, InputConfig, PostprocessConfig

if TYPE_CHECKING:
    from panoptic_deeplab.evaluation import EvaluationReport


@dataclass(frozen=True, kw_only=True)
class Evaluate(Verb):
    """Measure PQ, mIoU and AP of a model on a labelled split.

    Settings not named are those the model was trained with. Under torchrun, the images are shared among the processes.

    With --json, the document is: panoptic {all, things, stuff: {pq, sq, rq, num_classes}, per_class, not_counted},
    semantic {miou, pixel_accuracy, ...}, instances {ap, ap50, ap75, ...} or null, num_images, seconds, provenance.
    Metrics are fractions in [0, 1]; null means that there was nothing to measure.
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
    """Also write report.json, table.txt and mosaic.png here."""
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
        from panoptic_deeplab.inference.predictor import PanopticPredictor

        with process_group(self.device) as process:
            loaded = PanopticPredictor.from_pretrained(self.model, device=process.device)
            config = replace(loaded.config, data=self.data, input=self.input, postprocess=self.postprocess)
            predictor = PanopticPredictor(
                loaded.model, loaded.categories, config, device=process.device, precision=self.precision
            )
            source = open_source(self.data, self.split or self.data.val_split)
            with progress_bar("evaluate") as on_image:
                report = evaluate(predictor, source, config=self.evaluation, process=process, on_image=on_image)
            if not process.is_main:
                return
        if self.output is not None:
            write_report_files(report, self.output)
        if self.json:
            print_json(report.to_json())
        else:
            print(report.table(per_class=self.per_class), end="")


def write_report_files(report: "EvaluationReport", folder: Path) -> None:
    """Write report.json, table.txt and, with `evaluation.num_pictures` images, mosaic.png."""
    from panoptic_deeplab.visualize.mosaic import MosaicRow, draw_mosaic

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.to_json(), indent=2) + "\n", "utf-8")
    (folder / "table.txt").write_text(report.table(per_class=True), "utf-8")
    rows = [MosaicRow(title=p.image_id, image=p.image, prediction=p.prediction, truth=p.truth) for p in report.pictures]
    if rows:
        draw_mosaic(rows).save(folder / "mosaic.png")
