"""What the verb `batch` costs beside a bare loop over `predict`: `python benchmarks/batch.py [--images 1000]`

Small images of noise, a network of the demo's kind with random weights, and alternating rounds, so that other work on
the machine meets both. Prints images a second by the clock and by processor time, which other work changes less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from panoptic_deeplab import CategoryTable, PanopticDeepLab, PanopticPredictor, load_config
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.batch.run import run_batch
from panoptic_deeplab.batch.store import ResultStore

_ROUNDS = 4


def measure(count: int, size: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """Images a second of each way, by the clock and by processor time."""
    config = load_config("demo")
    categories = CategoryTable.load(config.data.categories)
    torch.manual_seed(0)
    network = PanopticDeepLab(config.model, len(categories))
    predictor = PanopticPredictor.from_network(network, categories, config, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = _images(Path(folder) / "images", count, size)
        predictor.predict(paths[0])  # what is made once

        def bare(part: list[Path]) -> None:
            for path in part:
                predictor.predict(path)

        def batch(part: list[Path]) -> None:
            with ResultStore(Path(folder) / part[0].stem, {}) as store:
                run_batch(predictor, list_images(map(str, part)), store)
                store.finish([])

        seconds = {way.__name__: np.zeros(2) for way in (bare, batch)}
        for round_ in range(_ROUNDS):
            part = paths[round_::_ROUNDS]
            for way in (bare, batch) if round_ % 2 else (batch, bare):
                seconds[way.__name__] += _timed(way, part)
    return {name: tuple((count / spent).tolist()) for name, spent in seconds.items()}


def _images(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05d}.jpg" for i in range(count)]
    for path in paths:
        coarse = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size[1], size[0])).save(path)
    return paths


def _timed(way: Callable[[list[Path]], None], part: list[Path]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    way(part)
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    found = measure(arguments.images, tuple(arguments.size))
    for name, (clock, processor) in found.items():
        print(f"{name:8}{clock:8.2f} images/s by the clock{processor:8.2f} by processor time")
    print("batch / bare: " + ", ".join(f"{found['batch'][i] / found['bare'][i]:.3f}" for i in range(2)))
