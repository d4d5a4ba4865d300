"""torchrun's environment: who am I, and the few collective operations that training and evaluation need.

Without torchrun (no RANK in the environment) everything below is the one-process case.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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
    """
    import torch
    import torch.distributed as dist

    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{local_rank}"
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


def all_reduce_sum(tensor: "torch.Tensor") -> "torch.Tensor":
    """The sum of `tensor` over all processes; `tensor` itself where there is one process."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def gather_objects(value: Any) -> list[Any]:
    """The `value` of every process, in the order of ranks; in every process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all processes."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()
