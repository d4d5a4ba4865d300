"""What the verb `batch` costs beside a bare loop over `predict`: `python benchmarks/batch.py [--images 1000]`

Small pieces of the nuclei samples in the package, the bundled model, one thread of PyTorch for each way. The ways take
turns over portions of 25 images, so that other work on the machine meets both. Prints images a second by the clock and
by processor time, which other work changes less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from panoptic_deeplab import PanopticPredictor
from panoptic_deeplab.batch.inputs import list_images
from panoptic_deeplab.batch.run import run_batch
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.data.samples import NUCLEI

_PORTION = 25


def measure(paths: Sequence[Path], folder: Path) -> dict[str, tuple[float, float]]:
    """Images a second of each way, by the clock and by processor time."""
    torch.set_num_threads(1)
    predictor = PanopticPredictor.from_pretrained("nuclei", device="cpu")
    predictor.predict(list(paths[:3]))  # what happens once

    def bare(part: Sequence[Path]) -> None:
        for path in part:
            predictor.predict(path)

    with ResultStore(folder, {}) as store:

        def batch(part: Sequence[Path]) -> None:
            run_batch(predictor, list_images(map(str, part)), store)
            if part[-1] == paths[-1]:
                store.finish([])

        seconds = {way.__name__: np.zeros(2) for way in (bare, batch)}
        for first in range(0, len(paths), _PORTION):
            for way in (bare, batch) if first // _PORTION % 2 else (batch, bare):
                seconds[way.__name__] += _timed(way, paths[first : first + _PORTION])
    return {name: tuple((len(paths) / spent).tolist()) for name, spent in seconds.items()}


def _pieces(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Image files of one size, as PNG and JPEG in turn."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    samples = [Image.open(path).convert("RGB") for path in sorted((NUCLEI / "images").glob("*.png"))]
    paths = [folder / f"{i:05d}.{('png', 'jpg')[i % 2]}" for i in range(count)]
    for i, path in enumerate(paths):
        sample = samples[i % len(samples)]
        left, top = rng.integers(0, sample.width - size[1] + 1), rng.integers(0, sample.height - size[0] + 1)
        sample.crop((left, top, left + size[1], top + size[0])).save(path)
    return paths


def _timed(way: Callable[[Sequence[Path]], None], part: Sequence[Path]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    way(part)
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 192), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pieces = _pieces(Path(temporary) / "images", arguments.images, tuple(arguments.size))
        found = measure(pieces, Path(temporary) / "results")
    for name, (clock, processor) in found.items():
        print(f"{name:8}{clock:8.2f} images/s by the clock{processor:8.2f} by processor time")
    print("batch / bare: " + ", ".join(f"{found['batch'][i] / found['bare'][i]:.3f}" for i in range(2)))
