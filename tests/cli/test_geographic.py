"""`predict --geographic`: outlines in longitude and latitude, of a GeoTIFF read whole and in tiles."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.samples import NUCLEI

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("tifffile")
pytest.importorskip("zarr")

Run = Callable[..., Any]
Ring = list[list[float]]

EARTH = 6378137.0
"""Radius of the sphere behind EPSG:3857, in meters: there x = R lon and y = R asinh(tan(lat))."""

WEST, NORTH, STEP = 1_500_000.0, 6_100_000.0, 0.5


@pytest.fixture
def map_(tmp_path: Path) -> Path:
    """Nuclei as an aerial image in Web Mercator: islands, so to say."""
    path = tmp_path / "map.tif"
    sample = Image.open(NUCLEI / "images" / "003cee89357d.png").convert("RGB")
    pixels = np.array(sample.crop((0, 0, 192, 160)))
    transform = rasterio.Affine(STEP, 0, WEST, 0, -STEP, NORTH)
    how = {"width": 192, "height": 160, "count": 3, "dtype": "uint8", "tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:3857", transform=transform, **how) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def _features(path: Path) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = json.loads(path.read_text("ascii"))["features"]
    return features


def _polygons(feature: dict[str, Any]) -> list[list[Ring]]:
    geometry = feature["geometry"]
    parts: list[list[Ring]] = geometry["coordinates"]
    return parts if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]


def _pairs(pixels: list[dict[str, Any]], degrees: list[dict[str, Any]]) -> Iterator[tuple[Ring, Ring, bool]]:
    """Each ring in pixels and in degrees, and whether it is a hole."""
    for before, after in zip(pixels, degrees, strict=True):
        assert before["properties"] == after["properties"]
        for polygon, other in zip(_polygons(before), _polygons(after), strict=True):
            for number, (ring, bent) in enumerate(zip(polygon, other, strict=True)):
                yield ring, bent, number > 0


@pytest.mark.parametrize("limit", [None, 10_000])
def test_outlines_of_a_geotiff(
    run: Run, map_: Path, tmp_path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    how = ("--model", "nuclei", "--device", "cpu", "--save", "geojson", "--tile", "160", "--overlap", "32")
    for name, more in (("pixels", ()), ("degrees", ("--geographic",))):
        outcome = run("predict", map_, *how, *more, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.err
    pairs = list(_pairs(*(_features(tmp_path / name / "map.geojson") for name in ("pixels", "degrees"))))
    assert len(pairs) > 10
    for ring, bent, is_hole in pairs:
        expected = [
            [
                math.degrees((WEST + STEP * x) / EARTH),
                math.degrees(math.atan(math.sinh((NORTH - STEP * y) / EARTH))),
            ]
            for x, y in ring
        ]
        assert bent[0] == bent[-1]
        assert sorted(bent) == pytest.approx(np.array(sorted(expected)), abs=1e-9)
        corners = np.array(bent) - bent[0]
        area = (corners[:-1, 0] * corners[1:, 1] - corners[1:, 0] * corners[:-1, 1]).sum()
        assert (area < 0) == is_hole  # RFC 7946: outlines run counterclockwise


def test_what_has_no_place_is_one_sentence_before_anything_is_predicted(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    how = ("--model", model_folder, "--output", tmp_path / "out", "--geographic", "--save")
    Image.open(photo).save(tmp_path / "plain.tif")
    (tmp_path / "vrt.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    for image, product, said in (
        (tmp_path / "plain.tif", "geojson", "plain.tif does not say where on the earth it lies"),
        (photo, "geojson", "photo.jpg is no GeoTIFF"),
        (tmp_path / "vrt.tif", "geojson", "vrt.tif is no GeoTIFF"),
        (photo, "table", "`geographic` is for `geojson`"),
    ):
        outcome = run("predict", image, *how, product)
        assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert not any((tmp_path / "out").iterdir())
