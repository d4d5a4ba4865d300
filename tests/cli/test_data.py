import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def set_options(coco_set: Path) -> tuple[object, ...]:
    return ("--data.format", "coco_panoptic", "--data.root", coco_set, "--data.categories", "synthetic")


def test_check_reports_statistics(run: Run, set_options: tuple[object, ...]) -> None:
    outcome = run("data", "check", *set_options)
    assert outcome.code == 0
    assert "2 read, 2 with labels" in outcome.out
    assert "0 errors" in outcome.out


def test_check_json(run: Run, set_options: tuple[object, ...]) -> None:
    document = json.loads(run("data", "check", *set_options, "--split", "val", "--json").out)
    assert (document["ok"], document["split"], document["statistics"]["images"]) == (True, "val", 1)
    assert set(document) == {"split", "ok", "findings", "statistics", "levels", "advice"}


def test_check_with_a_recipe(run: Run, tiny_recipe: Path) -> None:
    outcome = run("data", "check", tiny_recipe, "--json", "--limit", "3")
    assert json.loads(outcome.out)["statistics"]["images"] == 3


@pytest.mark.parametrize("verb", ["check", "show"])
def test_recipe_is_found_behind_options(run: Run, tiny_recipe: Path, tmp_path: Path, verb: str) -> None:
    options = ("--limit", "1", "--json") if verb == "check" else ("--num-images", "1", "--output", tmp_path / "out")
    outcome = run("data", verb, "--split", "val:2", *options, tiny_recipe)
    assert outcome.code == 0, outcome.err  # the default of data.format would find no set here
    if verb == "check":
        assert json.loads(outcome.out)["split"] == "val:2"


@pytest.mark.parametrize("verb", ["check", "show", "convert"])
def test_only_settings_that_matter_are_options(run: Run, verb: str) -> None:
    text = run("data", verb, "--help").out
    assert "--data.root" in text
    assert "--train." not in text
    assert "--model." not in text


def test_show_uses_the_recipes_network_and_target(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    pictures = []
    for sigma in ("2", "20"):
        output, sigmas = tmp_path / sigma, ("--target.sigma", sigma)
        assert run("data", "show", tiny_recipe, *sigmas, "--output", output).code == 0
        pictures.append((output / "train_batch.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_convert_writes_a_set_that_reads_back(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "converted"
    for split in ("train", "val"):
        outcome = run("data", "convert", tiny_recipe, "--split", f"{split}:2", "--name", split, "--output", output)
        assert outcome.code == 0, outcome.err
        assert outcome.out == f"{output / 'annotations' / f'panoptic_{split}.json'}\n"
    options = ("--data.format", "coco_panoptic", "--data.root", output, "--data.categories", output / "categories.json")
    document = json.loads(run("data", "check", *options, "--split", "train", "--json").out)
    assert document["ok"]
    assert document["statistics"]["images"] == 2
    again = run("data", "convert", *options, "--split", "val", "--output", tmp_path / "jpeg", "--jpeg-quality", "90")
    assert again.code == 0, again.err
    assert len(list((tmp_path / "jpeg" / "val").glob("*.jpg"))) == 2
    again = run("data", "convert", *options, "--split", "val", "--output", output)
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [((), "--output"), (("--output", "x", "--jpeg-quality", "0"), "`jpeg_quality` must be from 1 to 100. Got 0")],
)
def test_convert_refuses(
    run: Run, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tiny_recipe.parent)
    outcome = run("data", "convert", tiny_recipe, *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not Path("x").exists()


def test_errors_give_exit_code_1(run: Run, coco_set: Path, tmp_path: Path) -> None:
    root = shutil.copytree(coco_set, tmp_path / "set")
    next((root / "annotations" / "panoptic_val").glob("*.png")).unlink()
    options = ("--data.root", root, "--data.categories", "synthetic", "--split", "val", "--json")
    outcome = run("data", "check", *options)
    document = json.loads(outcome.out)
    assert outcome.code == 1
    assert [finding["severity"] for finding in document["findings"]].count("error") == 1


def test_a_set_without_labels_is_an_error_where_they_are_needed(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "images").mkdir(parents=True)
    photo.rename(tmp_path / "set" / "images" / "photo.jpg")
    options = ("--data.format", "folder", "--data.root", tmp_path / "set", "--data.categories", "nuclei")
    for split, code in (("train", 1), ("val", 1), ("test", 0)):
        (tmp_path / "set" / f"{split}.txt").write_text("photo")
        outcome = run("data", "check", *options, "--split", split)
        assert outcome.code == code
        assert "No image has labels" in outcome.out


def test_show_draws_labels_and_training_crops(run: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "pictures"
    outcome = run("data", "show", tiny_recipe, "--num-images", "2", "--output", output)
    assert outcome.code == 0
    assert outcome.out.split() == [str(output / "labels.png"), str(output / "train_batch.png")]
    for line in outcome.out.split():
        with Image.open(line) as picture:
            assert min(picture.size) > 100


def test_show_needs_an_image(run: Run, tiny_recipe: Path) -> None:
    outcome = run("data", "show", tiny_recipe, "--num-images", "0")
    assert outcome.code == 2
    assert outcome.err.startswith("ConfigError: `num_images` must be positive")


def test_missing_set(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "check", "--data.root", tmp_path / "nowhere")
    assert outcome.code == 2
    assert outcome.err.startswith("DatasetError: ")


def test_check_lists_all_problems_of_a_json_and_training_says_the_first(
    run: Run, coco_set: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(coco_set, tmp_path / "set")
    path = root / "annotations" / "panoptic_train.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["segments_info"][0]["category_id"] = 1.9
    data["annotations"][1]["segments_info"][1]["area"] = None
    path.write_text(json.dumps(data))
    options = ("--data.format", "coco_panoptic", "--data.root", root, "--data.categories", "synthetic")
    options += ("--data.train-split", "train", "--data.val-split", "val")
    outcome = run("data", "check", *options, "--json")
    messages = [f["message"] for f in json.loads(outcome.out)["findings"] if f["severity"] == "error"]
    assert outcome.code == 1
    assert any("annotations[0].segments_info[0]" in m and "`category_id` 1.9" in m for m in messages)
    assert any("annotations[1].segments_info[1]" in m and "`area` null" in m for m in messages)
    outcome = run("train", tiny_recipe, *options, "--run-folder", tmp_path / "run")
    assert outcome.code == 2
    assert "`category_id` 1.9" in outcome.err
    assert "one other kind (2 in all)" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_set_of_crowds_is_refused_unless_the_network_has_no_instances(
    run: Run, coco_set: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(coco_set, tmp_path / "set")
    for path in (root / "annotations").glob("*.json"):
        data = json.loads(path.read_text())
        things = {row["id"] for row in data["categories"] if row["isthing"]}
        for segment in (s for a in data["annotations"] for s in a["segments_info"]):
            segment["iscrowd"] = int(segment["category_id"] in things)
        path.write_text(json.dumps(data))
    options = ("--data.format", "coco_panoptic", "--data.root", root, "--data.categories", "synthetic")
    options += ("--data.train-split", "train", "--data.val-split", "val")
    outcome = run("data", "check", *options)
    assert outcome.code == 1
    assert "None of the 2 labeled images has an instance" in outcome.out
    outcome = run("train", tiny_recipe, *options, "--run-folder", tmp_path / "run")
    assert outcome.code == 2
    assert "None of the 2 labeled images has an instance" in outcome.err
    recipe = tmp_path / "semantic.yaml"
    recipe.write_text("model: {instance_branch: false}\n")
    assert run("data", "check", recipe, *options).code == 0
