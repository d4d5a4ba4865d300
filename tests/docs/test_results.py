"""The code of docs/results.md runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult

ROOT = Path(__file__).resolve().parents[2]


def test_the_blocks_run() -> None:
    pytest.importorskip("supervision")
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "results.md").read_text("utf-8"), re.S | re.M)
    panoptic_map = np.zeros((6, 6), np.int32)
    panoptic_map[2:4, 2:5] = 7
    names = {"result": PanopticResult.from_maps(panoptic_map, {7: 1}, CategoryTable.load("synthetic"))}
    exec(block, names)
    assert names["rings"] == [[[[2, 2], [5, 2], [5, 4], [2, 4], [2, 2]]]]
