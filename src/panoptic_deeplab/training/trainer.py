"""`train`: the training loop, on one page.

Launch it (the recipe is a name or a YAML file; `runs/street` is the run folder, see `checkpoint.py`):

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
import time
from contextlib import closing
from pathlib import Path

import torch
from rich.console import Console
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.config_io import save_config
from panoptic_deeplab.data.loader import training_batches
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.distributed import Process, barrier, process_group
from panoptic_deeplab.losses import PanopticDeepLabLoss
from panoptic_deeplab.model.initial_weights import load_initial_weights
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import load_backbone_weights
from panoptic_deeplab.training.checkpoint import (
    BEST,
    TrainingState,
    add_validation,
    check_run_folder,
    finish_replacing,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from panoptic_deeplab.training.checks import check_batch, check_packages, check_validation, images_normalized_together
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.environment import write_environment
from panoptic_deeplab.training.first_look import write_label_statistics, write_training_batch
from panoptic_deeplab.training.interruption import Interruption
from panoptic_deeplab.training.memory import keep_freed_memory
from panoptic_deeplab.training.meter import Meter
from panoptic_deeplab.training.model_card import training_card
from panoptic_deeplab.training.optimizer import build_optimizer, describe_schedule, learning_rate
from panoptic_deeplab.training.precision import with_resolved_precision
from panoptic_deeplab.training.step import batch_to_device, optimization_step, place_network
from panoptic_deeplab.training.tracking import METRICS_FILE, Tracker
from panoptic_deeplab.training.validation import validate
from panoptic_deeplab.visualize.curves import draw_curves

logger = logging.getLogger(__name__)

SAVE_EVERY_MINUTES = 15.0
"""A checkpoint is written at least so often, so that a killed run loses little between validations."""

SMALL_BATCH = 4
"""Fewer images than this at once get a warning about batch normalisation."""


def train(
    config: Config, *, run_folder: Path, resume: bool = False, device: str = "auto", console: Console | None = None
) -> Path:
    """Train a network, from the first step or from the last checkpoint, to `config.train.max_steps`.

    Args:
        config: everything about the run.
        run_folder: where all files go; see `checkpoint.py`.
        resume: go on with the run in `run_folder` (from step 0 if it has no checkpoint yet).
        device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.
        console: draws a progress bar if it is a terminal; otherwise progress goes to the log.

    Returns:
        `run_folder/best`, for `PanopticPredictor.from_pretrained`.

    Raises:
        ConfigError: the run folder is in use, or settings do not fit together or to the run that is resumed.
        CheckpointError: a checkpoint, or the weights that the network or its backbone starts from, cannot be used.
        DatasetError: the data cannot be read.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: a loss is not finite.
        KeyboardInterrupt: after SIGTERM or Ctrl+C, when the checkpoint is written.
    """
    run_folder = Path(run_folder)
    with process_group(device) as process, Interruption() as interruption:
        config = with_resolved_precision(config, process.device)
        settings = config.train
        on_cpu = process.device == "cpu"
        if on_cpu:
            keep_freed_memory()

        # Data, network, loss
        check_run_folder(run_folder, resume=resume)
        check_batch(config, process)
        check_packages()
        source = open_source(config.data, config.data.train_split)
        validation_source = open_source(config.data, config.data.val_split)
        check_validation(validation_source, config)
        barrier()  # every process has looked at the folder before one of them changes it
        if process.is_main:
            finish_replacing(run_folder)
        barrier()
        resuming = resume and has_checkpoint(run_folder)
        state = _new_state(config, source.categories, process, with_weights=not resuming)
        validated = load_checkpoint(run_folder, state, config=config) if resuming else False
        network = _distributed(state.model, process)
        loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)
        batches = training_batches(
            source, config, rank=process.rank, world_size=process.world_size, start_step=state.step
        )

        # Run folder
        if process.is_main:
            if resume and not resuming:
                logger.warning("There is no checkpoint in %s to go on from: training starts at step 0.", run_folder)
            _start_run_folder(run_folder, config, source, process, start_step=state.step)
        tracker = Tracker(
            run_folder, process=process, max_steps=settings.max_steps, start_step=state.step, console=console
        )
        with tracker, closing(batches):
            if not validated and _validates_after(state.step, settings):
                _validate(state, validation_source, config, run_folder=run_folder, process=process, tracker=tracker)
            meter, last_saved = Meter(process, batch_size=settings.batch_size), time.monotonic()
            while state.step < settings.max_steps:
                # One step
                with meter.waiting_for_data():
                    batch = next(batches)
                batch = batch_to_device(batch, device=process.device, channels_last=settings.channels_last)
                terms = optimization_step(network, loss, state, batch, config=settings, process=process)
                meter.add(state.step, terms, batch.image_ids)
                tracker.advance(state.step)
                if state.step == 1 and process.is_main:
                    write_training_batch(
                        batch, run_folder / "train_batch.png", categories=source.categories, config=config.input
                    )

                # What is due after it. Looking at losses waits for a GPU, so there it happens with the log lines only.
                validates = _validates_after(state.step, settings)
                logs = validates or state.step % settings.log_every == 0
                interrupted = interruption.agreed()
                if not (logs or interrupted or on_cpu):
                    continue
                meter.check()
                if logs:
                    row = meter.summary() | {"learning_rate": learning_rate(state.step - 1, settings)}
                    tracker.log(state.step, row)
                overdue = time.monotonic() - last_saved > 60 * SAVE_EVERY_MINUTES
                if process.is_main and (validates or interrupted or overdue):
                    card = training_card(config, source.categories, step=state.step)
                    save_checkpoint(run_folder, state, config=config, categories=source.categories, model_card=card)
                    last_saved = time.monotonic()
                if interrupted:
                    barrier()  # the first process to end takes the others with it, so let the checkpoint be written
                    raise KeyboardInterrupt(f"Interrupted after step {state.step}, with a checkpoint. Use --resume.")
                if validates:
                    _validate(state, validation_source, config, run_folder=run_folder, process=process, tracker=tracker)
                if logs:
                    meter.restart()
        if process.is_main:
            draw_curves(run_folder / METRICS_FILE, run_folder / "curves.png")
        barrier()
    return run_folder / BEST


def _validates_after(step: int, settings: TrainConfig) -> bool:
    regularly = settings.validate_every > 0 and step > 0 and step % settings.validate_every == 0
    return regularly or step == settings.max_steps


def _validate(
    state: TrainingState,
    source: PanopticSource,
    config: Config,
    *,
    run_folder: Path,
    process: Process,
    tracker: Tracker,
) -> None:
    """Measure the weights of the last checkpoint, and add the result to it."""
    validation = validate(state, source, config=config, run_folder=run_folder, process=process, tracker=tracker)
    tracker.log(state.step, validation.metrics)
    if process.is_main:
        card = training_card(
            config, source.categories, step=state.step, metrics=validation.metrics, table=validation.table
        )
        add_validation(run_folder, state, validation.metrics, metric=config.evaluation.metric, model_card=card)


def _new_state(config: Config, categories: CategoryTable, process: Process, *, with_weights: bool) -> TrainingState:
    """Model, optimizer and average before the first step."""
    torch.manual_seed(config.train.seed)
    model = PanopticDeepLab(config.model, categories.num_classes)
    if with_weights and config.model.weights is not None:
        load_initial_weights(model, config, categories)
    elif with_weights:
        load_backbone_weights(model)
    if config.train.batch_norm == "sync" and process.world_size > 1:
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    place_network(model, config.train, device=process.device)
    decay = config.train.ema_decay
    return TrainingState(
        model=model,
        optimizer=build_optimizer(model, config.train),
        ema=None if decay is None else ExponentialMovingAverage(model, decay=decay),
    )


def _distributed(model: PanopticDeepLab, process: Process) -> nn.Module:
    """The model, with gradients averaged over processes where there are several."""
    if process.world_size == 1:
        return model
    device_ids = [torch.device(process.device)] if process.device.startswith("cuda") else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def _start_run_folder(
    run_folder: Path, config: Config, source: PanopticSource, process: Process, *, start_step: int
) -> None:
    """Write what is known before the first step, and say what is going to happen."""
    run_folder.mkdir(parents=True, exist_ok=True)
    save_config(config, run_folder / "config.yaml")
    write_environment(run_folder, process=process, seed=config.train.seed, start_step=start_step)
    if start_step == 0:
        write_label_statistics(source, run_folder / "labels.png")
    settings = config.train
    logger.info(
        "Training %s on %d images (%s), step %d to %d with %d images a step on %d x %s. Everything goes to %s.",
        config.model.backbone,
        len(source),
        source.categories.name,
        start_step,
        settings.max_steps,
        settings.batch_size,
        process.world_size,
        process.device,
        run_folder,
    )
    logger.info("Learning rate: %s.", describe_schedule(settings))
    images_together = images_normalized_together(config, process)
    if settings.batch_norm != "frozen" and images_together < SMALL_BATCH:
        logger.warning(
            "Batch normalisation sees %d images at once, which makes its statistics poor: use a larger batch with a"
            " smaller crop, train.batch_norm sync (GPUs), or frozen_backbone with pretrained weights.",
            images_together,
        )
