"""Exported files against PyTorch as it comes, INT8 against float32: `python benchmarks/exported_models.py`

ResNet-50 at 513 x 1025, image in, `PanopticResult` out. The weights are random, so a drawn scene is added to the
network's maps, inside of the files too: all of the work, and something to post-process. The plain side is eager PyTorch
in float32, without a choice of memory format and with nothing fused, before this library's own post-processing.

Everything is measured in turns in one process, and the shortest time counts. On a busy machine, look at the processor
time of all threads, too.

Prints two tables and writes them to `benchmarks/results/exported-DATE-MACHINE.json`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from bench import CATEGORIES, RESULTS, Row, file_name, print_table
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.export.agreement import differing_pixels
from panoptic_deeplab.export.exporter import describe
from panoptic_deeplab.export.program import trace
from panoptic_deeplab.export.quantization import quantize_onnx, quantize_openvino
from panoptic_deeplab.export.writers import onnx_model, openvino_model, save_onnx, save_openvino, save_torch
from panoptic_deeplab.inference.exported.model_file import Kind
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.profiling.measure import Timing
from panoptic_deeplab.profiling.scenes import draw_raw_maps
from panoptic_deeplab.training.environment import describe_environment

SIZE = (513, 1025)
CALIBRATION_IMAGES = 8
FLOAT_BAR, INT8_BAR = 2.5, 1.5
EAGER = "PyTorch, eager float32"


class SceneNetwork(nn.Module):
    """A network whose answer is a scene, with a little of its own maps in it: no runtime can leave its work out.

    Args:
        config: settings of the network.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = PanopticDeepLab(config.model, CATEGORIES.num_classes).eval()
        with torch.inference_mode():
            raw_maps = self.network(torch.randn(1, 3, *SIZE))
        map_size = (raw_maps.semantic_logits.shape[2], raw_maps.semantic_logits.shape[3])
        scene = draw_raw_maps(map_size, thing_mask=CATEGORIES.thing_mask)
        for name, drawn, own in zip(scene._fields, scene, raw_maps, strict=True):
            self.register_buffer(name, drawn)
            self.register_buffer(f"share_of_{name}", 0.01 / own.std())

    def forward(self, images: Tensor) -> RawMaps:
        """Maps of one size only."""
        raw_maps = self.network(images)
        mixed = [
            getattr(self, name) + getattr(self, f"share_of_{name}") * own
            for name, own in zip(raw_maps._fields, raw_maps, strict=True)
        ]
        return RawMaps(*mixed)


KINDS = {"network": "network alone", "panoptic": "whole pipeline"}


def write_files(predictor: PanopticPredictor, folder: Path, calibration: list[np.ndarray], kinds: list[Kind]) -> None:
    """Every format and precision: `network.onnx`, `panoptic_int8.xml` and so on."""
    for kind in kinds:
        print(f"exporting {kind} ...", file=sys.stderr, flush=True)
        info = describe(predictor, kind=kind, size=SIZE)
        program = trace(predictor.engine.model, info.config, info.categories, kind=kind, size=SIZE)
        save_torch(program, folder / f"{kind}.pt2", info)
        proto = onnx_model(program, info)
        save_onnx(proto, folder / f"{kind}.onnx")
        save_openvino(openvino_model(proto), folder / f"{kind}.xml", info)
        info = replace(info, precision="int8")
        save_onnx(quantize_onnx(proto, info, calibration), folder / f"{kind}_int8.onnx")
        save_openvino(quantize_openvino(openvino_model(proto), info, calibration), folder / f"{kind}_int8.xml", info)


@dataclass(frozen=True)
class Contestant:
    """What is measured."""

    name: str
    predictor: PanopticPredictor
    bar: float | None = None
    against: str = EAGER


def contestants(plain: PanopticPredictor, folder: Path, kinds: list[Kind]) -> list[Contestant]:
    """Eager PyTorch, then every file."""
    found = [Contestant(EAGER, plain)]
    for kind in kinds:
        words = KINDS[kind]
        names = {
            suffix: f"{runtime} {{}}, {words}" for suffix, runtime in ((".onnx", "ONNX Runtime"), (".xml", "OpenVINO"))
        }
        for suffix, name in names.items():
            path = folder / f"{kind}{suffix}"
            found.append(Contestant(name.format("float32"), PanopticPredictor.from_pretrained(path), FLOAT_BAR))
            int8 = PanopticPredictor.from_pretrained(folder / f"{kind}_int8{suffix}")
            found.append(Contestant(name.format("INT8"), int8, INT8_BAR, name.format("float32")))
        bfloat16 = PanopticPredictor.from_pretrained(folder / f"{kind}.xml", precision="bfloat16")
        found.append(Contestant(names[".xml"].format("bfloat16"), bfloat16, FLOAT_BAR))
        program = PanopticPredictor.from_pretrained(folder / f"{kind}.pt2", device="cpu")
        found.append(Contestant(f"torch.export float32, {words}", program))
    return found


class Times(NamedTuple):
    """Seconds of several runs."""

    wall: Timing
    processor: float
    """Least of all threads together."""


def measure(runs: dict[str, Callable[[], object]], *, seconds: float) -> dict[str, Times]:
    """Time of each, in turns, three times at least."""
    for run in runs.values():
        run()
    wall, processor = ({name: list[float]() for name in runs} for _ in range(2))
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(wall[EAGER]) < 3:
        for name, run in runs.items():
            start, start_of_processor = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_of_processor)
    return {name: Times(Timing.of(wall[name]), min(processor[name])) for name in runs}


def rows_of(entries: list[Contestant], times: dict[str, Times]) -> list[Row]:
    """The ratios that have a bar."""
    rows = []
    for entry in entries:
        if entry.bar is not None:
            plain, ours = times[entry.against].wall.minimum, times[entry.name].wall.minimum
            row = Row(
                name=f"{entry.name} / {entry.against.partition(',')[0]}",
                figure=plain / ours,
                unit="times",
                bar=entry.bar,
                at_least=True,
                plain_seconds=plain,
                our_seconds=ours,
            )
            rows.append(row)
    return rows


def print_times(times: dict[str, Times], agreement: dict[str, float]) -> None:
    """Each by itself."""
    table = Table("", "shortest, ms", "median, ms", "processor, ms", "of eager's pixels")
    for name, (wall, processor) in times.items():
        figures = (1000 * seconds for seconds in (wall.minimum, wall.median, processor))
        table.add_row(name, *(f"{figure:.0f}" for figure in figures), f"{100 * agreement[name]:.3f} %")
    Console(width=120).print(table)


def main() -> None:
    """Export, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, help="of PyTorch and the runtimes; default: all cores")
    parser.add_argument("--seconds", type=float, default=150, help="how long to measure (default 150)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: both")
    parser.add_argument("--files", type=Path, help="keep the exported files in this folder, and use what is there")
    parser.add_argument("--output", type=Path, help="JSON file; default: benchmarks/results/exported-DATE-MACHINE.json")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    environment = describe_environment("cpu")
    environment["versions"] |= {name: version(name) for name in ("onnx", "onnxruntime", "openvino", "nncf")}

    config = load_config("cityscapes_resnet50")
    config = replace(config, input=replace(config.input, pad_to=None))
    model = SceneNetwork(config)
    predictor = PanopticPredictor.from_network(model, CATEGORIES, config, device="cpu")
    plain = PanopticPredictor.from_network(lambda images: model(images.contiguous()), CATEGORIES, config, device="cpu")
    image, *calibration = (sample.image for sample in SyntheticSource(1 + CALIBRATION_IMAGES, size=SIZE))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        missing = [kind for kind in arguments.kinds if not (folder / f"{kind}_int8.xml").exists()]
        write_files(predictor, folder, calibration, missing)
        entries = contestants(plain, folder, arguments.kinds)
    print("measuring ...", file=sys.stderr, flush=True)
    expected = plain.predict(image)
    agreement = {
        entry.name: 1 - float(differing_pixels(expected, entry.predictor.predict(image)).mean()) for entry in entries
    }
    times = measure(
        {entry.name: (lambda entry=entry: entry.predictor.predict(image)) for entry in entries},
        seconds=arguments.seconds,
    )
    rows = rows_of(entries, times)
    print_times(times, agreement)
    print_table(rows)
    path = arguments.output or RESULTS / f"exported-{file_name(environment)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "environment": environment,
        "times": {
            name: asdict(wall) | {"processor": processor, "pixel_agreement": agreement[name]}
            for name, (wall, processor) in times.items()
        },
        "rows": [asdict(row) | {"reached": row.reached} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(path)


if __name__ == "__main__":
    main()
