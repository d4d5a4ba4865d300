import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.metrics.checks import score_of
from panoptic_deeplab.results.coco import to_coco_instances
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.results.saved import load_result, save_result
from panoptic_deeplab.results.scores import predicted_scores

ANY = st.floats(-1e6, 1e6)


@given(raw=ANY, slope=st.floats(0.01, 1e3), shift=ANY)
def test_what_is_shown_is_a_probability_that_rises_with_the_objectness(raw, slope, shift):
    shown = [predicted_scores(value, isthing=True, calibration=(slope, shift))["score"] for value in (raw, raw + 1)]
    assert 0 <= shown[0] <= shown[1] <= 1
    assert predicted_scores(raw, isthing=True)["score"] == min(max(raw, 0), 1)


def test_the_curve_is_logistic_and_for_things_alone():
    shown = predicted_scores(0.7, isthing=True, calibration=(3.0, -1.0))
    assert shown["score"] == pytest.approx(1 / (1 + math.exp(-1.1)))
    assert shown["objectness_score"] == 0.7
    assert predicted_scores(0.7, isthing=False, calibration=(3.0, -1.0)) == {"score": 0.7, "objectness_score": None}


def test_ranks_and_files_follow_the_objectness(tmp_path: Path):
    table = CategoryTable.load("nuclei")
    nucleus = next(category.id for category in table.categories if category.isthing)
    result = PanopticResult.from_maps(np.array([[1, 2], [0, 0]]), {1: nucleus, 2: nucleus}, table)
    raw = {1: 1.02, 2: 1.05}
    segments = [replace(s, **predicted_scores(raw[s.id], isthing=True)) for s in result.segments_info]
    result = replace(result, segments_info=segments)
    assert [s.id for s in result.instances()] == [2, 1]
    assert [row["score"] for row in to_coco_instances(result, 1)] == [1.05, 1.02]
    assert score_of(segments[1], image_id="a") == 1.05
    save_result(result, tmp_path, "a")
    assert load_result(tmp_path / "a.json").segments_info == segments
