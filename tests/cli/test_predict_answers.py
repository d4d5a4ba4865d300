"""`predict --save table labels geojson`, and the ids that join the files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.ids import rgb_to_id

Run = Callable[..., Any]

ALL_STUFF = ("--postprocess.stuff-area-limit", "0")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _copy(photo: Path, name: str) -> Path:
    path = photo.with_name(name)
    path.write_bytes(photo.read_bytes())
    return path


def test_table_labels_outlines_and_coco_files_agree(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    save = ("--save", "table", "labels", "geojson", "panoptic", "instances")
    outcome = run("predict", photo, "--model", model_folder, "--output", output, *save, *ALL_STUFF)
    names = ["photo_panoptic.png", "photo_labels.png", "photo.geojson"]
    names += ["panoptic.json", "instances.json", "images.json", "table.csv"]
    assert outcome.out.split() == [str(output / name) for name in names]

    with Image.open(output / "photo_labels.png") as picture:
        assert picture.mode == "I;16"
        labels = np.asarray(picture)
    rows = _rows(output / "table.csv")
    assert {int(row["id"]): int(row["area"]) for row in rows} == {
        int(id_): int(count) for id_, count in zip(*np.unique(labels[labels > 0], return_counts=True), strict=True)
    }
    assert {row["image"] for row in rows} == {str(photo)}
    features = json.loads((output / "photo.geojson").read_text())["features"]
    assert [feature["properties"]["id"] for feature in features] == [int(row["id"]) for row in rows]

    ids = rgb_to_id(np.asarray(Image.open(output / "photo_panoptic.png")))
    (annotation,) = json.loads((output / "panoptic.json").read_text())["annotations"]
    assert sorted(row["segment_id"] for row in annotation["segments_info"]) == sorted(int(row["id"]) for row in rows)
    for row in annotation["segments_info"]:
        assert ((ids == row["id"]) == (labels == row["segment_id"])).all()
    png_ids = {row["segment_id"]: row["id"] for row in annotation["segments_info"]}
    detections = json.loads((output / "instances.json").read_text())
    assert detections
    assert all(png_ids[record["segment_id"]] == record["id"] for record in detections)


def test_colors_of_the_panoptic_png_can_be_seen(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "panoptic", *ALL_STUFF)
    pixels = np.asarray(Image.open(tmp_path / "out" / "photo_panoptic.png")).astype(int)
    seen = np.unique(pixels[pixels.sum(-1) > 0], axis=0)
    assert len(seen) > 1
    assert (seen.max(axis=1) >= 64).all()


def test_stuff_is_left_out_and_labels_may_be_tiff(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--save", "table", "labels", "geojson", "--things-only", "--label-format", "tiff", *ALL_STUFF)
    assert run("predict", photo, "--model", model_folder, "--output", output, *options).code == 0
    rows = _rows(output / "table.csv")
    assert rows
    assert {row["isthing"] for row in rows} == {"True"}
    with Image.open(output / "photo_labels.tif") as picture:
        assert set(np.unique(np.asarray(picture))) - {0} == {int(row["id"]) for row in rows}
    assert not (output / "photo_labels.png").exists()
    assert len(json.loads((output / "photo.geojson").read_text())["features"]) == len(rows)


def test_ids_that_a_png_does_not_hold_make_a_tiff(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panoptic_deeplab.results import conversions

    real = conversions.to_labels
    monkeypatch.setattr(conversions, "to_labels", lambda *a, **k: real(*a, **k).astype(np.int32) * 70_000)
    assert run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "labels").code == 0
    with Image.open(tmp_path / "out" / "photo_labels.tif") as picture:
        assert np.asarray(picture).max() >= 70_000


def test_pixel_size_adds_columns(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    options = ("--save", "table", "--pixel-size", "0.5", "--unit", "nm")
    run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", *options, *ALL_STUFF)
    for row in _rows(tmp_path / "out" / "table.csv"):
        assert float(row["area_nm2"]) == int(row["area"]) / 4
        assert float(row["perimeter_nm"]) == pytest.approx(float(row["perimeter"]) / 2)


def test_a_second_call_adds_rows_and_replaces_none(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    table = tmp_path / "out" / "table.csv"
    command = ("--model", model_folder, "--output", table.parent, "--save", "table", *ALL_STUFF)
    second = _copy(photo, "b.jpg")
    assert run("predict", photo, *command).code == 0
    first_rows = _rows(table)
    assert run("predict", second, *command).code == 0
    rows = _rows(table)
    assert rows[: len(first_rows)] == first_rows
    assert {row["image"] for row in rows[len(first_rows) :]} == {str(second)}

    before = table.read_bytes()
    third = _copy(photo, "c.jpg")
    again = run("predict", third, second, *command)
    assert (again.code, "lists the image" in again.err) == (2, True)
    other = run("predict", third, *command, "--pixel-size", "2")
    assert (other.code, "has the columns image, id" in other.err) == (2, True)
    assert table.read_bytes() == before


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b'"never closed', b"\xff\xfe\xff"])
def test_a_table_of_somebody_else_is_kept(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, content: bytes
) -> None:
    table = tmp_path / "out" / "table.csv"
    table.parent.mkdir()
    table.write_bytes(content)
    outcome = run("predict", photo, "--model", model_folder, "--output", table.parent, "--save", "table")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "table.csv" in outcome.err
    assert table.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save", "table", "--pixel-size", "0"], "`pixel_size` must be a positive number"),
        (["--save", "table", "--pixel-size", "1", "--unit", "a b"], "must be a word"),
        (["--save", "labels", "--pixel-size", "1"], "Name `table` in --save"),
        (["--things-only"], "`things_only` is for"),
        (["--alpha", "1.5"], "`alpha` must be between 0 and 1"),
        (["--min-score", "-1"], "`min_score` must be between 0 and 1"),
        (["--save", "table", "--no-labels"], "are for overlays"),
        (["--save", "table", "--label-format", "tiff"], "Name `labels` in --save"),
    ],
)
def test_options_without_their_file_are_refused(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_overlays_are_drawn_as_asked(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    command = ("predict", photo, "--model", model_folder, *ALL_STUFF, "--save", "overlay", "--output")
    how = {"plain": (), "bare": ("--alpha", "0", "--no-labels"), "none": ("--min-score", "1", "--no-labels")}
    pictures = {}
    for name, options in how.items():
        assert run(*command, tmp_path / name, *options).code == 0
        with Image.open(tmp_path / name / "photo_overlay.png") as picture:
            pictures[name] = np.asarray(picture).astype(int)
    image = np.asarray(Image.open(photo).convert("RGB")).astype(int)
    changed = {name: (np.abs(picture - image).max(-1) > 0).mean() for name, picture in pictures.items()}
    assert changed["none"] == 0
    assert changed["none"] <= changed["bare"] < changed["plain"]


def test_python_gives_what_the_command_writes(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    import panoptic_deeplab as pdl

    run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "table", "geojson")
    result = PanopticPredictor.from_pretrained(model_folder).predict(photo)
    assert (tmp_path / "out" / "table.csv").read_text() == pdl.table_csv(pdl.to_table(result, image=str(photo)))
    assert json.loads((tmp_path / "out" / "photo.geojson").read_text()) == pdl.to_geojson(result)
