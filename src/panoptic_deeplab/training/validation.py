"""A validation during training: metrics, and the files of `validation/step_NNNNNN/`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from panoptic_deeplab.config import Config, TestTimeAugmentationConfig
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process, broadcast_buffers, of_main_process
from panoptic_deeplab.evaluation.evaluate import EvaluationReport, evaluate
from panoptic_deeplab.evaluation.report_files import write_report_files
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.training.checkpoints.run_folder import validation_folder
from panoptic_deeplab.training.precision import VALIDATION_PRECISION
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.tracking import VALIDATION_COLUMNS


class Validation(NamedTuple):
    """What the training loop needs to know."""

    metrics: dict[str, float]
    """Values in [0, 1] for metrics.csv; those that could be measured, `evaluation.metric` among them."""
    report: EvaluationReport
    """All numbers."""


def validate(
    state: TrainingState,
    source: PanopticSource,
    *,
    config: Config,
    run_folder: Path,
    process: Process,
    on_image: Callable[[int, int], None],
) -> Validation:
    """Evaluate the averaged weights where there are such, else the current ones. All processes must call it together.

    Args:
        state: whose weights; left in evaluation mode, and with the first process's statistics of batch normalization.
        source: labeled images.
        config: settings of the run.
        run_folder: the main process writes the files of `write_report_files` below it.
        process: this process; it predicts its share of the images.
        on_image: called after each image with the number of images done and to do, in this process.

    Raises:
        ConfigError: the labels do not allow to measure `evaluation.metric`.
    """
    broadcast_buffers(state.model)
    if state.ema is not None:
        broadcast_buffers(state.ema.model)
    model = state.model if state.ema is None else state.ema.model
    # At one scale, whatever the recipe asks for at the end: the paper's seven scales with flip take 25 times as long.
    plain = replace(config, test_time_augmentation=TestTimeAugmentationConfig())
    predictor = PanopticPredictor.from_network(
        model, source.categories, plain, device=process.device, precision=VALIDATION_PRECISION
    )
    report = evaluate(
        predictor,
        source,
        config=config.evaluation,
        process=process,
        on_image=on_image,
        provenance={
            **{"run_folder": str(run_folder), "step": state.step, "split": config.data.val_split},
            **{"device": process.device, "precision": VALIDATION_PRECISION},
        },
    )
    of_main_process(process, lambda: write_report_files(report, validation_folder(run_folder, state.step)))
    report.metric(config.evaluation.metric)  # says what is wrong where it cannot be measured
    measured = {name: value for name, value in report.values().items() if value is not None}
    metrics = {name: measured[name] for name in VALIDATION_COLUMNS if name in measured}
    return Validation(metrics=metrics, report=report)
