"""What was measured, where: table and JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from panoptic_deeplab.profiling.measure import Timing

STAGES = ("decode", "resize", "network", "centers", "upsample + argmax", "grouping", "merging", "scores", "encode")
"""The stages in their order."""


@dataclass(frozen=True, kw_only=True)
class InferenceRow:
    """One model at one size and batch size."""

    name: str
    runtime: str
    """`pytorch`, or the suffix of the exported file."""
    precision: str
    compiled: bool
    """Whether torch.compile was used."""
    device: str
    image_size: tuple[int, int]
    """`(height, width)` of the image."""
    input_size: tuple[int, int]
    """`(height, width)` of the network's input."""
    batch_size: int
    stages: Mapping[str, Timing]
    """Seconds a batch, by the names of `STAGES`, with waiting for the device after each. Empty for a file with the
    whole pipeline inside."""
    end_to_end: Timing
    """Seconds a batch, from image files to encoded results."""
    peak_process_bytes: int
    peak_process_increase_bytes: int | None
    """Above the process with the model loaded; None where the system does not tell."""
    peak_gpu_bytes: int | None
    drawn_scene: bool
    """Post-processing worked on a drawn scene, since the network is untrained."""
    published_milliseconds: float | None = None
    """Time for one image in Table 9 (Tesla V100)."""

    @property
    def images_per_second(self) -> float:
        """Throughput, from the median."""
        return self.batch_size / self.end_to_end.median


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One recipe."""

    name: str
    device: str
    precision: str
    crop_size: tuple[int, int]
    batch_size: int
    num_workers: int
    step: Timing
    """Seconds a step, data at hand."""
    loader_images_per_second: float
    """What the loader gives while nothing else runs."""
    peak_process_bytes: int
    peak_gpu_bytes: int | None

    @property
    def step_images_per_second(self) -> float:
        """What a step needs."""
        return self.batch_size / self.step.median


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """All rows, and the machine."""

    environment: Mapping[str, Any]
    """Time, command, commit, versions, hardware."""
    inference: tuple[InferenceRow, ...] = ()
    training: tuple[TrainingRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `benchmark --json`."""
        return {
            "environment": dict(self.environment),
            "inference": [asdict(row) | {"images_per_second": row.images_per_second} for row in self.inference],
            "training": [asdict(row) | {"step_images_per_second": row.step_images_per_second} for row in self.training],
        }

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """Title and rows of each table; the first row is the head."""
        tables = []
        if self.inference:
            tables.append(("Prediction: milliseconds a batch (median)", _inference_table(self.inference)))
        if self.training:
            tables.append(("Training", _training_table(self.training)))
        return tables


def _inference_table(rows: tuple[InferenceRow, ...]) -> list[list[str]]:
    table = [["", *(_model_name(row) for row in rows)]]
    table.append(["image", *(_size(row.image_size) for row in rows)])
    table.append(["network input", *(_size(row.input_size) for row in rows)])
    table.append(["batch", *(str(row.batch_size) for row in rows)])
    for stage in STAGES:
        cells = [row.stages.get(stage) for row in rows]
        if any(cells):
            table.append([stage, *("-" if cell is None else _milliseconds(cell.median) for cell in cells)])
    table.append(["end to end", *(_milliseconds(row.end_to_end.median) for row in rows)])
    table.append(["end to end, p90", *(_milliseconds(row.end_to_end.p90) for row in rows)])
    table.append(["images a second", *(f"{row.images_per_second:.2f}" for row in rows)])
    table.append(["peak memory, MiB", *(_mebibytes(row.peak_process_bytes) for row in rows)])
    if any(row.peak_gpu_bytes is not None for row in rows):
        table.append(["peak GPU memory, MiB", *(_mebibytes(row.peak_gpu_bytes) for row in rows)])
    if any(row.published_milliseconds is not None for row in rows):
        published = (row.published_milliseconds for row in rows)
        table.append(["Table 9, V100", *("-" if ms is None else f"{ms:.0f}" for ms in published)])
    return table


def _training_table(rows: tuple[TrainingRow, ...]) -> list[list[str]]:
    table = [["", *(f"{row.name} {row.device} {row.precision}" for row in rows)]]
    table.append(["crop", *(_size(row.crop_size) for row in rows)])
    table.append(["batch", *(str(row.batch_size) for row in rows)])
    table.append(["step, ms", *(_milliseconds(row.step.median) for row in rows)])
    table.append(["step, images a second", *(f"{row.step_images_per_second:.2f}" for row in rows)])
    table.append(["loader, images a second", *(f"{row.loader_images_per_second:.2f}" for row in rows)])
    table.append(["loader processes", *(str(row.num_workers) for row in rows)])
    table.append(["peak memory, MiB", *(_mebibytes(row.peak_process_bytes) for row in rows)])
    if any(row.peak_gpu_bytes is not None for row in rows):
        table.append(["peak GPU memory, MiB", *(_mebibytes(row.peak_gpu_bytes) for row in rows)])
    return table


def _model_name(row: InferenceRow) -> str:
    return f"{row.name}\n{row.runtime} {row.device} {row.precision}{' compiled' if row.compiled else ''}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.0f}"
