"""Devices and the one-process case; several processes are in tests/distributed."""

import pytest
import torch

from panoptic_deeplab import distributed
from panoptic_deeplab.distributed import (
    Process,
    all_reduce_sum,
    any_process,
    barrier,
    broadcast_buffers,
    gather_objects,
    of_main_process,
    process_group,
    resolve_device,
)
from panoptic_deeplab.errors import ConfigError, TrainingError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def _as_process(monkeypatch: pytest.MonkeyPatch, local_rank: int, world_size: int) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    monkeypatch.setenv("WORLD_SIZE", str(world_size))


@pytest.mark.usefixtures("two_gpus")
def test_one_process_takes_the_gpu_it_names() -> None:
    names = ("auto", "cuda", "cuda:0", "cuda:1", "cpu")
    assert [resolve_device(name) for name in names] == ["cuda:0", "cuda:0", "cuda:0", "cuda:1", "cpu"]
    with pytest.raises(ConfigError, match=r"`device` cuda:2 is GPU 2 .* which has 2"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_process(monkeypatch, 1, 2)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:1"
    assert resolve_device("cuda:1") == "cuda:1"  # what was resolved before
    with pytest.raises(ConfigError, match=r"`device` is cuda:0, but there are 2 processes.*Use `cuda`"):
        resolve_device("cuda:0")


@pytest.mark.usefixtures("two_gpus")
def test_more_processes_than_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _as_process(monkeypatch, 2, 3)
    with pytest.raises(ConfigError, match=r"is GPU 2 in process 2 of this machine, which has 2"):
        resolve_device("auto")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_gpu_that_is_not_there_is_an_error(name: str) -> None:
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match=f"`device` is {name}, but PyTorch finds no GPU"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_gpus_of_apple_are_refused_with_the_reason(name: str) -> None:
    """The reason holds as long as `test_step.py` and `test_device_path.py` find float64."""
    with pytest.raises(ConfigError, match=rf"`device` {name}, Apple's GPU, is not offered.*float64.*Use `cpu`"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "CPU"])
def test_unknown_device_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be `cpu`, `cuda`, `cuda:N` or `auto`\. Got"):
        resolve_device(name)


@pytest.mark.usefixtures("no_gpu")
def test_one_process_needs_no_group() -> None:
    with process_group() as process:
        assert process == Process()
        tensor = torch.ones(2)
        assert all_reduce_sum(tensor) is tensor
        assert gather_objects("a") == ["a"]
        barrier()
        broadcast_buffers(torch.nn.BatchNorm2d(2))


def test_one_process_does_and_decides_for_itself() -> None:
    assert any_process(True)
    assert not any_process(False)
    assert of_main_process(Process(), lambda: 5) == 5

    def refuse() -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        of_main_process(Process(), refuse)


def test_an_error_of_a_callback_reaches_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[None, Exception | None]] = []

    def gather(item: tuple[None, Exception | None]) -> list[tuple[None, Exception | None]]:
        told.append(item)
        return told[:1]

    monkeypatch.setattr(distributed, "_several_processes", lambda: True)
    monkeypatch.setattr(distributed, "gather_objects", gather)

    def fails() -> None:
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        of_main_process(Process(rank=0, world_size=2), fails)
    with pytest.raises(TrainingError, match=r"The first process has failed \(ZeroDivisionError: of the user\)"):
        of_main_process(Process(rank=1, world_size=2), fails)
