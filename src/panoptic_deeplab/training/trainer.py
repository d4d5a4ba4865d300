"""`train`: the training loop, on one page.

Launch it (the recipe is a name or a YAML file; `runs/street` is the run folder, see `run_folder.py`):

    # CPU, or one GPU where there is one
    panoptic-deeplab train cityscapes_xception71 --run-folder runs/street

    # 8 GPUs of one machine: one process a GPU, train.batch_size is the batch of all of them together
    torchrun --standalone --nproc-per-node 8 -m panoptic_deeplab train cityscapes_xception71 --run-folder runs/street

    # 4 machines with 8 GPUs each: on every machine; the run folder is on a shared disk
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m panoptic_deeplab train cityscapes_xception71 --run-folder /shared/runs/street

    # after a crash, SIGTERM or Ctrl+C: the same command with --resume gives the weights of a run that never stopped
    # (on the CPU with the same number of processes and threads bit for bit, elsewhere up to rounding)

Other launchers that set RANK, LOCAL_RANK and WORLD_SIZE work too.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.config.io import save_config
from panoptic_deeplab.data.identity import identify
from panoptic_deeplab.data.loader import training_batches
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.distributed import Process, any_process, of_main_process, process_group
from panoptic_deeplab.errors import ConfigError, StoppedBySignal
from panoptic_deeplab.inference.memory_need import available_memory
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.allocator import keep_freed_memory
from panoptic_deeplab.training.callbacks import Callback, closed_at_the_end
from panoptic_deeplab.training.checkpoints.model_card import training_card
from panoptic_deeplab.training.checkpoints.read import load_checkpoint
from panoptic_deeplab.training.checkpoints.run_folder import (
    BATCH_PICTURE,
    BEST,
    CONFIG_YAML,
    CURVES_PICTURE,
    LABELS_PICTURE,
    check_run_folder,
    locked,
    newest_checkpoint,
)
from panoptic_deeplab.training.checkpoints.write import add_validation, save_checkpoint
from panoptic_deeplab.training.checks import (
    check_batch,
    check_data,
    check_network,
    check_packages,
    check_training,
    check_validation,
    images_normalized_together,
)
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.ending import Clock, reason_to_end, time_is_over
from panoptic_deeplab.training.environment import write_end, write_environment
from panoptic_deeplab.training.first_look import write_label_statistics, write_training_batch
from panoptic_deeplab.training.interruption import Interruption
from panoptic_deeplab.training.loggers.named import named_loggers
from panoptic_deeplab.training.losses import PanopticDeepLabLoss
from panoptic_deeplab.training.meter import Meter
from panoptic_deeplab.training.optimizer import build_optimizer, describe_schedule, learning_rate
from panoptic_deeplab.training.precision import with_resolved_precision
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.step import batch_to_device, optimization_step, place_network
from panoptic_deeplab.training.tracking import METRICS_FILE, Tracker
from panoptic_deeplab.training.validation import Validation, validate
from panoptic_deeplab.visualize.curves import draw_curves
from panoptic_deeplab.weights.backbone import load_backbone_weights
from panoptic_deeplab.weights.initial import load_initial_weights
from panoptic_deeplab.weights.reading.size_limit import TooLargeError, at_most

logger = logging.getLogger(__name__)

SAVE_EVERY_MINUTES = 15.0
"""A checkpoint is written at least so often, so that a killed run loses little between validations."""

SMALL_BATCH = 4
"""Fewer images than this at once get a warning about batch normalization."""


def train(
    config: Config,
    *,
    run_folder: str | Path,
    source: PanopticSource | None = None,
    validation_source: PanopticSource | None = None,
    network: nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Path:
    """Train a network, from the first step or from the last checkpoint, until `config.train` says that it is enough.

    Args:
        config: everything about the run.
        run_folder: where all files go; see `run_folder.py`.
        source: a set in Python to train on, in place of the one that `config.data` names.
        validation_source: a set in Python to validate on; together with `source`.
        network: a network of your own, `images (B, 3, H, W) -> RawMaps`, in place of the one that `config.model`
            describes; trained in place, from its own weights. `config.model` still has to say its `output_stride`,
            `align_corners` and `instance_branch`. `weights.open.fill_network` reads what is saved of it.
        callbacks: what else should happen, beside `config.train.loggers`; see `callbacks.py`.
        resume: go on with the run in `run_folder` (from step 0 if it has no checkpoint yet).
        device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.
        console: where progress is drawn; None = standard error. If it is neither a terminal nor a notebook, progress
            goes to the log.

    Returns:
        `run_folder/best`, for `PanopticPredictor.from_pretrained`.

    Raises:
        ConfigError: the run folder is in use, or settings do not fit together or to the run that is resumed.
        CheckpointError: a checkpoint, or the weights that the network or its backbone starts from, cannot be used.
        DatasetError: the data cannot be read.
        MissingDependencyError: a package of the extra `train` is not installed.
        OutputError: a file cannot be written, as on a full disk; the last checkpoint stays.
        TrainingError: a loss or a weight is not finite.
        StoppedBySignal: after SIGTERM or Ctrl+C, when the checkpoint is written; a `KeyboardInterrupt`.
    """
    run_folder = Path(run_folder)
    with process_group(device) as process, locked(run_folder, process):
        config = with_resolved_precision(config, process.device)
        settings = config.train
        on_cpu = process.device == "cpu"
        if on_cpu:
            keep_freed_memory()

        # Run folder, data, settings
        resuming = of_main_process(process, lambda: _look_into(run_folder, resume=resume))
        check_batch(config, process)
        check_packages(settings)
        in_python = source is not None
        source, validation_source = _sources(config, source, validation_source)
        if network is not None:
            check_network(network, source.categories, config, process)
        check_training(source, config)
        check_validation(validation_source, config)
        if not resuming:
            check_data(source, validation_source, config, process)
        splits = {config.data.train_split: source, config.data.val_split: validation_source}
        dataset = of_main_process(process, lambda: identify(config.data, splits))
        if in_python:
            dataset["format"] = "python"  # `evaluate` takes no folder for it

        # Network, loss
        state = _new_state(config, source.categories, process, with_weights=not resuming, network=network)
        validated = load_checkpoint(run_folder, state, config=config, dataset=dataset) if resuming else False
        distributed = _distributed(state.model, process)
        loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)
        batches = training_batches(
            source, config, rank=process.rank, world_size=process.world_size, start_step=state.step
        )
        if resume and not resuming and process.is_main:
            logger.warning("There is no checkpoint in %s to go on from: training starts at step 0.", run_folder)
        of_main_process(process, lambda: _start_run_folder(run_folder, config, source, process, start_step=state.step))
        console = console or Console(stderr=True, markup=False, emoji=False)
        tracker = Tracker(
            run_folder, process=process, max_steps=settings.max_steps, start_step=state.step, console=console
        )

        interruption, told = Interruption(), [*named_loggers(settings.loggers), *callbacks]

        def tell(event: str, *what: object) -> None:
            for callback in told:
                of_main_process(process, partial(getattr(callback, event), *what))

        def save() -> None:
            card = training_card(config, source.categories, step=state.step)
            save_checkpoint(
                run_folder, state, config=config, categories=source.categories, dataset=dataset, model_card=card
            )

        def validate_and_add() -> None:
            on_image = _stopping(interruption, tracker, state.step, common=len(validation_source) // process.world_size)
            found = validate(
                state, validation_source, config=config, run_folder=run_folder, process=process, on_image=on_image
            )
            of_main_process(process, lambda: tracker.log(state.step, found.metrics))
            of_main_process(process, lambda: _add(found, state, config, source.categories, run_folder))
            tell("on_validation", state.step, found.report)

        def ending() -> str | None:
            clock.update(state)
            return of_main_process(process, lambda: reason_to_end(state, settings))

        with closed_at_the_end(told, process), tracker, closing(batches), interruption:
            tell("on_start", run_folder, config, state.step)
            clock = Clock(process, settings, spent=state.seconds)
            if not validated and _validates_after(state, settings):
                validate_and_add()
            meter, last_saved = Meter(process, batch_size=settings.batch_size), time.monotonic()
            reason = ending()
            while reason is None:
                # One step
                with meter.waiting_for_data():
                    batch = next(batches)
                batch = batch_to_device(batch, device=process.device, channels_last=settings.channels_last)
                rate = learning_rate(state.step, settings, seconds=state.seconds)
                terms = optimization_step(distributed, loss, state, batch, config=settings, process=process)
                meter.add(state.step, terms, batch.image_ids)
                tracker.advance(state.step)
                clock.update(state)
                if state.step == 1:
                    picture = partial(write_training_batch, batch, run_folder / BATCH_PICTURE)
                    of_main_process(process, partial(picture, categories=source.categories, config=config.input))

                # What is due after it. Looking at losses waits for a GPU, so there it happens with the log lines only.
                validates = _validates_after(state, settings)
                logs = validates or state.step % settings.log_every == 0
                signal_number = interruption.agreed()
                if not (logs or signal_number or on_cpu):
                    continue
                meter.check()
                if logs:
                    row = meter.summary() | {"learning_rate": rate}
                    of_main_process(process, partial(tracker.log, state.step, row))
                    tell("on_log", state.step, row)
                overdue = process.is_main and time.monotonic() - last_saved > 60 * SAVE_EVERY_MINUTES
                if validates or signal_number or any_process(overdue):
                    of_main_process(process, save)
                    last_saved = time.monotonic()
                if signal_number:
                    raise StoppedBySignal(
                        f"Interrupted after step {state.step}, with a checkpoint. Use --resume.", number=signal_number
                    )
                if validates:
                    validate_and_add()
                    reason = ending()
                if logs:
                    meter.restart()
            of_main_process(process, lambda: write_end(run_folder, step=state.step, reason=reason))
            of_main_process(process, lambda: draw_curves(run_folder / METRICS_FILE, run_folder / CURVES_PICTURE))
            tell("on_end", run_folder / BEST)
        logger.info("The run has ended after step %d of %d: %s.", state.step, settings.max_steps, reason)
    return run_folder / BEST


def _sources(
    config: Config, source: PanopticSource | None, validation_source: PanopticSource | None
) -> tuple[PanopticSource, PanopticSource]:
    """Both sets, of the same categories: those in Python, or those that the configuration names."""
    if (source is None) != (validation_source is None):
        raise ConfigError(
            "`source` and `validation_source` belong together. Pass both or neither; `open_source` opens"
            " the split of a set on disk."
        )
    if source is None or validation_source is None:
        data = config.data
        return open_source(data, data.train_split), open_source(data, data.val_split)
    if source.categories != validation_source.categories:
        raise ConfigError(
            f"`source` and `validation_source` must have the same `categories`. Got {source.categories.name!r} and"
            f" {validation_source.categories.name!r}, which differ."
        )
    return source, validation_source


def _look_into(run_folder: Path, *, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from, in a folder that this training may use."""
    check_run_folder(run_folder, resume=resume)
    return resume and newest_checkpoint(run_folder) is not None


def _validates_after(state: TrainingState, settings: TrainConfig) -> bool:
    step = state.step
    regularly = settings.validate_every > 0 and step > 0 and step % settings.validate_every == 0
    return regularly or step == settings.max_steps or time_is_over(state, settings)


def _stopping(interruption: Interruption, tracker: Tracker, step: int, *, common: int) -> Callable[[int, int], None]:
    """What a validation calls after each image: it stops where a signal came, while all processes have images.

    So many (`common`) has every process.
    """

    def on_image(done: int, total: int) -> None:
        tracker.advance_validation(done, total)
        number = interruption.agreed() if done <= common else None
        if number:
            raise StoppedBySignal(
                f"Interrupted in the validation after step {step}, whose checkpoint is written. Use --resume.",
                number=number,
            )

    return on_image


def _add(
    validation: Validation, state: TrainingState, config: Config, categories: CategoryTable, run_folder: Path
) -> None:
    """Add what was measured to the last checkpoint."""
    card = training_card(
        config, categories, step=state.step, metrics=validation.metrics, table=validation.report.table()
    )
    add_validation(run_folder, state, validation.metrics, metric=config.evaluation.metric, model_card=card)


def _new_state(
    config: Config, categories: CategoryTable, process: Process, *, with_weights: bool, network: nn.Module | None = None
) -> TrainingState:
    """Model, optimizer and average before the first step."""
    torch.manual_seed(config.train.seed)
    model = _new_network(config, categories, with_weights=with_weights) if network is None else network
    if config.train.batch_norm == "sync" and process.world_size > 1:
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    place_network(model, config.train, device=process.device)
    decay = config.train.ema_decay
    return TrainingState(
        model=model,
        optimizer=build_optimizer(model, config.train),
        ema=None if decay is None else ExponentialMovingAverage(model, decay=decay),
    )


def _new_network(config: Config, categories: CategoryTable, *, with_weights: bool) -> PanopticDeepLab:
    """The network that the configuration describes, with the weights that it starts from."""
    limit = available_memory() or sys.maxsize
    try:
        with at_most(limit):
            model = PanopticDeepLab(config.model, categories.num_classes)
    except TooLargeError as error:
        raise ConfigError(
            f"`model` describes a network of more than the {limit / 1e9:.0f} GB of memory that are free. Choose a"
            " smaller backbone or fewer channels."
        ) from error
    if with_weights and config.model.weights is not None:
        load_initial_weights(model, config, categories)
    elif with_weights:
        load_backbone_weights(model)
    return model


def _distributed(model: nn.Module, process: Process) -> nn.Module:
    """The model, with gradients averaged over processes where there are several."""
    if process.world_size == 1:
        return model
    device_ids = [torch.device(process.device)] if process.device.startswith("cuda") else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def _start_run_folder(
    run_folder: Path, config: Config, source: PanopticSource, process: Process, *, start_step: int
) -> None:
    """Write what is known before the first step, and say what is going to happen."""
    save_config(config, run_folder / CONFIG_YAML)
    write_environment(run_folder, process=process, settings=config.train, start_step=start_step)
    if start_step == 0:
        write_label_statistics(source, run_folder / LABELS_PICTURE)
    settings = config.train
    logger.info(
        "Training %s on %d images (%s), step %d to %d with %d images a step on %d x %s. Everything goes to %s.",
        *(config.model.backbone, len(source), source.categories.name, start_step, settings.max_steps),
        *(settings.batch_size, process.world_size, process.device, run_folder),
    )
    logger.info("Learning rate: %s.", describe_schedule(settings))
    images_together = images_normalized_together(config, process)
    if settings.batch_norm != "frozen" and images_together < SMALL_BATCH:
        logger.warning(
            "Batch normalization sees %d images at once, which makes its statistics poor: use a larger batch with a"
            " smaller crop, train.batch_norm sync (GPUs), or frozen_backbone with pretrained weights.",
            images_together,
        )
