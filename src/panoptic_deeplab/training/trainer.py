"""`train`: the training loop, on one page.

Launch it (the recipe is a name or a YAML file; `runs/street` is the run folder, see `checkpoint.py`):

    # CPU, or one GPU where there is one
    panoptic-deeplab train cityscapes_resnet50 --run-folder runs/street

    # 8 GPUs of one machine: one process a GPU, train.batch_size is the batch of all of them together
    torchrun --standalone --nproc-per-node 8 -m panoptic_deeplab train cityscapes_resnet50 --run-folder runs/street

    # 4 machines with 8 GPUs each: on every machine; the run folder is on a shared disk
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m panoptic_deeplab train cityscapes_resnet50 --run-folder /shared/runs/street

    # after a crash, SIGTERM or Ctrl+C: the same command with --resume gives the weights of a run that never stopped

Other launchers that set RANK, LOCAL_RANK and WORLD_SIZE work too.
"""

import logging
import time
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
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.losses import PanopticDeepLabLoss
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import load_backbone_weights
from panoptic_deeplab.training.checkpoint import (
    BEST,
    TrainingState,
    check_run_folder,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.first_look import write_label_statistics, write_training_batch
from panoptic_deeplab.training.interruption import Interruption
from panoptic_deeplab.training.meter import Meter
from panoptic_deeplab.training.model_card import model_card
from panoptic_deeplab.training.optimizer import build_optimizer, describe_schedule, learning_rate
from panoptic_deeplab.training.step import batch_to_device, optimization_step, set_training_mode
from panoptic_deeplab.training.tracking import METRICS_FILE, Tracker, write_environment
from panoptic_deeplab.training.validation import Validation, validate
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
        CheckpointError: a checkpoint or the backbone's weights cannot be used.
        DatasetError: the data cannot be read.
        TrainingError: a loss is not finite.
        KeyboardInterrupt: after SIGTERM or Ctrl+C, when the checkpoint is written.
    """
    run_folder, settings = Path(run_folder), config.train
    with process_group(device) as process, Interruption() as interruption:
        # Data, network, loss
        check_run_folder(run_folder, resume=resume)
        _check_batch_size(settings, process)
        source = open_source(config.data, config.data.train_split)
        validation_source = open_source(config.data, config.data.val_split)
        resuming = resume and has_checkpoint(run_folder)
        state = _new_state(config, source.categories.num_classes, process, with_backbone_weights=not resuming)
        if resuming:
            load_checkpoint(run_folder, state, config=config)
        network = _distributed(state.model, process)
        loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)

        # Run folder
        barrier()  # every process has looked at the folder before one of them changes it
        if process.is_main:
            _start_run_folder(run_folder, config, source, process, start_step=state.step)
        tracker = Tracker(
            run_folder, process=process, max_steps=settings.max_steps, start_step=state.step, console=console
        )
        meter = Meter(process, batch_size=settings.batch_size)
        last_saved = time.monotonic()
        batches = training_batches(
            source, config, rank=process.rank, world_size=process.world_size, start_step=state.step
        )
        with tracker:
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
                is_last = state.step == settings.max_steps
                validates = is_last or (settings.validate_every > 0 and state.step % settings.validate_every == 0)
                logs = validates or state.step % settings.log_every == 0
                if not logs and process.device != "cpu":
                    continue
                meter.check()
                interrupted = interruption.agreed(process.device) and not is_last
                validation = None
                row = meter.summary() | {"learning_rate": learning_rate(state.step - 1, settings)} if logs else {}
                if validates and not interrupted:
                    validation = validate(
                        state, validation_source, config=config, run_folder=run_folder, process=process, tracker=tracker
                    )
                    row |= validation.metrics
                if logs:
                    tracker.log(state.step, row)
                    meter.restart()
                overdue = time.monotonic() - last_saved > 60 * SAVE_EVERY_MINUTES
                if process.is_main and (validation or interrupted or overdue):
                    _save(run_folder, state, validation, config=config, categories=source.categories)
                    last_saved = time.monotonic()
                if interrupted:
                    barrier()  # the first process to end takes the others with it, so let the checkpoint be written
                    raise KeyboardInterrupt(f"Interrupted after step {state.step}, with a checkpoint. Use --resume.")
        if process.is_main:
            draw_curves(run_folder / METRICS_FILE, run_folder / "curves.png")
        barrier()
    return run_folder / BEST


def _save(
    run_folder: Path,
    state: TrainingState,
    validation: Validation | None,
    *,
    config: Config,
    categories: CategoryTable,
) -> None:
    """Write a checkpoint; it is the best one if its validation says so."""
    is_best = validation is not None and (state.best_metric is None or validation.best_metric > state.best_metric)
    if validation is not None and is_best:
        state.best_metric = validation.best_metric
    card = model_card(config, categories, step=state.step, table=validation.table if validation else None)
    save_checkpoint(run_folder, state, config=config, categories=categories, is_best=is_best, model_card=card)


def _check_batch_size(config: TrainConfig, process: Process) -> None:
    parts = process.world_size * config.accumulation_steps
    if config.batch_size % parts:
        raise ConfigError(
            f"`train.batch_size` must be divisible by {parts}: {process.world_size} processes times"
            f" train.accumulation_steps {config.accumulation_steps}. Got {config.batch_size} instead; use"
            f" {-(-config.batch_size // parts) * parts}."
        )


def _new_state(config: Config, num_classes: int, process: Process, *, with_backbone_weights: bool) -> TrainingState:
    """Model, optimizer and average before the first step."""
    torch.manual_seed(config.train.seed)
    model = PanopticDeepLab(config.model, num_classes)
    if with_backbone_weights:
        load_backbone_weights(model)
    on_gpu = process.device.startswith("cuda")
    if config.train.batch_norm == "sync" and process.world_size > 1:
        if not on_gpu:
            raise ConfigError("`train.batch_norm` sync needs GPUs. Use train or frozen on the CPU.")
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model.to(process.device)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    set_training_mode(model, batch_norm=config.train.batch_norm)
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
    images_together = settings.batch_size // settings.accumulation_steps
    images_together //= 1 if settings.batch_norm == "sync" else process.world_size
    if settings.batch_norm != "frozen" and images_together < SMALL_BATCH:
        logger.warning(
            "Batch normalisation sees %d images at once, which makes its statistics poor: use a larger batch with a"
            " smaller crop, train.batch_norm sync (GPUs), or frozen with pretrained weights.",
            images_together,
        )
