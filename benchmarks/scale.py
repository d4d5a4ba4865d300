"""What a million and a billion images cost, from stages measured on one machine: `python benchmarks/scale.py`

`python benchmarks/scale.py --measure nuclei=FOLDER facades=FOLDER` measures one core with images of a folder and writes
`benchmarks/results/scale-DATE-MACHINE.json`; without it, the tables of `docs/explanation/scale.md` are printed from the
newest such file. What nobody measured are the options: prices, and what a GPU does. Their defaults are assumptions, and
`--help` says which.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from bench import RESULTS, file_name

from panoptic_deeplab import PanopticPredictor
from panoptic_deeplab.batch.actors import Worker, ask_actors, on_ray
from panoptic_deeplab.batch.inputs import Item, list_images
from panoptic_deeplab.batch.keep import Keeper, Outcome
from panoptic_deeplab.batch.run import row_of, run_batch
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.images.prepare import read_for
from panoptic_deeplab.profiling.counting import count
from panoptic_deeplab.training.environment import describe_environment

_IMAGES = 24
"""Images of a folder that are measured, evenly over it."""
_TOGETHER = 16
"""Images whose results come to the leader of a cluster together (`batch/on_ray.py`)."""
_LEADER_IMAGES = 2000
_QUESTIONS = 500
_ROUNDS = 3
STAGES = ("decode", "prepare", "network", "post-processing", "rows")


@dataclass(frozen=True)
class Assumptions:
    """What nobody measured here."""

    vcpu_hour: float = 0.04
    """Dollars for a virtual CPU an hour: a round figure that we assume; no price list was read."""
    gpu_hour: float = 0.85
    """Dollars for a machine with one GPU of the class of an NVIDIA L4 an hour: assumed likewise."""
    gpu_cores: int = 8
    """Virtual CPUs of that machine."""
    gpu_rate: float = 121e12
    """Operations a second of that GPU in 16 bits, by its data sheet."""
    gpu_share: float = 0.1
    """The share of that rate that a small network with depthwise convolutions gets: a guess."""
    gpu_postprocess: float = 0.003
    """Seconds of that GPU for the post-processing of an image: a guess."""
    million_reads: float = 0.40
    """Dollars for a million reads from an object store: assumed likewise."""
    gigabyte_month: float = 0.023
    """Dollars for a gigabyte in it a month: assumed likewise."""
    store_bandwidth: float = 1.25e9
    """Bytes a second that one machine reads from it: a line of 10 Gbit/s."""
    machine_cores: int = 64
    """Virtual CPUs of a machine without a GPU."""


@dataclass(frozen=True)
class Measured:
    """Means over the images of a folder, one core, processor time."""

    name: str
    images: int
    seconds: Mapping[str, float]
    """By stage."""
    multiply_adds: float
    """What the network computes for an image."""
    image_bytes: float
    """Size of an image file."""
    result_bytes: float
    """Share of a shard."""
    batch_seconds: float
    """What `batch` as a whole takes for an image, processor time of all its threads; to compare with the stages."""
    leader_seconds: float
    """What the process that writes results needs for an image, by the clock: unpack, `fsync`, shards."""
    leader_bytes: float
    """Memory that this process holds for an image of the job."""

    @property
    def core_seconds(self) -> float:
        """Time for an image, all stages."""
        return sum(self.seconds.values())

    @property
    def host_seconds(self) -> float:
        """What stays on the processor where a GPU has the network and the post-processing."""
        return sum(self.seconds[stage] for stage in ("decode", "prepare", "rows"))

    def gpu_seconds(self, given: Assumptions) -> float:
        """Time of a GPU for an image, by assumption."""
        return 2 * self.multiply_adds / (given.gpu_rate * given.gpu_share) + given.gpu_postprocess


@torch.inference_mode()
def measure(name: str, folder: Path) -> Measured:
    """Measure the stages of a bundled model with images of a folder."""
    torch.set_num_threads(1)
    predictor = PanopticPredictor.from_pretrained(name, device="cpu")
    everything = list_images([str(folder)])
    items = everything[:: max(1, len(everything) // _IMAGES)][:_IMAGES]
    spent = dict.fromkeys(STAGES, 0.0)
    outcomes = []
    multiply_adds = 0.0
    for item in items:
        best = dict.fromkeys(STAGES, float("inf"))  # of some rounds: what else runs on the machine makes them longer
        for _ in range(_ROUNDS):
            stopwatch = _ProcessorTime()
            with stopwatch.stage("decode"):
                pixels = read_for(item.place, predictor.config.input)
            with stopwatch.stage("prepare"):
                ready = predictor.engine.ready(pixels)
            with stopwatch.stage("network"):
                maps = predictor.engine.raw_maps([ready])
            with stopwatch.stage("post-processing"):
                (result,) = predictor.engine.results(maps, [ready])
            with stopwatch.stage("rows"):
                row = row_of(item, result, None)
                pickle.dumps(row)
            best = {stage: min(best[stage], stopwatch.seconds[stage]) for stage in STAGES}
        outcomes.append(Outcome(item, row, {}, ""))
        spent = {stage: spent[stage] + best[stage] for stage in STAGES}
        size = (ready.prepared.tensor.shape[-2], ready.prepared.tensor.shape[-1])
        multiply_adds += count(predictor.config.model, len(predictor.categories), size).multiply_adds
    batch_seconds, result_bytes = _batch(predictor, items)
    leader_seconds, leader_bytes = _leader(outcomes)
    return Measured(
        name=name,
        images=len(items),
        seconds={stage: seconds / len(items) for stage, seconds in spent.items()},
        multiply_adds=multiply_adds / len(items),
        image_bytes=sum(Path(item.place).stat().st_size for item in items) / len(items),
        result_bytes=result_bytes,
        batch_seconds=batch_seconds,
        leader_seconds=leader_seconds,
        leader_bytes=leader_bytes,
    )


class _ProcessorTime:
    """Adds up the processor time of this process in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block of code."""
        start = time.process_time()
        yield
        self.seconds[name] = time.process_time() - start


def _batch(predictor: PanopticPredictor, items: list[Item]) -> tuple[float, float]:
    """Processor time of `batch` for an image, and the bytes of its row in a shard."""
    seconds = []
    for _ in range(_ROUNDS):
        with tempfile.TemporaryDirectory(dir=RESULTS.parent) as folder:
            with ResultStore(Path(folder), {}) as store:
                start = time.process_time()
                run_batch(predictor, items, store, readers=1)
                store.finish([])
                seconds.append(time.process_time() - start)
            size = sum(path.stat().st_size for path in Path(folder, "results").iterdir())
    return min(seconds) / len(items), size / len(items)


def _leader(outcomes: list[Outcome]) -> tuple[float, float]:
    """Seconds and bytes of memory of the process that writes what actors say, for an image."""
    items = [Item(f"images/{i:09d}.jpg", f"images/{i:09d}.jpg") for i in range(_LEADER_IMAGES)]
    packed = []
    for first in range(0, len(items), _TOGETHER):
        found = []
        for number, item in enumerate(items[first : first + _TOGETHER], start=first):
            outcome = outcomes[number % len(outcomes)]
            assert outcome.row is not None
            found.append(outcome._replace(item=item, row=outcome.row | {"image": item.key}))
        packed.append(pickle.dumps(found))
    seconds = []
    for _ in range(_ROUNDS):
        with (
            tempfile.TemporaryDirectory(dir=RESULTS.parent) as folder,  # on the disk, not in memory
            ResultStore(Path(folder), {}) as store,
        ):
            start = time.perf_counter()
            keeper = Keeper(store, items, lambda progress: None)
            for answer in packed:
                keeper.keep(pickle.loads(answer), is_last_try=False)
            seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    known = [Item(f"images/{i:09d}.jpg", f"images/{i:09d}.jpg") for i in range(100_000)]
    finished = {item.key for item in known}
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return min(seconds) / len(items), memory / len(finished)


def ask_ray() -> float:
    """Seconds that Ray Data needs, by the clock, to put a question to an actor and to bring the answer back."""

    def make() -> Worker:
        return lambda question: question

    seconds = []
    with on_ray(2):
        for number in (20, 20 + _QUESTIONS):  # the difference has no start of actors in it
            start = time.perf_counter()
            assert len(list(ask_actors(make, range(number), actors=2))) == number
            seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / _QUESTIONS


def tables(models: list[Measured], question_seconds: float, given: Assumptions) -> list[str]:
    """The tables of the page, in Markdown."""
    return [
        _table(
            ["one core, processor time", *(f"`{model.name}`" for model in models)],
            [
                *([stage, *(_milliseconds(model.seconds[stage]) for model in models)] for stage in STAGES),
                ["all", *(_milliseconds(model.core_seconds) for model in models)],
                ["`batch` as a whole", *(_milliseconds(model.batch_seconds) for model in models)],
                ["images a second", *(f"{1 / model.batch_seconds:.2f}" for model in models)],
                ["multiply-adds of the network", *(f"{model.multiply_adds / 1e9:.1f} G" for model in models)],
                ["an image file", *(_bytes(model.image_bytes) for model in models)],
                ["its row in a shard", *(_bytes(model.result_bytes) for model in models)],
                ["the writing process, by the clock", *(_milliseconds(model.leader_seconds) for model in models)],
                ["memory of that process", *(_bytes(model.leader_bytes) for model in models)],
            ],
        ),
        _table(
            ["processors alone", *(f"`{m.name}`, {label}" for m in models for label in ("million", "billion"))],
            _rows(models, lambda model, number: _on_cores(model, number, given)),
        ),
        _table(
            ["GPUs (assumed)", *(f"`{m.name}`, {label}" for m in models for label in ("million", "billion"))],
            _rows(models, lambda model, number: _on_gpus(model, number, given)),
        ),
        _table(
            ["bound", *(f"`{model.name}`" for model in models)],
            [
                [
                    "cores that one writing process keeps up with",
                    *(f"{m.batch_seconds / m.leader_seconds:,.0f}" for m in models),
                ],
                [
                    "GPUs (assumed) that it keeps up with",
                    *(f"{_per_gpu(m, given) / m.leader_seconds:,.0f}" for m in models),
                ],
                [
                    "cores that feed one GPU (assumed)",
                    *(f"{m.host_seconds / m.gpu_seconds(given):.1f}" for m in models),
                ],
                [
                    f"cores that empty a line of {given.store_bandwidth * 8 / 1e9:.0f} Gbit/s",
                    *(f"{given.store_bandwidth / m.image_bytes * m.batch_seconds:,.0f}" for m in models),
                ],
                [
                    "cores that Ray keeps busy by questions of 16 images",
                    *(f"{_TOGETHER * m.batch_seconds / question_seconds:,.0f}" for m in models),
                ],
                ["memory of the writing process, a million", *(_bytes(1e6 * m.leader_bytes) for m in models)],
            ],
        ),
    ]


def _on_cores(model: Measured, number: float, given: Assumptions) -> dict[str, str]:
    hours = number * model.batch_seconds / 3600
    return {
        "core hours": f"{hours:,.0f}",
        f"on one machine of {given.machine_cores} cores": _days(hours / given.machine_cores),
        "machines to be done in a day": f"{max(1, round(hours / given.machine_cores / 24)):,}",
        "processors": _dollars(hours * given.vcpu_hour),
        **_stored(model, number, given),
    }


def _on_gpus(model: Measured, number: float, given: Assumptions) -> dict[str, str]:
    hours = number * _per_gpu(model, given) / 3600
    return {
        "GPU hours": f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}",
        "machines to be done in a day": f"{max(1, round(hours / 24)):,}",
        "machines": _dollars(hours * given.gpu_hour),
        "what bounds": "cores" if model.host_seconds / given.gpu_cores > model.gpu_seconds(given) else "GPU",
    }


def _per_gpu(model: Measured, given: Assumptions) -> float:
    """Seconds of a machine with a GPU for an image: the slower of GPU and cores."""
    return max(model.gpu_seconds(given), model.host_seconds / given.gpu_cores)


def _stored(model: Measured, number: float, given: Assumptions) -> dict[str, str]:
    return {
        "images": _bytes(number * model.image_bytes),
        "results": _bytes(number * model.result_bytes),
        "reads from an object store": _dollars(number / 1e6 * given.million_reads),
        "images and results there, a month": _dollars(
            number * (model.image_bytes + model.result_bytes) / 1e9 * given.gigabyte_month
        ),
    }


def _rows(models: list[Measured], of: Callable[[Measured, float], dict[str, str]]) -> list[list[str]]:
    columns = [of(model, number) for model in models for number in (1e6, 1e9)]
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 0.1 else f"{1000 * seconds:,.0f} ms"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _days(hours: float) -> str:
    if hours < 48:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 730 else f"{hours / 24 / 365:,.0f} years"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def stored() -> dict[str, Any]:
    """The newest file."""
    document: dict[str, Any] = json.loads(max(RESULTS.glob("scale-*.json")).read_text("utf-8"))
    return document


def page(document: Mapping[str, Any], given: Assumptions) -> list[str]:
    """The tables that follow from a file."""
    return tables([Measured(**row) for row in document["models"]], document["ray_question_seconds"], given)


def main() -> None:
    """Measure and write, or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", nargs="+", metavar="MODEL=FOLDER")
    defaults = Assumptions()
    for field in fields(Assumptions):
        value = getattr(defaults, field.name)
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"assumed: {value:g}")
    arguments = vars(parser.parse_args())
    if pairs := arguments.pop("measure"):
        folders = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in pairs)}
        command = [sys.argv[0], "--measure", *(f"{name}={folder.name}" for name, folder in folders.items())]
        environment: dict[str, Any] = describe_environment("cpu") | {"command": command}  # no paths of a machine
        models = [measure(name, folder) for name, folder in folders.items()]
        path = RESULTS / f"scale-{file_name(environment)}"
        document = {
            "environment": environment,
            "models": [vars(model) for model in models],
            "ray_question_seconds": ask_ray(),
        }
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        print(path)
    else:
        document = stored()
    print("\n\n".join(page(document, Assumptions(**arguments))))


if __name__ == "__main__":
    main()
