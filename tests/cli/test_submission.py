"""`panoptic-deeplab submission`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained


@pytest.fixture
def street_folder(tmp_path: Path, tiny_config: Config) -> Path:
    """A model of Mapillary Vistas' classes."""
    categories = CategoryTable.load("mapillary_vistas_v1.2")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    save_pretrained(tmp_path / "model", model, config=tiny_config, categories=categories)
    return tmp_path / "model"


def test_files_of_a_test_split(run: Callable[..., Any], street_folder: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / "testing" / "images").mkdir(parents=True)
    photo.rename(tmp_path / "set" / "testing" / "images" / "some-key.jpg")
    outcome = run(
        "submission",
        f"--model={street_folder}",
        f"--output={tmp_path / 'out'}",
        "--data.format=mapillary_vistas",
        f"--data.root={tmp_path / 'set'}",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert (document["scores"], document["num_images"]) == (None, 1)
    assert document["files"] == [str(tmp_path / "out" / task) for task in ("panoptic", "semantic", "instance")]
    assert [file.name for file in (tmp_path / "out" / "semantic").iterdir()] == ["some-key.png"]


def test_refusals(run: Callable[..., Any], model_folder: Path, coco_set: Path, tmp_path: Path) -> None:
    common = (f"--model={model_folder}", "--data.format=coco_panoptic", f"--data.root={coco_set}")
    outcome = run("submission", *common, f"--output={tmp_path / 'out'}", "--score")
    assert outcome.code == 2
    assert "`score` needs Cityscapes' files" in outcome.err
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for used in (tmp_path / "used", tmp_path / "used" / "file"):
        outcome = run("submission", *common, f"--output={used}")
        assert outcome.code == 2
        assert f"{used} is not an empty folder" in outcome.err
    outcome = run("submission", *common[:1], f"--output={tmp_path / 'new'}", "--data.format=synthetic")
    assert outcome.code == 2
    assert "belongs to no benchmark" in outcome.err


def test_a_set_that_cannot_be_opened_leaves_no_folder(
    run: Callable[..., Any], street_folder: Path, model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "set" / "testing" / "images").mkdir(parents=True)
    photo.rename(tmp_path / "set" / "testing" / "images" / "some-key.jpg")
    for model, root, message in (
        (street_folder, "absent", "There is no folder"),
        (model_folder, "set", "A submission needs the ids of the benchmark"),
    ):
        outcome = run(
            "submission",
            f"--model={model}",
            f"--output={tmp_path / 'out'}",
            "--data.format=mapillary_vistas",
            f"--data.root={tmp_path / root}",
            "--data.categories=mapillary_vistas_v1.2",
        )
        assert outcome.code == 2
        assert message in outcome.err
        assert not (tmp_path / "out").exists()


def test_what_scoring_needs_is_looked_for_before_predicting(
    run: Callable[..., Any], street_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)  # as if it were not installed
    for split, message in (("val", "needs the package cityscapesscripts"), ("test", "needs a split with labels")):
        outcome = run(
            "submission",
            f"--model={street_folder}",
            f"--output={tmp_path / 'out'}",
            f"--split={split}",
            "--data.format=cityscapes",
            f"--data.root={tmp_path / 'absent'}",
            "--score",
        )
        assert outcome.code == 2
        assert message in outcome.err
    assert not (tmp_path / "out").exists()
