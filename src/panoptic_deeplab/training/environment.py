"""environment.json: for each start of a run, what a reader needs to repeat it."""

import importlib.metadata
import logging
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from panoptic_deeplab.config import TrainConfig
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import read_json, write_json
from panoptic_deeplab.provenance import source_commit

logger = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.json"


def write_environment(run_folder: Path, *, process: Process, settings: TrainConfig, start_step: int) -> None:
    """Add this start, after `start_step` steps, to environment.json; warn if a run goes on in another environment.

    Its `max_steps` are there because a run can be made longer.

    Raises:
        CheckpointError: the file is there and damaged.
    """
    path = run_folder / ENVIRONMENT_FILE
    told = {"seed": settings.seed, "max_steps": settings.max_steps, "start_step": start_step}
    current = _environment(process) | told
    starts: list[dict[str, Any]] = []
    if path.exists():
        try:
            starts = read_json(path, what="history of the run", error=CheckpointError)
            before = _execution(starts[-1])
        except (CheckpointError, LookupError, TypeError, AttributeError) as error:
            said = str(error) if isinstance(error, CheckpointError) else f"{path} is damaged ({type(error).__name__})."
            raise CheckpointError(
                f"{said} Nothing but the history of the run depends on it: delete it to go on."
            ) from error
        if start_step > 0 and before != _execution(current):
            _warn(before, _execution(current))
    write_json(path, [*starts, current], indent=2)


def write_end(run_folder: Path, *, step: int, reason: str) -> None:
    """Add to the last start in environment.json after which step it ended, and why."""
    path = run_folder / ENVIRONMENT_FILE
    *before, last = read_json(path, what="history of the run", error=CheckpointError)
    write_json(path, [*before, last | {"end_step": step, "end": reason}], indent=2)


def _execution(environment: dict[str, Any]) -> dict[str, Any]:
    """What decides about the order in which numbers are added up."""
    hardware = environment["hardware"]
    return {
        "processes": environment["world_size"],
        "device": hardware["device"],
        "threads": hardware["torch_threads"] if hardware["device"] == "cpu" else None,
    }


def _warn(before: dict[str, Any], now: dict[str, Any]) -> None:
    changes = [f"{name} {before[name]} before, {now[name]} now" for name in now if before[name] != now[name]]
    message = "The run goes on in another way (%s): its result equals that of a run that never stopped only up to %s."
    rest = "rounding"
    if before["processes"] != now["processes"]:
        rest += ", and to dropout and the statistics of batch normalization, which each process has for itself"
    logger.warning(message, "; ".join(changes), rest)


def describe_environment(device: str) -> dict[str, Any]:
    """Time, command, commit, versions and hardware, `cpu` or `cuda:0` for example, as plain data."""
    on_gpu = device.startswith("cuda")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": source_commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("panoptic-deeplab", "torch", "torchvision", "timm", "numpy")},
        },
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        },
    }


def _environment(process: Process) -> dict[str, Any]:
    return describe_environment(process.device) | {"world_size": process.world_size}


def _processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()  # Linux
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
