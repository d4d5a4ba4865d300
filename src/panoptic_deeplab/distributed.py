"""torchrun's environment: who am I, and the few collective operations that training and evaluation need.

Without torchrun (no RANK in the environment) everything below is the one-process case.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from panoptic_deeplab.errors import ConfigError, PanopticDeepLabError, TrainingError, first_line

if TYPE_CHECKING:
    import torch

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Process:
    """This process among its peers."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0


@contextmanager
def process_group(device: str = "auto") -> Iterator[Process]:
    """Join the group that torchrun announces (nccl for tensors on GPUs, gloo for those on CPUs); leave it at the end.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one.

    Raises:
        ConfigError: this process cannot have that device; see `resolve_device`.
    """
    import torch
    import torch.distributed as dist

    device = resolve_device(device)
    rank, local_rank, world_size = _of_torchrun()
    process = Process(rank=rank, world_size=world_size, local_rank=local_rank, device=device)
    if world_size == 1:
        yield process
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    # Metrics and signals are summed on the CPU, which nccl cannot do.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield process
    finally:
        dist.destroy_process_group()


def resolve_device(name: str) -> str:
    """The device of this process: `cpu`, or `cuda:` and an index.

    Args:
        name: `cpu`; `cuda` = the GPU with the process's number on its machine; `cuda:1`; or `auto` = `cuda` where
            there is a GPU, else `cpu`. What this function returned is resolved to itself.

    Raises:
        ConfigError: there is no such device, or several processes would share it.
    """
    import torch

    kind, colon, index = name.partition(":")
    if kind == "mps":
        raise ConfigError(
            f"`device` {name}, Apple's GPU, is not offered: losses and post-processing add up in float64, which it"
            " lacks, and nothing here was ever run on one. Use `cpu`."
        )
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "auto" and name != "cpu" and (kind != "cuda" or (colon and not index.isdecimal())):
        raise ConfigError(f"`device` must be `cpu`, `cuda`, `cuda:N` or `auto`. Got {name!r} instead.")
    if kind == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            f"`device` is {name}, but PyTorch finds no GPU. Use `cpu`, or install the driver and a build of PyTorch"
            " with CUDA; `panoptic-deeplab doctor` shows what is there."
        )
    _, local_rank, world_size = _of_torchrun()
    count = torch.cuda.device_count()
    if index and world_size > 1 and int(index) != local_rank:
        raise ConfigError(
            f"`device` is {name}, but there are {world_size} processes, and each needs a GPU of its own. Use `cuda`,"
            " and CUDA_VISIBLE_DEVICES to choose among the GPUs."
        )
    number = int(index) if index else local_rank
    if number >= count:
        raise ConfigError(
            f"`device` {name} is GPU {number} in process {local_rank} of this machine, which has {count}, counted from"
            " 0. Start at most as many processes as GPUs, or choose another device."
        )
    return f"cuda:{number}"


def all_reduce_sum(tensor: "torch.Tensor") -> "torch.Tensor":
    """The sum of `tensor` over all processes; `tensor` itself where there is one process."""
    import torch.distributed as dist

    if _several_processes():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process. All processes must call it together."""
    import torch

    return bool(all_reduce_sum(torch.tensor(float(flag))) > 0)


def broadcast_buffers(module: "torch.nn.Module") -> None:
    """Give the buffers of the first process's `module` to all others, in place.

    The statistics of batch normalization differ between processes after a step: each has seen its own images.
    """
    import torch.distributed as dist

    if _several_processes():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_objects(value: Any) -> list[Any]:
    """The `value` of every process, in the order of ranks; in every process."""
    import torch.distributed as dist

    if not _several_processes():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def of_main_process(process: Process, action: Callable[[], _Value]) -> _Value:
    """What `action` returns in the first process, which alone calls it; all processes must call this function together.

    An error is raised in all of them, so that none waits for a process that has left: errors of this package and of the
    system as they are, others (of a callback of the user) as a `TrainingError` that names them in the other processes.
    What is returned must be picklable.
    """
    value: _Value | None = None
    error: Exception | None = None
    if process.is_main:
        try:
            value = action()
        except Exception as reason:
            error = reason
    if _several_processes():
        told = error  # what can be pickled
        if error is not None and not isinstance(error, (PanopticDeepLabError, OSError)):
            told = TrainingError(f"The first process has failed ({type(error).__name__}: {first_line(error)}).")
        value, told = gather_objects((value, told))[0]
        error = error or told
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only where `action` returned it


def barrier() -> None:
    """Wait for all processes."""
    import torch.distributed as dist

    if _several_processes():
        dist.barrier()


def _several_processes() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _of_torchrun() -> tuple[int, int, int]:
    """Rank, rank on this machine, and number of processes, as the launcher announces them."""
    return (int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
