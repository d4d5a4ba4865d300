"""`data init` on every format gives a recipe with which `data check` finds nothing wrong and training runs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.cli import main
from panoptic_deeplab.training.first_recipe import write
from panoptic_deeplab.training.first_recipe.budget import Costs

pytest.importorskip("pycocotools")

THINGS = {"coco_instances": "Fußgänger", "labelme": "Fußgänger", "cvat": "Fußgänger", "yolo": "Fußgänger"}
"""Formats whose files do not say it, nor number objects."""

READ_ALIKE = (
    *("coco_cvat", "coco_label_studio", "labelme_apart", "labelme_listed", "yolo_classes"),
    *("voc_colors", "color_listed", "label_tiff", "folder_listed", "object_masks_listed"),
)
"""Other ways to write a format; training does not see which."""


def test_init_check_and_three_steps(
    way: str, write_set: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(write, "time_training", lambda *_, **__: Costs(step=1, work=1, reading=0, prediction=0))
    made = write_set(way)
    output = tmp_path / "start"
    main(["data", "init", str(made.root), "--output", str(output)])
    printed = capfd.readouterr().out
    assert f"looks like {made.format}: " in printed
    assert "There is one split, train." in printed
    table = json.loads((output / "categories.json").read_text("utf-8"))
    things = [row["name"] for row in table["categories"] if row["isthing"]]
    if made.format in THINGS:
        assert things == [THINGS[made.format]]
    elif made.format == "color_masks":
        assert things == []
        assert "are called after the color" in printed
        assert [row["color"] for row in table["categories"]] == [[0, 0, 0], [200, 0, 0], [0, 0, 200]]
    else:
        assert len(things) == 1
    main(["data", "check", str(output / "recipe.yaml")])
    if way in READ_ALIKE:
        return
    run = output / "run"
    options = "--train.max-steps 3 --train.warmup-steps 0 --train.batch-size 2 --train.log-every 1"
    options += " --data.num-workers 0 --data.crop-size 33 33"
    main(["train", str(output / "recipe.yaml"), "--run-folder", str(run), *options.split()])
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")]
    assert len(losses) == 3
    assert all(loss < 1e6 for loss in losses)


COLORS_FILES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nFußgänger:200,0,0::\nroad, wet:0,0,200::\n",
    "class_dict.csv": 'name,r,g,b\nFußgänger,200,0,0\n"road, wet",0,0,200\nbackground,0,0,0\n',
    "label_colors.txt": "0 0 0 background\n200 0 0 Fußgänger\n0 0 200 road, wet\n",
}


@pytest.mark.parametrize("name", COLORS_FILES)
def test_files_that_name_colors(
    name: str, write_set: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(write, "time_training", lambda *_, **__: Costs(step=1, work=1, reading=0, prediction=0))
    made = write_set("color_masks")
    (made.root / name).write_text(COLORS_FILES[name], "utf-8")
    main(["data", "init", str(made.root), "--output", str(tmp_path / "start")])
    assert "are called after" not in capfd.readouterr().out
    table = json.loads((tmp_path / "start" / "categories.json").read_text("utf-8"))
    found = {row["name"]: tuple(row["color"]) for row in table["categories"]}
    assert found == {"background": (0, 0, 0), "Fußgänger": (200, 0, 0), "road, wet": (0, 0, 200)}


def test_a_table_with_colors_is_taken_as_it_is(
    write_set: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(write, "time_training", lambda *_, **__: Costs(step=1, work=1, reading=0, prediction=0))
    made = write_set("color_masks")
    rows = [{**row, "isthing": False} for row in made.table["categories"]]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**made.table, "categories": rows}), "utf-8")
    main(["data", "init", str(made.root), "--output", str(tmp_path / "start"), "--categories", str(path)])
    assert "Stuff: Fußgänger, road, wet." in capfd.readouterr().out
    assert json.loads((tmp_path / "start" / "categories.json").read_text("utf-8"))["categories"] == rows


def test_things_cannot_be_told_apart_in_class_maps(write_set: Callable[..., Any], tmp_path: Path, capfd: Any) -> None:
    made = write_set("color_masks")
    with pytest.raises(SystemExit):
        main(["data", "init", str(made.root), "--output", str(tmp_path / "start"), "--things", "color 200 0 0"])
    assert "class maps alone do not tell two objects of a class apart" in capfd.readouterr().err
