"""`panoptic-deeplab demo`: data, training, evaluation, prediction and a report, on an embedded default.

Everything comes from this package: synthetic street scenes, written as a data set in COCO panoptic format, and the
recipe `demo`. Nothing is downloaded.
"""

import logging
import platform
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from panoptic_deeplab import __version__
from panoptic_deeplab.cli.terminal import error_console, print_json, say, say_lines
from panoptic_deeplab.cli.verb import Flag, Folder, Verb
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.evaluation.evaluate import EvaluationReport
    from panoptic_deeplab.visualize.report import Report, ReportImage

logger = logging.getLogger(__name__)

TRAIN_SCENES = 240
UNSEEN_SCENES = 24
SCENE_SIZE = (192, 384)
"""`(height, width)` in pixels."""
SHOWN_SCENES = 4
"""Unseen scenes in the report."""

_TRAIN_SEED, _UNSEEN_SEED = 1, 3
_MARKER = Path("data") / ".panoptic_deeplab_demo"
"""File that says that a folder is a demo's and may be replaced."""


@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """The tour: write synthetic street scenes, train a small model, measure it on unseen scenes, write a report.

    About three and a half minutes on two CPU cores; nothing is downloaded. Afterwards, segment any photograph with:
    panoptic-deeplab predict IMAGE --model runs/demo/best

    With --json, the document is: report (path of the HTML page), model (folder), evaluation (as of `evaluate --json`).
    """

    output: Folder = Path("runs/demo")
    """Folder for everything; an earlier demo there is replaced."""
    json: Flag = False
    """Write one JSON document to stdout instead of table and path."""

    def execute(self) -> None:
        """Run the demo; print the numbers and where the report is."""
        result = run_demo(self.output, console=error_console())
        if self.json:
            document = {"report": str(result.report_path), "model": str(result.model_folder)}
            print_json({**document, "evaluation": result.evaluation.to_json()})
            return
        say_lines(result.evaluation.table())
        say(f"Report: {result.report_path.resolve()}")
        say(f"Try:    panoptic-deeplab predict IMAGE --model {result.model_folder} --output predictions")


class DemoResult(NamedTuple):
    """What the demo leaves."""

    report_path: Path
    """One self-contained HTML page."""
    model_folder: Path
    """The folder for `PanopticPredictor.from_pretrained`."""
    evaluation: "EvaluationReport"
    """Measures on scenes that were not trained on."""


def run_demo(
    folder: Path = Path("runs/demo"),
    *,
    console: Console | None = None,
    config: Config | None = None,
    train_scenes: int = TRAIN_SCENES,
    unseen_scenes: int = UNSEEN_SCENES,
) -> DemoResult:
    """Write a synthetic set, train a small model on it, evaluate it on unseen scenes and write a report.

    Args:
        folder: the place for data, run and report; an earlier demo in it is replaced.
        console: shows the progress of training if it is a terminal.
        config: None = the recipe `demo`. `data.root` is set to `folder/data`.
        train_scenes: images of the split `train`.
        unseen_scenes: images of the split `val`.

    Raises:
        ConfigError: the folder holds something else than an earlier demo.
    """
    from panoptic_deeplab.data.convert import write_coco_panoptic
    from panoptic_deeplab.data.formats.synthetic import SyntheticSource
    from panoptic_deeplab.data.sources import open_source
    from panoptic_deeplab.evaluation.evaluate import evaluate
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.training.trainer import train
    from panoptic_deeplab.visualize.report import ReportImage, write_report

    start = time.monotonic()
    _start_folder(folder)
    root = folder / "data"
    logger.info("Writing %d training and %d unseen street scenes to %s", train_scenes, unseen_scenes, root)
    write_coco_panoptic(SyntheticSource(train_scenes, seed=_TRAIN_SEED, size=SCENE_SIZE), root, "train")
    write_coco_panoptic(SyntheticSource(unseen_scenes, seed=_UNSEEN_SEED, size=SCENE_SIZE), root, "val")

    config = load_config("demo") if config is None else config
    config = replace(config, data=replace(config.data, format="coco_panoptic", root=str(root)))
    logger.info("Training %s for %d steps", config.model.backbone, config.train.max_steps)
    model_folder = train(config, run_folder=folder, console=console)

    logger.info("Evaluating on the unseen scenes")
    predictor = PanopticPredictor.from_pretrained(model_folder)
    source = open_source(config.data, config.data.val_split)
    evaluation = evaluate(predictor, source, config=config.evaluation)

    images = []
    for sample in (source[index] for index in range(min(SHOWN_SCENES, len(source)))):
        result, maps = predictor.predict_with_maps(sample.image)
        images.append(
            ReportImage(
                title=f"Unseen scene {sample.image_id}",
                image=sample.image,
                prediction=result,
                truth=sample.truth(source.categories),
                center_heatmap=maps.center_heatmap,
                offset=maps.offset,
            )
        )
    minutes = (time.monotonic() - start) / 60
    page = _report(config, evaluation, folder, images, num_scenes=(train_scenes, unseen_scenes), minutes=minutes)
    return DemoResult(write_report(folder / "report.html", page), model_folder, evaluation)


def _start_folder(folder: Path) -> None:
    """An empty folder with the marker."""
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / _MARKER).exists()):
            raise ConfigError(f"{folder} exists and holds no earlier demo. Move it away, or choose another --output.")
        shutil.rmtree(folder)
    (folder / _MARKER).parent.mkdir(parents=True)
    (folder / _MARKER).write_text("`panoptic-deeplab demo` may replace this folder.\n", "utf-8")


def _report(
    config: Config,
    evaluation: "EvaluationReport",
    folder: Path,
    images: "list[ReportImage]",
    *,
    num_scenes: tuple[int, int],
    minutes: float,
) -> "Report":
    import torch

    from panoptic_deeplab.visualize.report import QualityRow, Report, ReportFigure

    quality = evaluation.to_json()["panoptic"]
    scores = evaluation.values()
    return Report(
        title="Panoptic-DeepLab on synthetic street scenes",
        summary=(
            f"A small network was trained for {config.train.max_steps} steps on {num_scenes[0]} computed street scenes"
            f" and measured on {num_scenes[1]} scenes it had not seen. All numbers are percent."
        ),
        facts={
            "Backbone": f"{config.model.backbone}, weights: {config.model.backbone_weights or 'random'}",
            "Training": f"{config.train.max_steps} steps of {config.train.batch_size} crops of"
            f" {config.data.crop_size[0]} x {config.data.crop_size[1]} pixels",
            "Time": f"{minutes:.1f} minutes for everything, data and evaluation included",
            "Model folder": str(folder / "best"),
        },
        groups=[QualityRow(name=name, **quality[name.lower()]) for name in ("All", "Things", "Stuff")],
        scores={
            "mIoU": scores["mIoU"],
            "pixel accuracy": scores["accuracy"],
            "AP (COCO)": scores.get("AP"),
            "AP50 (COCO)": scores.get("AP50"),
        },
        classes=[
            QualityRow(name=row["name"], pq=row["pq"], sq=row["sq"], rq=row["rq"]) for row in quality["per_class"]
        ],
        figures=[
            ReportFigure(
                title="Course of the training",
                picture=folder / "curves.png",
                caption="Losses, learning rate, validation.",
            ),
            ReportFigure(
                title="A training batch",
                picture=folder / "train_batch.png",
                caption="Augmented crops with the network's targets.",
            ),
        ],
        images=images,
        environment={
            "panoptic-deeplab": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        },
    )
