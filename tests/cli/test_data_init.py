"""`data init`: a folder becomes a table and a recipe that trains."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.training.first_recipe import write
from panoptic_deeplab.training.first_recipe.budget import Costs

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of a real recipe takes seconds a step; what is timed has a test of its own."""
    monkeypatch.setattr(write, "time_training", lambda *_, **__: Costs(step=1.0, reading=0, prediction=0, work=0.1))


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """16 images of bright discs, in one list."""
    root, rng = tmp_path / "discs", np.random.default_rng(0)
    for kind in ("images", "instances"):
        (root / kind).mkdir(parents=True)
    names = [f"shot_{number:02}" for number in range(16)]
    for name in names:
        instances = np.zeros((64, 64), np.uint8)
        for number in range(1, 5):
            y, x = rng.integers(8, 56, 2)
            instances[(np.arange(64)[:, None] - y) ** 2 + (np.arange(64) - x) ** 2 < 40] = number
        Image.fromarray(instances).save(root / "instances" / f"{name}.png")
        Image.fromarray(np.where(instances > 0, 220, 30).astype(np.uint8)).save(root / "images" / f"{name}.png")
    (root / "all.txt").write_text("\n".join(names), "utf-8")
    return root


def test_one_split_is_divided_and_the_recipe_is_checked(run: Run, discs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    outcome = run("data", "init", discs, "--output", output)
    assert outcome.code == 0, outcome.err
    for part in (
        "looks like folder",
        "Things: object.",
        "Stuff: background.",
        "There is one split, all. 2 of its 16 images are held out",
    ):
        assert part in outcome.out
    assert (output / "held_out.txt").read_text("utf-8").split() == ["shot_14", "shot_15"]
    config = load_config(output / "recipe.yaml")
    assert config.data.crop_size[0] >= 65
    assert config.train.max_steps > 1000
    check = run("data", "check", output / "recipe.yaml", "--json")
    document = json.loads(check.out)
    assert (check.code, document["statistics"]["images"], document["advice"]) == (0, 14, [])
    held = json.loads(run("data", "check", output / "recipe.yaml", "--split", "held_out", "--json").out)
    assert held["statistics"]["images"] == 2
    again = run("data", "init", discs, "--output", output)
    assert again.code == 2
    assert "exists already" in again.err


def test_things_are_what_has_numbers_or_a_name(run: Run, discs: Path, tmp_path: Path) -> None:
    (discs / "semantic").mkdir()
    for path in (discs / "instances").iterdir():
        values = np.asarray(Image.open(path))
        semantic = np.where(values > 0, 3, 7).astype(np.uint8)
        Image.fromarray(semantic).save(discs / "semantic" / path.name)
    outcome = run("data", "init", discs, "--output", tmp_path / "rule")
    assert outcome.code == 0, outcome.err
    assert "Things are the classes whose objects have numbers." in outcome.out
    assert "Things: class 3.\nStuff: class 7." in outcome.out
    named = run("data", "init", discs, "--output", tmp_path / "named", "--things", "class 3")
    assert named.code == 0, named.err
    assert "have numbers" not in named.out
    tables = [json.loads((tmp_path / name / "categories.json").read_text("utf-8")) for name in ("rule", "named")]
    assert tables[0] == tables[1]
    wrong = run("data", "init", discs, "--output", tmp_path / "wrong", "--things", "disc")
    assert (wrong.code, "Choose from: 'class 3', 'class 7'" in wrong.err) == (2, True)


def test_splits_of_the_set_are_taken(run: Run, coco_set: Path, tmp_path: Path) -> None:
    outcome = run("data", "init", coco_set, "--output", tmp_path / "out", "--minutes", "1")
    assert outcome.code == 0, outcome.err
    assert "looks like coco_panoptic" in outcome.out
    assert "below 200 steps" in outcome.out
    assert "busy with other work: 0.10 s of a step are its own" in outcome.out
    config = load_config(tmp_path / "out" / "recipe.yaml")
    assert (config.data.train_split, config.data.val_split, config.data.held_out) == ("train", "val", None)


def test_a_split_without_labels_is_no_validation(run: Run, coco_set: Path, tmp_path: Path) -> None:
    root = shutil.copytree(coco_set, tmp_path / "set")
    path = root / "annotations" / "panoptic_val.json"
    document = json.loads(path.read_text("utf-8"))
    del document["annotations"]
    path.write_text(json.dumps(document), "utf-8")
    outcome = run("data", "init", root, "--output", tmp_path / "out")
    assert "The split val has no labels" in outcome.out
    assert "There is one split, train. 1 of its 2 images are held out" in outcome.out
    named = run("data", "init", root, "--output", tmp_path / "named", "--train-split", "train", "--val-split", "train")
    assert named.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Name one with --output"),
        (("--output", "out", "--minutes", "0"), "`minutes` must be positive"),
        (("--output", "out", "--format", "cityscapes"), "does not look like the format 'cityscapes'"),
        (("--output", "out", "--val-split", "valid"), "valid"),
    ],
)
def test_refused(
    run: Run, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("data", "init", discs, *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_an_empty_folder_is_told_what_is_expected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("data", "init", tmp_path / "empty", "--output", tmp_path / "out")
    assert (outcome.code, "looks like no format" in outcome.err) == (2, True)
    missing = run("data", "init", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert "There is no folder" in missing.err


def test_a_table_is_printed_and_void_ids_are_an_option(run: Run, discs: Path) -> None:
    document = json.loads(run("data", "table", "nuclei").out)
    assert [category["name"] for category in document["categories"]] == ["nucleus", "background"]
    assert "no category table 'nuclai'" in run("data", "table", "nuclai").err
    semantic = discs / "semantic"
    semantic.mkdir()
    for path in (discs / "instances").iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)) > 0, 1, 255).astype(np.uint8)).save(semantic / path.name)
    options = ("--data.format", "folder", "--data.root", discs, "--data.categories", "nuclei", "--split", "all")
    repeated = run("data", "check", *options)
    assert repeated.code == 1
    assert repeated.out.count("255") == 1  # sixteen times the same, told once
    assert "The same in 15 others" in repeated.out
    assert run("data", "check", *options, "--data.void-ids", "255").code == 0
