"""The quick commands of the tutorial "Your own data" run, on small sets of the same layouts."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from panoptic_deeplab.cli import main
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.training.first_recipe import write
from panoptic_deeplab.training.first_recipe.budget import Costs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "your-own-data.md"
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ panoptic-deeplab (.+)$", PAGE.read_text("utf-8"), re.M)]
QUICK = [words for words in COMMANDS if words[0] == "data"]


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`facades` as Roboflow exports it, `kaggle` with one mask an object; a few drawn images each."""
    rng = np.random.default_rng(0)
    categories = [{"id": 0, "name": "facade"}, {"id": 1, "name": "window"}, {"id": 2, "name": "facade"}]
    for split, count in (("train", 3), ("valid", 2)):
        images, annotations = [], []
        for number in range(count):
            images.append({"id": number, "file_name": f"{split}{number}.jpg", "width": 96, "height": 96})
            boxes = [(2, [2, 0, 94, 94])] + [(1, [x, 20, x + 12, 40]) for x in (8, 30, 60)]
            for class_, (x0, y0, x1, y1) in boxes:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": class_,
                        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    }
                )
            path = tmp_path / "facades" / split / f"{split}{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8)).save(path)
        document = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "facades" / split / "_annotations.coco.json").write_text(json.dumps(document))
    for split in ("train", "dev"):
        for number in range(2):
            folder = tmp_path / "kaggle" / split / f"shot{number}"
            for part in ("images", "masks"):
                (folder / part).mkdir(parents=True)
            Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "images" / f"shot{number}.png")
            for cell in range(3):
                mask = Image.new("L", (64, 64))
                ImageDraw.Draw(mask).ellipse((20 * cell, 10, 20 * cell + 14, 24), fill=255)
                mask.save(folder / "masks" / f"{cell}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write, "time_training", lambda *_, **__: Costs(step=1, work=1, reading=0, prediction=0))
    return tmp_path


def test_commands_that_take_seconds_run(sets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert [words[1] for words in QUICK if words[1] == "init"] == ["init", "init"]
    for words in QUICK:
        main(words)
    printed = capfd.readouterr().out
    assert "facades looks like coco_instances" in printed
    assert "Things: window.\nStuff: facade." in printed
    assert "kaggle looks like object_masks" in printed
    for words in QUICK:
        if words[1] == "init":
            recipe = sets / words[words.index("--output") + 1] / "recipe.yaml"
            assert load_config(recipe).data.format in ("coco_instances", "object_masks")
            assert ["train", str(recipe.relative_to(sets))] in [command[:2] for command in COMMANDS]
