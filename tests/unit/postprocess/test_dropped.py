"""Why something is missing from a result."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess import pipeline
from panoptic_deeplab.postprocess.dropped import DroppedClass, Peak
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor

TABLE = CategoryTable(
    name="test",
    categories=(
        Category(id=10, name="wall", isthing=False, color=(0, 0, 0)),
        Category(id=20, name="cat", isthing=True, color=(1, 1, 1)),
        Category(id=30, name="dog", isthing=True, color=(2, 2, 2)),
        Category(id=40, name="sky", isthing=False, color=(3, 3, 3)),
    ),
)
WALL, CAT, DOG, SKY = range(4)


def maps_of(semantic, peaks, offset=None):
    """Maps at the resolution of the input: sure classes, and peaks `(y, x, score)`."""
    semantic = torch.as_tensor(semantic)
    heatmap = torch.zeros(1, 1, *semantic.shape)
    for y, x, score in peaks:
        heatmap[0, 0, y, x] = score
    logits = 20.0 * torch.nn.functional.one_hot(semantic.long(), len(TABLE)).movedim(-1, 0)[None]
    return RawMaps(logits, heatmap, torch.zeros(1, 2, *semantic.shape) if offset is None else offset)


def explain(maps, **settings):
    config = PostprocessConfig(**{"stuff_area_limit": 0, **settings})
    postprocessor = PanopticPostprocessor(TABLE, config, align_corners=True)
    size = (maps.semantic_logits.shape[2], maps.semantic_logits.shape[3])
    result, dropped = postprocessor.explain(maps, size)
    (same,) = postprocessor(maps, size)
    assert np.array_equal(result.panoptic_map, same.panoptic_map)
    assert result.segments_info == same.segments_info
    assert (dropped.size, dropped.settings) == (size, config)
    return dropped


@pytest.fixture(params=[True, False], ids=["shortcut", "method"], autouse=True)
def way(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(pipeline, "quick_answer", lambda *_, **__: None)


def scene():
    semantic = torch.full((20, 30), WALL)
    semantic[5:15, 2:10] = CAT
    semantic[:2, :20] = SKY
    return semantic


def test_nothing_is_missing():
    dropped = explain(maps_of(scene(), [(9, 5, 0.7)]))
    assert dropped.lines() == []
    assert dropped.small_stuff == dropped.without_center == dropped.outvoted == dropped.lost_in_resizing == ()
    assert dropped.weak_centers.count == dropped.centers_beyond_top_k.count == dropped.empty_centers.count == 0
    assert dropped.joined_centers.count == 0


@pytest.mark.parametrize(("limit", "is_dropped"), [(40, False), (41, True)])
def test_small_stuff(limit, is_dropped):
    dropped = explain(maps_of(scene(), [(9, 5, 0.7)]), stuff_area_limit=limit)
    assert dropped.small_stuff == ((DroppedClass(category_id=40, name="sky", area=40),) if is_dropped else ())
    assert dropped.lines() == (["stuff classes below stuff_area_limit 41: sky 40"] if is_dropped else [])


def test_things_without_a_center_and_the_peak_that_was_too_weak():
    dropped = explain(maps_of(scene(), [(9, 5, 0.1), (9, 20, 0.0625), (15, 25, 0.05)]))
    assert dropped.without_center == (DroppedClass(category_id=20, name="cat", area=80),)
    assert dropped.weak_centers.count == 2  # half the threshold is not above it
    first, second = dropped.weak_centers.strongest
    assert (first.y, first.x, first.score) == (9, 5, pytest.approx(0.1))
    assert second == Peak(y=9, x=20, score=0.0625)
    assert dropped.lines() == [
        "thing pixels in an image without a center: cat 80",
        "peaks at or below center_threshold 0.1: 2, 0.1 at (y=9, x=5), 0.0625 at (y=9, x=20)",
    ]


@pytest.mark.parametrize(("limit", "is_dropped"), [(80, False), (81, True)])
def test_small_instances(limit, is_dropped):
    dropped = explain(maps_of(scene(), [(9, 5, 0.7)]), instance_area_limit=limit)
    assert dropped.small_instances == ((DroppedClass(category_id=20, name="cat", area=80),) if is_dropped else ())
    assert dropped.without_center == ()
    assert dropped.lines() == (["things in instances below instance_area_limit 81: cat 80"] if is_dropped else [])


@pytest.mark.parametrize("threshold", [0.0, -0.5])
def test_below_a_threshold_of_zero_lies_only_noise(threshold):
    heatmap = torch.randn(1, 1, 20, 30)
    dropped = explain(maps_of(scene(), [])._replace(center_heatmap=heatmap), center_threshold=threshold)
    assert dropped.weak_centers.count == 0


def test_centers_beyond_top_k():
    peaks = [(4 * i, 5, (20 + i) / 32) for i in range(5)]
    dropped = explain(maps_of(scene(), peaks), nms_kernel=3, top_k=3)
    assert dropped.centers_beyond_top_k.count == 2
    assert [(peak.y, peak.score) for peak in dropped.centers_beyond_top_k.strongest] == [(4, 21 / 32), (0, 20 / 32)]
    assert any(line.startswith("centers beyond top_k 3: 2, 0.656 at (y=4, x=5)") for line in dropped.lines())


def test_centers_that_no_pixel_belongs_to():
    dropped = explain(maps_of(scene(), [(9, 5, 0.75), (18, 28, 0.875), (9, 25, 0.5)]))
    assert [(peak.y, peak.x) for peak in dropped.empty_centers.strongest] == [(18, 28), (9, 25)]
    assert dropped.empty_centers.count == 2


def test_centers_of_parts():
    """The cat is cut in the middle, between rows 9 and 10."""
    maps = maps_of(scene(), [(7, 5, 0.75), (12, 5, 0.5), (18, 28, 0.875)])
    dropped = explain(maps, join_border_fraction=0.3)
    assert [(peak.y, peak.x) for peak in dropped.joined_centers.strongest] == [(12, 5)]
    assert [(peak.y, peak.x) for peak in dropped.empty_centers.strongest] == [(18, 28)]
    assert "centers joined to a stronger one by join_border_fraction 0.3: 1, 0.5 at (y=12, x=5)" in dropped.lines()
    assert explain(maps).joined_centers.count == 0


def test_the_minority_inside_an_instance():
    semantic = scene()
    semantic[6, 3:6] = DOG
    dropped = explain(maps_of(semantic, [(9, 5, 0.7)]))
    assert dropped.outvoted == (DroppedClass(category_id=30, name="dog", area=3),)
    assert dropped.lines() == ["thing pixels outvoted inside of instances of another class: dog 3"]


def test_many_peaks_are_counted_and_ten_are_named():
    peaks = [(y, x, 0.75) for y in range(0, 20, 4) for x in range(0, 30, 5)]
    dropped = explain(maps_of(torch.full((20, 30), WALL), peaks), nms_kernel=3)
    assert (dropped.empty_centers.count, len(dropped.empty_centers.strongest)) == (30, 10)
    assert dropped.lines()[0].endswith(" ...")


def test_semantic_only():
    dropped = explain(RawMaps(maps_of(scene(), []).semantic_logits, None, None))
    assert dropped.lines() == ["thing pixels in an image without a center: cat 80"]


def test_segments_that_vanish_at_another_size():
    semantic = torch.full((20, 30), WALL)
    semantic[9, 5] = CAT
    postprocessor = PanopticPostprocessor(TABLE, PostprocessConfig(stuff_area_limit=0), align_corners=True)
    result, dropped = postprocessor.explain(maps_of(semantic, [(9, 5, 0.7)]), (20, 30))
    small = result.resized((4, 6))
    assert [segment.name for segment in small.segments_info] == ["wall"]
    after = dropped.after_resizing(result, small)
    assert [segment.name for segment in after.lost_in_resizing] == ["cat"]
    assert after.lines() == ["segments without a pixel at the size of the image: cat 1"]
    assert after == replace(dropped, lost_in_resizing=after.lost_in_resizing)


def test_padding_is_not_looked_at():
    postprocessor = PanopticPostprocessor(TABLE, PostprocessConfig(stuff_area_limit=0), align_corners=True)
    maps = maps_of(scene(), [(9, 5, 0.7), (18, 28, 0.9), (9, 28, 0.09)])
    _, dropped = postprocessor.explain(maps, (20, 30), (16, 20))
    assert dropped.size == (16, 20)
    assert dropped.lines() == []


def test_a_batch_is_refused():
    maps = RawMaps(*(torch.cat([map_, map_]) for map_ in maps_of(scene(), [])))
    with pytest.raises(ValueError, match="one size for each of 2 images"):
        explain(maps)


def test_plain_data_for_a_report():
    dropped = explain(maps_of(scene(), [(9, 5, 0.1)]), stuff_area_limit=41)
    plain = asdict(dropped)
    assert plain["small_stuff"] == ({"category_id": 40, "name": "sky", "area": 40},)
    assert plain["settings"]["stuff_area_limit"] == 41
