"""Bands give the whole image's answer, whatever their height and wherever offsets point."""

import numpy as np
import pytest
import torch

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess.centers import find_centers
from panoptic_deeplab.postprocess.large_maps import StoredMaps, find_centers_in_bands, segment_in_bands
from panoptic_deeplab.postprocess.pipeline import panoptic_tensors
from panoptic_deeplab.postprocess.pixels import resize

THING_MASK = torch.tensor([False, True, True])


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("spread", [3.0, 300.0], ids=["offsets near", "offsets far"])
@pytest.mark.parametrize("fraction", [None, 0.15], ids=["apart", "joined"])
def test_equals_the_method(
    monkeypatch: pytest.MonkeyPatch, align_corners: bool, spread: float, fraction: float | None
) -> None:
    monkeypatch.setattr("panoptic_deeplab.postprocess.large_maps._BAND_PIXELS", 17 * 150)
    monkeypatch.setattr("panoptic_deeplab.postprocess.large_maps._GROUP_PIXELS", 500)
    size, content = ((161, 209), (150, 203)) if align_corners else ((160, 208), (150, 203))
    map_size = tuple((n - align_corners) // 4 + align_corners for n in size)
    heatmap = torch.rand(1, 1, *map_size).round(decimals=1)  # with many equal values
    raw_maps = RawMaps(torch.randn(1, 3, *map_size), heatmap, torch.randn(1, 2, *map_size) * spread)
    config = PostprocessConfig(
        top_k=5000, nms_kernel=7, center_threshold=0.5, stuff_area_limit=100, join_border_fraction=fraction
    )
    expected = panoptic_tensors(
        raw_maps, 0, size, content, thing_mask=THING_MASK, config=config, align_corners=align_corners
    )
    maps = StoredMaps(
        maps=torch.cat(list(raw_maps), dim=1)[0].numpy(),
        num_classes=3,
        input_size=size,
        content_size=content,
        align_corners=align_corners,
    )
    slots, train_ids = np.zeros(content, np.int32), np.zeros(content, np.uint8)
    table, scores = segment_in_bands(
        maps, thing_mask=THING_MASK, config=config, area=1000, slots=slots, train_ids=train_ids
    )
    np.testing.assert_array_equal(train_ids, expected.semantic_map)
    np.testing.assert_array_equal(table.segment_ids.numpy()[slots], expected.panoptic_map)
    kept, expected_kept = table.segment_ids > 0, expected.table.segment_ids > 0
    assert int(kept.sum()) > (100 if fraction is None else 10)
    for column, expected_column in zip((*table, scores), (*expected.table, expected.scores), strict=True):
        torch.testing.assert_close(column[kept], expected_column[expected_kept], atol=2e-7, rtol=0)


def test_top_k_counts_for_each_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panoptic_deeplab.postprocess.large_maps._BAND_PIXELS", 1000)
    heatmap = torch.rand(1, 41, 61)
    maps = StoredMaps(
        maps=torch.cat([torch.zeros(1, 41, 61), heatmap, torch.zeros(2, 41, 61)]).numpy(),
        num_classes=1,
        input_size=(161, 241),
        content_size=(161, 241),
        align_corners=True,
    )
    config = PostprocessConfig(top_k=4, nms_kernel=5)
    found = find_centers_in_bands(maps, maps.grid(), config, area=100)
    every = find_centers(resize(heatmap, maps.grid())[0], PostprocessConfig(top_k=1000, nms_kernel=5))
    expected, counts = [], {}
    for (y, x), valid in zip(every.points.tolist(), every.valid.tolist(), strict=True):
        square = (y // 100, x // 100)
        counts[square] = counts.get(square, 0) + 1
        if valid and counts[square] <= 4:
            expected.append((y, x))
    assert [tuple(point) for point in found.points.tolist()] == expected
    assert len(expected) == 24
