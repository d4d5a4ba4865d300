"""Files of a result on disk say what those of the same result in memory say."""

import json
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.results.conversions import to_geojson, to_labels
from panoptic_deeplab.results.large_formats import large_table, write_geojson, write_label_tiff
from panoptic_deeplab.results.large_result import LargeResult, fill_large_result
from panoptic_deeplab.results.measurements import to_table
from panoptic_deeplab.results.panoptic_result import PanopticResult

TABLE = CategoryTable.load("synthetic")
THINGS = [c.id for c in TABLE.categories if c.isthing]
STUFF = [c.id for c in TABLE.categories if not c.isthing]


def _result() -> PanopticResult:
    map_ = np.zeros((90, 130), np.int32)
    map_[:40] = 7
    map_[5:15, 10:30] = map_[12:30, 25:40] = 1
    map_[8:12, 14:20] = 0  # a hole
    map_[50:60, 100:130] = map_[70:90, 3:9] = 2  # in two parts
    map_[35:45, 60:61] = 3
    kinds = {1: THINGS[0], 2: THINGS[1], 3: THINGS[0], 7: STUFF[0]}
    scores = {1: 0.5, 2: 0.25, 3: 0.125, 7: 0.75}
    return PanopticResult.from_maps(map_, kinds, TABLE, scores=scores)


def _large(result: PanopticResult) -> LargeResult:
    return LargeResult(
        panoptic_map=result.panoptic_map,
        semantic_map=np.zeros(result.size, np.uint8),
        segments_info=result.segments_info,
        categories=result.categories,
    )


@pytest.mark.parametrize(("pixel_size", "rows"), [(None, 1024), (0.5, 1024), (None, 2), (0.5, 3)])
def test_table(pixel_size: float | None, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panoptic_deeplab.results.large_formats._ROWS", rows)
    result = _result()
    expected = to_table(result, image="a.tif", pixel_size=pixel_size)
    found = large_table(_large(result), image="a.tif", pixel_size=pixel_size)
    assert list(found) == list(expected)
    for name, column in expected.items():
        if isinstance(column, list):
            assert found[name] == column
            continue
        assert found[name].dtype == column.dtype, name
        np.testing.assert_allclose(found[name][:3], column[:3], err_msg=name)
        if name.startswith(("centroid", "perimeter")):
            assert np.isnan(found[name][3])  # stuff
        else:
            np.testing.assert_allclose(found[name][3], column[3], err_msg=name)
    assert len(large_table(_large(result), image="a.tif", things_only=True)["id"]) == 3


def test_geojson(tmp_path: Path) -> None:
    write_geojson(_large(_result()), tmp_path / "a.geojson")
    assert json.loads((tmp_path / "a.geojson").read_text()) == to_geojson(_result(), things_only=True)


@pytest.mark.parametrize("things_only", [False, True])
def test_label_tiff(tmp_path: Path, things_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr("panoptic_deeplab.results.large_formats._TILE", 32)
    monkeypatch.setattr("panoptic_deeplab.results.large_formats._LARGEST_CLASSIC", 0 if things_only else 2**32)
    write_label_tiff(_large(_result()), tmp_path / "a.tif", things_only=things_only)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_bigtiff, file.pages[0].is_tiled) == (things_only, True)
        np.testing.assert_array_equal(file.asarray(), to_labels(_result(), things_only=things_only))


@pytest.mark.parametrize("size", [(90, 130), (41, 77), (200, 180)])
def test_filling_at_another_size_is_resizing(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panoptic_deeplab.results.large_result._BAND_PIXELS", 1000)
    result = _result()
    ids = np.array([0, 1, 2, 3, 4], np.int32)
    slots = np.where(result.panoptic_map == 7, 4, result.panoptic_map)
    segments = [*result.segments_info]
    segments[3] = type(segments[3])(**{f: getattr(segments[3], f) for f in segments[3].__slots__} | {"id": 4})
    large = fill_large_result(
        slots,
        np.zeros(slots.shape, np.uint8),
        ids,
        segments,
        TABLE,
        panoptic_map=np.zeros(size, np.int32),
        semantic_map=np.zeros(size, np.uint8),
    )
    expected = PanopticResult(panoptic_map=slots, segments_info=segments, categories=TABLE).resized(size)
    np.testing.assert_array_equal(large.panoptic_map, expected.panoptic_map)
    assert large.segments_info == expected.segments_info
    large.in_memory().check()
