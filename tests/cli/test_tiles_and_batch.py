"""`predict --tile` and `batch`, with a real model on disk."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.formats.common.coco_rle import mask_of_counts, rle_counts

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")
pq = pytest.importorskip("pyarrow.parquet")

Run = Callable[..., Any]
ALL_SEGMENTS = ("--postprocess.stuff-area-limit", "0", "--device", "cpu")


@pytest.fixture
def slide(photo: Path) -> Path:
    """The photograph enlarged, as a tiled TIFF."""
    pixels = np.array(Image.open(photo).convert("RGB").resize((350, 250)))
    path = photo.with_name("slide.tif")
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="zlib", photometric="rgb")
    return path


def test_a_slide_beyond_the_limit(
    run: Run, model_folder: Path, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    output = tmp_path / "out"
    tiles = ("--model", model_folder, "--tile", "128", "--overlap", "32", *ALL_SEGMENTS)
    refused = run("predict", slide, *tiles, "--output", output, "--save", "overlay")
    assert (refused.code, "needs" in refused.err, "in memory" in refused.err) == (2, True, True)
    outcome = run("predict", slide, *tiles, "--output", output, "--save", "labels", "table", "geojson", "zarr")
    assert outcome.code == 0, outcome.err
    ids = zarr.open(str(output / "slide.zarr" / "panoptic_map"), mode="r")[:]
    assert ids.shape == (250, 350)
    np.testing.assert_array_equal(tifffile.imread(output / "slide_labels.tif"), ids)
    with (output / "table.csv").open(newline="", encoding="utf-8") as file:
        areas = {int(row["id"]): int(row["area"]) for row in csv.DictReader(file)}
    assert areas == {int(i): int(n) for i, n in zip(*np.unique(ids[ids > 0], return_counts=True), strict=True)}
    features = json.loads((output / "slide.geojson").read_text())["features"]
    assert all(feature["properties"]["isthing"] for feature in features)


def test_an_image_that_fits_is_written_as_any_other(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    how = ("--model", model_folder, *ALL_SEGMENTS, "--save", "overlay", "panoptic", "zarr")
    assert run("predict", photo, *how, "--tile", "256", "--output", tmp_path / "tiled").code == 0
    assert run("predict", photo, *how, "--output", tmp_path / "whole").code == 0
    for name in ("photo_overlay.png", "photo_panoptic.png"):
        assert (tmp_path / "tiled" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    maps = [zarr.open(str(tmp_path / way / "photo.zarr" / "panoptic_map"), mode="r")[:] for way in ("tiled", "whole")]
    np.testing.assert_array_equal(maps[0], maps[1])


@pytest.mark.parametrize("option", [("--explain",), ("--batch-size", "2"), ("--output", "x", "--save", "maps")])
def test_what_tiles_cannot_do(run: Run, model_folder: Path, photo: Path, option: tuple[str, ...]) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--tile", "128", *option)
    assert outcome.code == 2
    assert "`tile`" in outcome.err


def test_batch(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/a.jpg", "b.jpg"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "bad.png").write_bytes(b"no picture")
    how = ("--model", model_folder, *ALL_SEGMENTS, "--output", output, "--save", "panoptic", "labels")
    outcome = run("batch", folder, *how, "--batch-size", "2", "--json")
    assert outcome.code == 1
    document = json.loads(outcome.out)
    assert (document["images"], document["errors"], document["manifest"]) == (3, 1, str(output / "manifest.json"))
    assert "1 of 4 images could not be predicted" in outcome.err
    rows = pq.read_table(output / "results" / "part-00000.parquet").to_pylist()
    assert sorted(row["image"] for row in rows) == [str(folder / n) for n in ("a.jpg", "b.jpg", "deep/a.jpg")]
    (alone,) = json.loads(run("predict", photo, "--model", model_folder, *ALL_SEGMENTS, "--json").out)["images"]
    for row in rows:
        assert [row["height"], row["width"]] == alone["size"]
        for segment, expected in zip(row["segments"], alone["segments_info"], strict=True):
            mask = mask_of_counts(rle_counts(segment["rle"]), (alone["size"][0], alone["size"][1]))
            assert int(mask.sum()) == segment["area"] == expected["area"]
            assert segment["score"] == pytest.approx(expected["score"])
        labels = np.array(Image.open(output / dict(row["files"])["labels"]))
        assert set(np.unique(labels)) - {0} == {segment["id"] for segment in row["segments"]}

    again = run("batch", folder, *how, "--batch-size", "2", "--json")
    assert json.loads(again.out)["images_per_second"] == 0
    other = run("batch", folder, *how[:-1])
    assert (other.code, "another job" in other.err) == (2, True)
