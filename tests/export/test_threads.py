"""One predictor on an exported file, several threads: each gets what it would get alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor


@pytest.mark.parametrize("kind", ["network", "panoptic"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_four_threads(exported: Path, kind: str, suffix: str) -> None:
    predictor = PanopticPredictor.from_pretrained(exported / f"{kind}{suffix}", device="cpu")
    generator = np.random.default_rng(0)
    sizes = [(int(height), int(width)) for height, width in generator.integers(33, 120, (8, 2))]
    images = [generator.integers(0, 255, (*size, 3)).astype(np.uint8) for size in sizes]
    alone = [predictor.predict(image) for image in images]
    assert sum(len(result.instances()) for result in alone) > 5
    together = Barrier(4)

    def work(thread: int) -> None:
        together.wait()
        for index in np.random.default_rng(thread).permutation(len(images)):
            result = predictor.predict(images[index])
            assert np.array_equal(result.panoptic_map, alone[index].panoptic_map)
            assert result.segments_info == alone[index].segments_info

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))  # raises what a thread has raised
