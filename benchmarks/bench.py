"""The library against plain implementations, side by side: `make bench`, or `python benchmarks/bench.py --rows pq`

Prints a table of the ratios with their bars and writes it to `benchmarks/results/DATE-MACHINE.json`. The plain side is
`naive.py`, or PyTorch as it comes: eager, float32, without a choice of memory format. Both sides are measured in turns
in one process, so that a busy machine slows both; compare absolute times of quiet machines only.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import naive
import numpy as np
import torch
from machine import rates
from rich.console import Console
from rich.table import Table

from panoptic_deeplab.config import PostprocessConfig, Precision, TargetConfig
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.maps import RawMaps, upsample, upsample_offset
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.profiling.inference import Subject, untrained_subject
from panoptic_deeplab.profiling.measure import peak_memory
from panoptic_deeplab.profiling.scenes import draw_labels, draw_raw_maps, make_categories, shifted
from panoptic_deeplab.training.environment import describe_environment
from panoptic_deeplab.training.precision import has_bfloat16

RESULTS = Path(__file__).parent / "results"
INPUT_SIZE, MAP_SIZE, LABEL_SIZE = (1025, 2049), (257, 513), (1024, 2048)
CATEGORIES = make_categories(19, 8)  # as Cityscapes


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    figure: float
    unit: str
    bar: float
    at_least: bool
    """The figure should be at least the bar, or at most."""
    plain_seconds: float | None = None
    our_seconds: float | None = None
    no_bar: str | None = None
    """Why the bar does not apply on this machine."""

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None where it does not apply."""
        if self.no_bar is not None:
            return None
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


def in_turns(*functions: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each function; they take turns."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, timed in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            timed.append(time.perf_counter() - start)
    return [statistics.median(timed) for timed in seconds]


def compare(
    name: str,
    plain: Callable[[], object],
    ours: Callable[[], object],
    *,
    bar: float,
    rounds: int,
    ours_a_round: int = 1,
) -> Row:
    """A ratio of medians, after one run of ours that does not count."""
    ours()
    plain_seconds, *several = in_turns(plain, *[ours] * ours_a_round, rounds=rounds)
    our_seconds = statistics.median(several)
    return Row(
        name=name,
        figure=plain_seconds / our_seconds,
        unit="times",
        bar=bar,
        at_least=True,
        plain_seconds=plain_seconds,
        our_seconds=our_seconds,
    )


# --- post-processing --------------------------------------------------------------------------------------------------
def scene(*, thing_share: float = 0.4, num_centers: int = 120) -> RawMaps:
    """Raw maps of 1025 x 2049 pixels."""
    return draw_raw_maps(MAP_SIZE, thing_mask=CATEGORIES.thing_mask, thing_share=thing_share, num_centers=num_centers)


def postprocess_plainly(maps: RawMaps) -> tuple[np.ndarray, np.ndarray, list[dict[str, object]]]:
    """The naive way, from stride-4 maps."""
    logits = upsample(maps.semantic_logits, INPUT_SIZE, align_corners=True)[0]
    heatmap = upsample(maps.center_heatmap, INPUT_SIZE, align_corners=True)[0, 0]
    offset = upsample_offset(maps.offset, INPUT_SIZE, align_corners=True)[0]
    return naive.postprocess(
        logits.numpy(),
        heatmap.numpy(),
        offset.numpy(),
        thing_mask=CATEGORIES.thing_mask,
        config=PostprocessConfig(),
    )


def postprocess_rows() -> list[Row]:
    """Speed for two scenes, growth with the number of centers."""
    ours = PanopticPostprocessor(CATEGORIES, PostprocessConfig(), align_corners=True)
    rows = []
    for share in (0.4, 1.0):
        maps = scene(thing_share=share)
        title = f"post-processing, {share:.0%} things"
        (result,), (panoptic_map, semantic_map, _) = ours(maps, INPUT_SIZE), postprocess_plainly(maps)
        assert np.array_equal(result.panoptic_map, panoptic_map)
        assert np.array_equal(result.semantic_map, semantic_map)
        row = compare(
            title,
            lambda maps=maps: postprocess_plainly(maps),
            lambda maps=maps: ours(maps, INPUT_SIZE),
            bar=140,
            rounds=2,
            ours_a_round=7,
        )
        rows.append(row)
        rows.append(Row(name=f"{title}, time", figure=row.our_seconds, unit="s", bar=0.25, at_least=False))
    few, many = scene(num_centers=20), scene(num_centers=200)
    at_most_20 = PanopticPostprocessor(CATEGORIES, PostprocessConfig(top_k=20), align_corners=True)
    functions = (
        lambda: at_most_20(many, INPUT_SIZE),
        lambda: ours(few, INPUT_SIZE),
        lambda: ours(many, INPUT_SIZE),
    )
    capped, small, large = in_turns(*functions, rounds=15)
    rows.append(growth("post-processing, 200 centers against the best 20 of them", large / capped))
    rows.append(growth("post-processing, scene of 200 instances against 20", large / small))
    joining = PanopticPostprocessor(CATEGORIES, PostprocessConfig(join_border_fraction=0.2), align_corners=True)
    apart, joined = in_turns(lambda: ours(many, INPUT_SIZE), lambda: joining(many, INPUT_SIZE), rounds=15)
    rows.append(growth("post-processing, instances joined against apart", joined / apart))
    return rows


def growth(name: str, ratio: float) -> Row:
    """How little the number of centers matters."""
    return Row(name=name, figure=ratio, unit="times", bar=1.3, at_least=False)


def memory_rows() -> list[Row]:
    """Peak memory of post-processing above its inputs, in new processes."""
    rows = []
    for share in (0.4, 1.0):
        command = [sys.executable, __file__, "--memory-of", str(share)]
        increase = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        title = f"post-processing, {share:.0%} things, memory"
        rows.append(Row(name=title, figure=increase, unit="MB", bar=400, at_least=False))
    return rows


def print_memory_of(thing_share: float) -> None:
    """In a process of its own, whose heap has nothing left from other work: megabytes above the inputs."""
    ours = PanopticPostprocessor(CATEGORIES, PostprocessConfig(), align_corners=True)
    maps = scene(thing_share=thing_share)
    ours(RawMaps(*(map_[..., :20, :20] for map_ in maps)), (77, 77))  # loads what is loaded at the first use
    with peak_memory(torch.device("cpu")) as peak:
        ours(maps, INPUT_SIZE)
    assert peak.process_increase is not None
    print(peak.process_increase / 1e6)


# --- targets and PQ ---------------------------------------------------------------------------------------------------
def target_rows() -> list[Row]:
    """Training targets of one image with 60 instances."""
    label = draw_labels(INPUT_SIZE, CATEGORIES, num_instances=60)
    arguments = {"categories": CATEGORIES, "config": TargetConfig()}
    return [
        compare(
            "targets, 60 instances",
            lambda: naive.make_targets(label.panoptic_map, label.segments_info, **arguments),
            lambda: make_targets(label.panoptic_map, label.segments_info, **arguments),
            bar=15,
            rounds=5,
            ours_a_round=5,
        )
    ]


def quality_rows() -> list[Row]:
    """PQ of one image of 1024 x 2048 pixels."""
    truth = draw_labels(LABEL_SIZE, CATEGORIES, num_instances=60)
    prediction = shifted(truth, 3)
    quality = PanopticQuality(CATEGORIES)
    return [
        compare(
            "PQ of an image, one core",
            lambda: naive.panoptic_quality(prediction, truth),
            lambda: quality.update(prediction, truth, "image"),
            bar=12,
            rounds=7,
            ours_a_round=5,
        )
    ]


# --- network and training step ----------------------------------------------------------------------------------------
def network_rows() -> list[Row]:
    """ResNet-50 at 513 x 1025: eager float32 as it comes, against the ways in which `PanopticPredictor` runs it.

    The bar is that of the fastest way; float32 must not be slower than it comes.
    """
    config, title = load_config("cityscapes_resnet50"), "network, ResNet-50 at 513 x 1025"
    images = torch.randn(1, 3, 513, 1025)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    ways: list[tuple[Precision, bool, float]] = [("float32", False, 1)]
    if has_bfloat16("cpu"):
        ways += [("bfloat16", False, 2), ("bfloat16", True, 2)]
    else:
        print(f"{title}: without bfloat16, which this processor does not have", file=sys.stderr)
    rows = []
    for precision, compiled, bar in ways:
        subject: Subject = untrained_subject(
            "ResNet-50", config, CATEGORIES, device="cpu", precision=precision, compile=compiled
        )
        predictor = subject.predictor

        @torch.inference_mode()
        def plain(network=predictor.engine.model.network) -> None:
            network(images)

        @torch.inference_mode()
        def ours(predictor=predictor) -> None:
            predictor.engine.maps_of(channels_last)

        name = f"{title}, {precision}{' compiled' if compiled else ''}"
        rows.append(compare(name, plain, ours, bar=bar, rounds=5))
    return rows


def training_rows() -> list[Row]:
    """A step of the demo's network: eager float32 as it comes, against the recipe's settings."""
    from panoptic_deeplab.profiling.training import TrainingStep

    config = load_config("demo")
    config = replace(
        config,
        data=replace(config.data, format="synthetic", train_split="train:8", crop_size=(257, 257), num_workers=0),
        train=replace(config.train, batch_size=8),
    )
    plain = replace(config, train=replace(config.train, channels_last=False, precision="float32"))
    steps = [TrainingStep.of_recipe(settings, device="cpu") for settings in (plain, config)]
    return [compare(f"training step, {config.model.backbone}, 8 x 257 x 257", *steps, bar=2, rounds=5)]


# --- start-up ---------------------------------------------------------------------------------------------------------
def startup_rows() -> list[Row]:
    """The help of the command line, in a new process."""
    command = [sys.executable, "-m", "panoptic_deeplab", "--help"]

    def run() -> None:
        subprocess.run(command, capture_output=True, check=True)

    run()
    (seconds,) = in_turns(run, rounds=7)
    return [Row(name="panoptic-deeplab --help", figure=seconds, unit="s", bar=0.5, at_least=False)]


ROWS: dict[str, Callable[[], list[Row]]] = {
    "postprocess": postprocess_rows,
    "memory": memory_rows,
    "targets": target_rows,
    "pq": quality_rows,
    "network": network_rows,
    "training": training_rows,
    "startup": startup_rows,
}

IN_BFLOAT16 = ("training",)
"""Groups whose bars suppose instructions for bfloat16."""


def measure(name: str) -> list[Row]:
    """One group of rows; bars that cannot apply here say why."""
    rows = ROWS[name]()
    if name in IN_BFLOAT16 and not has_bfloat16("cpu"):
        rows = [replace(row, no_bar="no instructions for bfloat16") for row in rows]
    return rows


def print_table(rows: list[Row]) -> None:
    """All rows with their bars."""
    table = Table()
    for index, name in enumerate(("", "plain, ms", "ours, ms", "figure", "bar", "reached")):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        seconds = ("" if s is None else f"{1000 * s:.1f}" for s in (row.plain_seconds, row.our_seconds))
        bar = f"{'at least' if row.at_least else 'at most'} {row.bar:g}"
        table.add_row(
            row.name, *seconds, f"{row.figure:.3g} {row.unit}", bar, row.no_bar or ("yes" if row.reached else "NO")
        )
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--threads", type=int, help="of PyTorch; default: all cores")
    parser.add_argument("--output", type=Path, help="JSON file; default: benchmarks/results/DATE-MACHINE.json")
    parser.add_argument("--memory-of", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_of is not None:
        print_memory_of(arguments.memory_of)
        return
    environment = describe_environment("cpu")
    rows: list[Row] = []
    for name in arguments.rows:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += measure(name)
    print_table(rows)
    path = arguments.output or RESULTS / file_name(environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "environment": environment,
        "machine": rates(),
        "rows": [asdict(row) | {"reached": row.reached} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(path)


def file_name(environment: dict[str, object]) -> str:
    """Name of the file with the results of a run: date and machine."""
    hardware = environment["hardware"]
    machine = f"{hardware['processor']} {hardware['cpus']} cpus"
    return f"{str(environment['time'])[:10]}-{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"


if __name__ == "__main__":
    main()
