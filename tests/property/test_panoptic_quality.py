"""PQ of random maps equals the naive form."""

import runpy
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

naive = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "naive.py"))

CATEGORIES = CategoryTable(
    name="three",
    categories=tuple(Category(id=10 * (i + 1), name=f"{i}", isthing=i > 0, color=(i, i, i)) for i in range(3)),
)


def as_result(panoptic_map, rng, *, crowds):
    segments = []
    for segment_id in np.unique(panoptic_map[panoptic_map > 0]).tolist():
        category = CATEGORIES[int(rng.integers(3))]
        segment = Segment(
            id=segment_id,
            category_id=category.id,
            name=category.name,
            isthing=category.isthing,
            area=1,
            bbox=(0, 0, 1, 1),
            iscrowd=crowds and bool(rng.random() < 0.3),
        )
        segments.append(segment)
    return PanopticResult(panoptic_map=panoptic_map.astype(np.int32), segments_info=segments, categories=CATEGORIES)


@settings(max_examples=60, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([3, 90, 400]))
def test_equals_the_naive_form(seed, side, num_ids):
    """From a few large segments to so many that pairs are sorted instead of counted."""
    rng = np.random.default_rng(seed)
    ids = np.array([0, *rng.choice(np.arange(1, 2**24), num_ids, replace=False)])
    height, width = rng.integers(1, 40, 2)
    coarse = rng.choice(ids, (-(-height // side), -(-width // side)))
    truth_map = coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    prediction_map = np.where(rng.random((height, width)) < 0.3, rng.choice(ids, (height, width)), truth_map)
    truth, prediction = (
        as_result(map_, np.random.default_rng(seed), crowds=crowds)
        for map_, crowds in ((truth_map, True), (prediction_map, False))
    )
    quality = PanopticQuality(CATEGORIES)
    quality.update(prediction, truth, "image")
    expected = naive["panoptic_quality"](prediction, truth)
    for train_id, category in enumerate(CATEGORIES.categories):
        np.testing.assert_allclose(quality.state[train_id], expected.get(category.id, [0, 0, 0, 0]), rtol=1e-12)
