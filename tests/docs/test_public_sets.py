"""The script that makes the measured sets: laid out as their publishers do, they come back as they were."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "public_sets.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy of the script, with lists of its own."""
    (tmp_path / "splits").mkdir()
    return Path(shutil.copy(SCRIPT, tmp_path))


def made(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def lists(name: str, shared: list[str]) -> None:
    """The lists of the package hold the images of the set."""
    assert (SCRIPT.parent / "splits" / f"{name}.txt").read_text("utf-8").split() == shared


def test_nuclei(script: Path, shared_folder: Path, tmp_path: Path) -> None:
    original = shared_folder / "data" / "dsb2018_nuclei"
    for split in ("train", "dev"):
        names = (original / f"{split}.txt").read_text("utf-8").split()
        lists(f"dsb2018_{split}", [name[:8] for name in names])
        (tmp_path / "splits" / f"dsb2018_{split}.txt").write_text(names[0][:8], "utf-8")
        folder = tmp_path / "stage1_train" / names[0]
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True)
        Image.open(original / "images" / f"{names[0]}.png").convert("RGBA").save(folder / "images" / f"{names[0]}.png")
        instances = np.asarray(Image.open(original / "instances" / f"{names[0]}.png"))
        for number in range(1, int(instances.max()) + 1):
            Image.fromarray((instances == number).astype(np.uint8) * 255).save(folder / "masks" / f"{number:04}.png")
    outcome = made(script, "nuclei", tmp_path / "stage1_train", tmp_path / "made")
    assert outcome.stdout.split("\n")[:2] == ["train: 1 images", "dev: 1 images"], outcome.stderr
    for path in (tmp_path / "made").glob("*/*.png"):
        assert np.array_equal(Image.open(path), Image.open(original / path.parent.name / path.name))
    assert len(list((tmp_path / "made").glob("*/*.png"))) == 4
    shutil.rmtree(tmp_path / "stage1_train" / names[0])
    again = made(script, "nuclei", tmp_path / "stage1_train", tmp_path / "again")
    assert "Is the download whole?" in again.stderr


def test_coco128(script: Path, shared_folder: Path, tmp_path: Path) -> None:
    original, coco = shared_folder / "data" / "coco128_panoptic", tmp_path / "coco"
    (coco / "annotations" / "panoptic_train2017").mkdir(parents=True)
    (coco / "train2017").mkdir()
    both: dict[str, list[dict[str, object]]] = {}
    for split in ("train", "dev"):
        data = json.loads((original / "annotations" / f"panoptic_{split}.json").read_text("utf-8"))
        lists(f"coco128_{split}", [str(image["id"]) for image in data["images"]])
        both |= {key: both.get(key, []) + data[key] for key in ("images", "annotations")}
        both["categories"] = data["categories"]
        (tmp_path / "splits" / f"coco128_{split}.txt").write_text("\n".join(str(i["id"]) for i in data["images"][:3]))
        for image in data["images"][:3]:
            stem = Path(image["file_name"]).stem
            shutil.copy(original / "images" / split / f"{stem}.jpg", coco / "train2017")
            label = original / "annotations" / f"panoptic_{split}" / f"{stem}.png"
            shutil.copy(label, coco / "annotations" / "panoptic_train2017")
    (coco / "annotations" / "panoptic_train2017.json").write_text(json.dumps(both))
    outcome = made(script, "coco128", coco, tmp_path / "made")
    assert outcome.stdout.split("\n")[:2] == ["train: 3 images", "dev: 3 images"], outcome.stderr
    for split in ("train", "dev"):
        path = Path("annotations") / f"panoptic_{split}.json"
        expected, found = (json.loads((root / path).read_text("utf-8")) for root in (original, tmp_path / "made"))
        assert found["images"] == expected["images"][:3]
        assert found["categories"] == expected["categories"]
        by_image = {annotation["image_id"]: annotation for annotation in expected["annotations"]}
        assert found["annotations"] == [by_image[image["id"]] for image in found["images"]]
    copies = [path for path in (tmp_path / "made").rglob("*") if path.suffix in (".jpg", ".png")]
    assert len(copies) == 12
    assert all((original / path.relative_to(tmp_path / "made")).read_bytes() == path.read_bytes() for path in copies)
