"""The short cut is one line of the method, which would do without it."""

import ast
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab import postprocess
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess import pipeline
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.postprocess.shortcut import peaks
from panoptic_deeplab.profiling.scenes import draw_raw_maps, make_categories

FOLDER = Path(postprocess.__file__).parent
CATEGORIES = make_categories(7, 3)


def run(maps):
    (result,) = PanopticPostprocessor(CATEGORIES, PostprocessConfig(stuff_area_limit=50), align_corners=True)(
        maps, (129, 193), [(120, 190)]
    )
    return result


def assert_same(one, other):
    assert np.array_equal(one.panoptic_map, other.panoptic_map)
    assert np.array_equal(one.semantic_map, other.semantic_map)
    assert len(one.segments_info) == len(other.segments_info) > 1
    for segment, same in zip(one.segments_info, other.segments_info, strict=True):
        assert (segment.id, segment.category_id, segment.area) == (same.id, same.category_id, same.area)
        assert (segment.bbox, segment.score) == (same.bbox, pytest.approx(same.score, abs=1e-6))


@pytest.fixture
def maps():
    return draw_raw_maps((33, 49), thing_mask=CATEGORIES.thing_mask, num_centers=9)


def test_only_one_line_of_the_method_asks_for_it():
    asking = []
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and "shortcut" in (node.module or ""):
                asking.append((file.name, [name.name for name in node.names]))
    assert asking == [("pipeline.py", ["quick_answer"])]
    text = (FOLDER / "pipeline.py").read_text("utf-8")
    assert text.count("quick_answer(") == 1


def test_the_method_alone_gives_the_same(maps, monkeypatch):
    quick = run(maps)
    monkeypatch.setattr(pipeline, "quick_answer", lambda *_, **__: None)
    assert_same(run(maps), quick)


def test_semantic_only_too(maps, monkeypatch):
    maps = RawMaps(maps.semantic_logits, None, None)
    quick = run(maps)
    assert not any(segment.isthing for segment in quick.segments_info)
    monkeypatch.setattr(pipeline, "quick_answer", lambda *_, **__: None)
    assert_same(run(maps), quick)


def test_a_heatmap_with_too_many_peaks_for_a_list_gives_the_same(maps, monkeypatch):
    quick = run(maps)
    monkeypatch.setattr(peaks, "_LONGEST_LIST", -1)
    assert run(maps).segments_info == quick.segments_info
