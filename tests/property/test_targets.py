"""Targets of random maps: equal to the naive form, and moved along by flips."""

import runpy
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import TargetConfig
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.results.panoptic_result import Segment

CATEGORIES = CategoryTable(
    name="four",
    categories=tuple(Category(id=10 * (i + 1), name=f"{i}", isthing=i > 1, color=(i, i, i)) for i in range(4)),
)
naive = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "naive.py"))
Scene = tuple[np.ndarray, list[Segment]]


@st.composite
def scenes(draw: st.DrawFn, *, odd: bool = False) -> Scene:
    """A map of a few blobs (drawn with numpy, seeded) and its segments."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = rng.integers(1, 14, 2)
    if odd:
        height, width = height | 1, width | 1
    ids = rng.choice(np.arange(1, 2**24), rng.integers(0, 5), replace=False)
    coarse = rng.choice([0, *ids], (-(-height // 3), -(-width // 3)))
    panoptic_map = coarse.repeat(3, axis=0).repeat(3, axis=1)[:height, :width].astype(np.int32)
    segments = [
        Segment(
            id=int(i),
            category_id=c.id,
            name=c.name,
            isthing=c.isthing,
            area=1,
            bbox=(0, 0, 1, 1),
            iscrowd=bool(crowd < 0.3),
        )
        for i, c, crowd in zip(
            ids, rng.choice(np.array(CATEGORIES.categories), len(ids)), rng.random(len(ids)), strict=True
        )
    ]
    return panoptic_map, segments


@settings(max_examples=60)
@given(scene=scenes(), sigma=st.sampled_from([1.0, 2.0]), ignore_crowd=st.booleans())
def test_equals_the_naive_form(scene: Scene, sigma: float, ignore_crowd: bool) -> None:
    panoptic_map, segments = scene
    config = TargetConfig(sigma=sigma, small_instance_area=12, ignore_crowd_in_semantic=ignore_crowd)
    targets = make_targets(panoptic_map, segments, categories=CATEGORIES, config=config)
    naively = naive["make_targets"](panoptic_map, segments, categories=CATEGORIES, config=config)
    for name, expected in naively.items():
        np.testing.assert_allclose(getattr(targets, name).numpy(), expected, atol=1e-5, err_msg=name)


def flipped(targets: Targets, axis: int) -> Targets:
    sign = torch.ones(2, 1, 1)
    sign[axis] = -1
    maps = {name: getattr(targets, name).flip(axis - 2) for name in targets._fields}
    return Targets(**maps | {"offset": maps["offset"] * sign})


@settings(max_examples=40)
@given(scene=scenes(odd=True), axis=st.sampled_from([0, 1]))
def test_a_flip_of_the_map_flips_the_targets(scene: Scene, axis: int) -> None:
    panoptic_map, segments = scene
    config = TargetConfig(sigma=2.0)
    before = make_targets(panoptic_map, segments, categories=CATEGORIES, config=config)
    after = make_targets(np.flip(panoptic_map, axis), segments, categories=CATEGORIES, config=config)
    for name, expected in flipped(before, axis)._asdict().items():
        torch.testing.assert_close(getattr(after, name), expected, msg=name, atol=1e-5, rtol=0)


@settings(max_examples=30)
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_segments_does_not_matter(scene: Scene, seed: int) -> None:
    panoptic_map, segments = scene
    shuffled = [segments[i] for i in np.random.default_rng(seed).permutation(len(segments))]
    config = TargetConfig()
    one = make_targets(panoptic_map, segments, categories=CATEGORIES, config=config)
    other = make_targets(panoptic_map, shuffled, categories=CATEGORIES, config=config)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
