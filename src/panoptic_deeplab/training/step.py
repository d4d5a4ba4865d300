"""One optimization step: gradients of a whole batch that is split over processes and passes."""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from panoptic_deeplab.config import TrainConfig
from panoptic_deeplab.data.loader import Batch
from panoptic_deeplab.distributed import Process, all_reduce_sum
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.model.depthwise import use_fast_depthwise
from panoptic_deeplab.training.losses import LossTerms, PanopticDeepLabLoss
from panoptic_deeplab.training.optimizer import learning_rate_factor, set_learning_rate
from panoptic_deeplab.training.state import TrainingState


def optimization_step(
    network: nn.Module,
    loss: PanopticDeepLabLoss,
    state: TrainingState,
    batch: Batch,
    *,
    config: TrainConfig,
    process: Process,
) -> LossTerms:
    """Make step number `state.step` (from 0) and count it.

    Args:
        network: `state.model`, inside `DistributedDataParallel` where there are several processes.
        loss: the criterion.
        state: changed in place: weights, optimizer, average, number of steps.
        batch: this process's share of the batch, on `process.device`.
        config: the optimization.
        process: this process.

    Returns:
        This process's summand of each term of the batch's loss.
    """
    set_training_mode(state.model, config)
    torch.manual_seed(step_seed(config.seed, state.step, process.rank))
    set_learning_rate(state.optimizer, learning_rate_factor(state.step, config, seconds=state.seconds))
    terms = accumulate_gradients(network, loss, batch, config=config, process=process)
    if config.clip_gradient_norm is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_gradient_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.ema is not None:
        state.ema.update(state.model, state.step)
    return terms


def accumulate_gradients(
    network: nn.Module, loss: PanopticDeepLabLoss, batch: Batch, *, config: TrainConfig, process: Process
) -> LossTerms:
    """Add the gradient of the loss of the whole batch, over all processes, to the parameters.

    A term of the loss is a sum over pixels divided by a normalizer of the whole batch. The normalizers depend on the
    targets only, so they are summed over processes first; then every pass of every process contributes exactly its
    summand, whichever way the batch is split.

    `batch` is this process's share, on `process.device`; the result its summand of each term, detached.
    """
    assert config.precision != "auto"  # see `precision.py`
    normalizers = all_reduce_sum(loss.normalizers(batch.targets))
    passes, in_bfloat16 = config.passes(len(batch.images)), config.precision == "bfloat16"
    summands: list[Tensor] = []
    for index, (images, *fields) in enumerate(
        zip(*(field.tensor_split(passes) for field in (batch.images, *batch.targets)), strict=True)
    ):
        with _gradient_exchange(network, index == passes - 1):
            with torch.autocast(process.device.partition(":")[0], torch.bfloat16, enabled=in_bfloat16):
                raw_maps = network(images)
            terms = loss(raw_maps, Targets(*fields), normalizers)
            # DistributedDataParallel averages the gradients of the processes; the batch's gradient is their sum.
            (terms.total * process.world_size).backward()  # type: ignore[no-untyped-call]
        summands.append(torch.stack(terms).detach())
    return LossTerms(*torch.stack(summands).sum(dim=0))


def batch_to_device(batch: Batch, *, device: str, channels_last: bool) -> Batch:
    """Copy a batch to the device of the network, in its memory format."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return Batch(
        images=batch.images.to(device, non_blocking=True, memory_format=memory_format),
        targets=Targets(*(field.to(device, non_blocking=True) for field in batch.targets)),
        image_ids=batch.image_ids,
    )


def place_network(model: nn.Module, config: TrainConfig, *, device: str) -> None:
    """Move a network to its device and into the memory format and mode in which it trains.

    With `channels_last`, depthwise convolutions take faster ways on the CPU (`model/depthwise.py`).
    """
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
        use_fast_depthwise(model)
    set_training_mode(model, config)


def set_training_mode(model: nn.Module, config: TrainConfig) -> None:
    """Training mode, except for what is frozen.

    Frozen batch normalization (`config.batch_norm`) keeps statistics and affine parameters. A backbone with
    `config.backbone_learning_rate_factor` 0 needs no gradients, which saves its backward pass.
    """
    model.train()
    if config.backbone_learning_rate_factor == 0:
        model.get_submodule("backbone").requires_grad_(False)
    if config.batch_norm in ("frozen", "frozen_backbone"):
        for module in model.get_submodule("" if config.batch_norm == "frozen" else "backbone").modules():
            if isinstance(module, _BatchNorm):
                module.eval()
                module.requires_grad_(False)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers (dropout) of one step of one process, so that resuming needs no stored state."""
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**63


def _gradient_exchange(network: nn.Module, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Processes exchange gradients once a step, with the last pass."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        no_sync: contextlib.AbstractContextManager[None] = network.no_sync()
        return no_sync
    return contextlib.nullcontext()
