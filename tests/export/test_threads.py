"""One predictor on an exported file, several threads: each gets what it would get alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from panoptic_deeplab.inference.predictor import PanopticPredictor


@pytest.mark.parametrize("kind", ["network", "panoptic"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_four_threads(exported: Path, kind: str, suffix: str, check_four_threads: Callable[..., None]) -> None:
    check_four_threads(PanopticPredictor.from_pretrained(exported / f"{kind}{suffix}", device="cpu"))
