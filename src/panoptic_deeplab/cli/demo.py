"""`panoptic-deeplab demo`: a model at work on real images, and a small one that learns from others of them.

Everything comes from this package: microscopy images with the truth, the model `nuclei`, and the recipe `demo_nuclei`.
With --synthetic, street scenes are computed and written as a data set in COCO panoptic format, for the recipe `demo`.
Nothing is downloaded.
"""

import logging
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from panoptic_deeplab import __version__
from panoptic_deeplab.cli.terminal import error_console, print_json, say, say_lines
from panoptic_deeplab.cli.verb import Flag, Folder, Verb
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.samples import NUCLEI
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.data.sample import PanopticSource
    from panoptic_deeplab.evaluation.evaluate import EvaluationReport
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.visualize.report import Report, ReportImage

logger = logging.getLogger(__name__)

TRAIN_SCENES = 240
UNSEEN_SCENES = 24
SCENE_SIZE = (192, 384)
"""`(height, width)` in pixels."""
SHOWN_IMAGES = 4
"""Unseen images in the report, for each model."""

_PACKAGED = "nuclei"
"""The model in the package."""
_TRAIN_SEED, _UNSEEN_SEED = 1, 3
_MARKER = Path("data") / ".panoptic_deeplab_demo"
"""File that says that a folder is a demo's and may be replaced."""


@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """The tour: predict real microscopy images with a model of the package, measure it, train a small one, report.

    A few minutes on two CPU cores; nothing is downloaded. Afterwards, segment microscopy images of your own with:
    panoptic-deeplab predict IMAGE --model nuclei

    With --json, the document is: report (path of the HTML page), model (folder of the one that was trained), evaluation
    (of that one, as of `evaluate --json`), packaged (the same of the model in the package; null with --synthetic).
    """

    output: Folder = Path("runs/demo")
    """Folder for everything; an earlier demo there is replaced."""
    synthetic: Flag = False
    """Compute street scenes, with things and stuff of several classes, and train on those; about three and a half
    minutes. No model of the package knows them."""
    json: Flag = False
    """Write one JSON document to stdout instead of tables and path."""

    def execute(self) -> None:
        """Run the demo; print the numbers and where the report is."""
        result = run_demo(self.output, console=error_console(), synthetic=self.synthetic)
        packaged = result.packaged
        if self.json:
            document = {"report": str(result.report_path), "model": str(result.model_folder)}
            measured = {"evaluation": result.evaluation.to_json(), "packaged": packaged and packaged.to_json()}
            print_json({**document, **measured})
            return
        if packaged is not None:
            say(f"Model {_PACKAGED} of the package, which has learned from these images among others:")
            say_lines(packaged.table())
            say("The small model that was trained just now, on others of them:")
        say_lines(result.evaluation.table())
        say(f"Report: {result.report_path.resolve()}")
        model = result.model_folder if packaged is None else _PACKAGED
        say(f"Try:    panoptic-deeplab predict IMAGE --model {model} --output predictions")


class DemoResult(NamedTuple):
    """What the demo leaves."""

    report_path: Path
    """One self-contained HTML page."""
    model_folder: Path
    """The folder for `PanopticPredictor.from_pretrained`."""
    evaluation: "EvaluationReport"
    """Measures of the trained model on images that it was not trained on."""
    packaged: "EvaluationReport | None"
    """Measures of the model in the package on the same ones; None with synthetic scenes."""


def run_demo(
    folder: Path = Path("runs/demo"),
    *,
    console: Console | None = None,
    config: Config | None = None,
    synthetic: bool = False,
    train_scenes: int = TRAIN_SCENES,
    unseen_scenes: int = UNSEEN_SCENES,
) -> DemoResult:
    """Train a small model, evaluate it on images that it has not seen, beside one of the package, and write a report.

    Args:
        folder: the place for data, run and report; an earlier demo in it is replaced.
        console: shows the progress of training if it is a terminal.
        config: None = the recipe `demo_nuclei`, or `demo`. Its `data` leads to the images of the demo.
        synthetic: compute scenes instead of taking the images of the package.
        train_scenes: computed images of the split `train`.
        unseen_scenes: computed images of the split `val`.

    Raises:
        ConfigError: the folder holds something else than an earlier demo.
        MissingDependencyError: the package with the backbone's weights is not installed.
    """
    from panoptic_deeplab.data.sources import open_source
    from panoptic_deeplab.evaluation.evaluate import evaluate
    from panoptic_deeplab.inference.predictor import PanopticPredictor
    from panoptic_deeplab.training.trainer import train
    from panoptic_deeplab.visualize.report import write_report
    from panoptic_deeplab.weights.backbone import find_packaged_weights

    start = time.monotonic()
    config = load_config("demo" if synthetic else "demo_nuclei") if config is None else config
    start_weights = config.model.backbone_weights
    if start_weights is not None and start_weights.startswith("package:"):
        find_packaged_weights(start_weights)  # before an earlier demo and any time are lost
    _start_folder(folder)
    if synthetic:
        _write_scenes(folder / "data", train_scenes, unseen_scenes)
        data = replace(config.data, format="coco_panoptic", root=str(folder / "data"))
    else:
        data = replace(config.data, format="folder", root=str(NUCLEI))
    config = replace(config, data=data)
    source = open_source(config.data, config.data.val_split)

    images: list[ReportImage] = []
    packaged = None
    if not synthetic:
        logger.info("Predicting %d real images with the model %s of the package", len(source), _PACKAGED)
        predictor = PanopticPredictor.from_pretrained(_PACKAGED)
        packaged = evaluate(predictor, source, config=predictor.config.evaluation)
        images += _pictures(predictor, source, packaged, by=f"model {_PACKAGED}")

    logger.info("Training %s for %d steps", config.model.backbone, config.train.max_steps)
    model_folder = train(config, run_folder=folder, console=console)

    logger.info("Evaluating on the images that it has not seen")
    predictor = PanopticPredictor.from_pretrained(model_folder)
    evaluation = evaluate(predictor, source, config=config.evaluation)
    images += _pictures(predictor, source, evaluation, by="the small model, which has not seen it")

    minutes = (time.monotonic() - start) / 60
    count = len(open_source(config.data, config.data.train_split))
    page = _report(config, evaluation, packaged, folder, images, num_images=(count, len(source)), minutes=minutes)
    return DemoResult(write_report(folder / "report.html", page), model_folder, evaluation, packaged)


def _write_scenes(root: Path, train_scenes: int, unseen_scenes: int) -> None:
    from panoptic_deeplab.data.convert import write_coco_panoptic
    from panoptic_deeplab.data.formats.synthetic import SyntheticSource

    logger.info("Writing %d training and %d unseen street scenes to %s", train_scenes, unseen_scenes, root)
    write_coco_panoptic(SyntheticSource(train_scenes, seed=_TRAIN_SEED, size=SCENE_SIZE), root, "train")
    write_coco_panoptic(SyntheticSource(unseen_scenes, seed=_UNSEEN_SEED, size=SCENE_SIZE), root, "val")


def _pictures(
    predictor: "PanopticPredictor", source: "PanopticSource", evaluation: "EvaluationReport", *, by: str
) -> "Iterator[ReportImage]":
    """The first images with truth and maps, and a rim around what was missed or is false."""
    from panoptic_deeplab.visualize.report import ReportImage

    quality_of = {image.image_id: image for image in evaluation.images}
    for sample in (source[index] for index in range(min(SHOWN_IMAGES, len(source)))):
        result, maps = predictor.predict_with_maps(sample.pixels)
        quality = quality_of[sample.image_id]
        yield ReportImage(
            title=f"{sample.image_id}, by {by}: {len(quality.missed)} missed, {len(quality.false)} false",
            image=sample.image,
            prediction=result,
            truth=sample.truth(source.categories),
            center_heatmap=maps.center_heatmap,
            offset=maps.offset,
            missed=quality.missed,
            false=quality.false,
        )


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
    packaged: "EvaluationReport | None",
    folder: Path,
    images: "list[ReportImage]",
    *,
    num_images: tuple[int, int],
    minutes: float,
) -> "Report":
    import torch

    from panoptic_deeplab.visualize.report import QualityRow, Report, ReportFigure

    shown = evaluation if packaged is None else packaged
    quality, scores = shown.to_json()["panoptic"], shown.values()
    told = (
        f"A small network was trained for {config.train.max_steps} steps on {num_images[0]} images and measured on"
        f" {num_images[1]} that it had not seen"
    )
    rims = "Missed segments have a red rim in the truth, false ones an orange rim in the prediction."
    if packaged is None:
        title, summary = "Panoptic-DeepLab on synthetic street scenes", f"{told}. {rims} All numbers are percent."
    else:
        title = "Panoptic-DeepLab on nuclei under microscopes"
        summary = (
            f"The model {_PACKAGED} of the package at work on {num_images[1]} real images, which it has learned from"
            f" among others: the tables are its own. {told}: nucleus PQ"
            f" {100 * (evaluation.values()['PQ_thing'] or 0):.1f}. {rims} All numbers are percent."
        )
    return Report(
        title=title,
        summary=summary,
        facts={
            "Trained backbone": f"{config.model.backbone}, weights: {config.model.backbone_weights or 'random'}",
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
