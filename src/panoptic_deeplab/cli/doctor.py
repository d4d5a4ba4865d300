"""`panoptic-deeplab doctor`: versions, devices, optional packages, and the problems that people run into.

`inspect_machine()` only looks; it changes nothing and downloads nothing. Which packages are needed, and in which
versions, it reads from the metadata of this package.
"""

import os
import platform
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from panoptic_deeplab import __version__
from panoptic_deeplab.cli.terminal import print_json, say_lines
from panoptic_deeplab.cli.verb import Flag, Verb
from panoptic_deeplab.results.text_table import text_table

_DISTRIBUTION = "panoptic-deeplab"

_IN_PLACE_OF = {"onnxruntime": "onnxruntime-gpu", "opencv-python-headless": "opencv-python"}
"""A package of an extra -> another one with the same modules, which serves as well."""

_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Packages with the module cv2."""

_IMPORT_ERRORS = (ImportError, OSError, RuntimeError, AttributeError)
"""What importing and first using a broken binary package raises; OSError: a shared library is missing."""

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists where the driver of an NVIDIA GPU is loaded (Linux)."""

_SMALL_SHARED_MEMORY = 1 << 30
"""Bytes. Loader processes hand batches over through /dev/shm; a container's default of 64 MB is too small."""


@dataclass(frozen=True, kw_only=True)
class Doctor(Verb):
    """Look at this machine: versions, devices, optional packages, known problems.

    Ends with exit code 1 if there is a problem.

    With --json, the document is: version, python, platform, packages {name: version or null}, extras {module:
    installed}, cpu_count, torch_threads, gpus, bfloat16_on_gpu, problems (empty = ready).
    """

    json: Flag = False
    """Write one JSON document to stdout instead of a table."""

    def execute(self) -> None:
        """Inspect; print the findings."""
        report = inspect_machine()
        if self.json:
            print_json(report.to_json())
        else:
            say_lines(text_table(report.rows(), left=(0, 1)))
        if report.problems:
            raise SystemExit(1)


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """What `panoptic-deeplab doctor` found out. The field names are the keys of `doctor --json`."""

    version: str
    """Version of this package."""
    python: str
    platform: str
    packages: Mapping[str, str | None]
    """Version of each required package, None where it is missing."""
    extras: Mapping[str, bool]
    """Optional package -> installed."""
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
        by_size = sorted(_extras().items(), key=lambda item: -len(item[1]))  # of several extras, the smallest is named
        extra_of = {name: extra for extra, names in by_size for name in names}
        missing = [
            f'{name}: pip install "{_DISTRIBUTION}[{extra_of[name]}]"' for name, ok in self.extras.items() if not ok
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
    required = _required()
    packages = {requirement.name: _version(requirement.name) for requirement in required}
    extras = {name: _is_installed(name) for names in _extras().values() for name in names}
    problems = _version_problems(required)
    if not required:
        problems.append(
            f"{_DISTRIBUTION} runs from its source and is not installed, so nothing says which packages it needs."
            " Install it with: pip install -e ."
        )
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    bfloat16: bool | None = None
    if packages.get("torch"):
        try:
            threads, gpus, bfloat16 = _torch_facts()
        except _IMPORT_ERRORS as error:
            problems.append(
                f"torch is installed, but broken ({_named(error)}). Reinstall it together with torchvision."
            )
        else:
            if not gpus:
                problems += _gpu_problems(_NVIDIA_DRIVER)
    if threads is not None and packages.get("torchvision"):
        problems += _torchvision_problems()
    problems += _opencv_problems()
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


def _requirements() -> list[Requirement]:
    """What pip reads of this package; nothing where it runs from its source alone."""
    try:
        return [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return []


def _required() -> list[Requirement]:
    return [requirement for requirement in _requirements() if requirement.marker is None]


def _extras() -> dict[str, list[str]]:
    """Extra -> the packages it brings, without `all`, which brings those of all others."""
    extras: dict[str, list[str]] = {}
    for requirement in _requirements():
        extra = re.search(r"extra == ['\"]([\w-]+)", str(requirement.marker))
        if extra is not None and extra[1] != "all":
            extras.setdefault(extra[1], []).append(requirement.name)
    return extras


def _is_installed(name: str) -> bool:
    return any(_version(package) for package in (name, _IN_PLACE_OF.get(name)) if package)


def _version_problems(required: Sequence[Requirement]) -> list[str]:
    problems = []
    for requirement in required:
        name, version = requirement.name, _version(requirement.name)
        if version is None:
            problems.append(f"{name} is not installed. Install it with: pip install {name}")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                f"{name} {version} does not work with this package, which needs {requirement.specifier}."
                f' Update it with: pip install --upgrade "{requirement}"'
            )
    return problems


def _opencv_problems() -> list[str]:
    """The packages of OpenCV write over one another's files, and pip does not know it."""
    found = [name for name in _OPENCVS if _version(name)]
    if len(found) < 2:
        return []
    return [
        f"{' and '.join(found)} are installed, which write over one another's files. Uninstall all with pip, and"
        " install one again."
    ]


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
