import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.cli.evaluate import Evaluate
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

Run = Callable[..., Any]


def test_table_of_the_validation_split(run: Run, model_folder: Path) -> None:
    outcome = run("evaluate", "--model", model_folder, "--device", "cpu")
    assert outcome.code == 0
    for word in ("PQ", "Things", "Stuff", "mIoU", "AP (COCO)", "AP50", "1 images"):
        assert word in outcome.out
    assert "sidewalk" not in outcome.out.partition("not counted")[0]


def test_json_is_the_only_output(run: Run, model_folder: Path) -> None:
    outcome = run("evaluate", "--model", model_folder, "--device", "cpu", "--split", "val:2", "--json")
    report = json.loads(outcome.out)
    assert report["num_images"] == 2
    assert set(report) == {"panoptic", "semantic", "instances", "cityscapes", "num_images", "seconds", "provenance"}
    assert 0 <= report["panoptic"]["all"]["pq"] <= 1


def _names(document: Any) -> set[str]:
    """Every key of a JSON document, except those of values that are data themselves."""
    if isinstance(document, list):
        return set().union(*map(_names, document))
    if not isinstance(document, dict):
        return set()
    return set(document).union(*(_names(v) for k, v in document.items() if k not in ("versions", "settings")))


def test_help_names_the_fields_of_the_json(run: Run, model_folder: Path) -> None:
    report = json.loads(run("evaluate", "--model", model_folder, "--device", "cpu", "--json").out)
    text = (Evaluate.__doc__ or "").partition("the document is:")[2].partition("Metrics are")[0]
    prose = (
        r"each|a list of|names of classes neither in the labels nor predicted|or null without pycocotools|or null for"
        r" other data sets and without cityscapesScripts"
    )
    documented = set(re.findall(r"\w+", re.sub(prose, "", " ".join(text.split()))))
    assert documented == _names(report)


def test_provenance_names_model_data_and_settings(run: Run, model_folder: Path) -> None:
    options = ("--device", "cpu", "--split", "val:1", "--postprocess.top-k", "7", "--json")
    provenance = json.loads(run("evaluate", "--model", model_folder, *options).out)["provenance"]
    expected = {"models": [str(model_folder)], "split": "val:1", "device": "cpu", "precision": "float32"}
    expected["compile"] = False
    assert expected.items() <= provenance.items()
    assert provenance["settings"]["postprocess"]["top_k"] == 7
    sections = {"data", "input", "test_time_augmentation", "postprocess", "evaluation"}
    assert set(provenance["settings"]) == sections | {"output_stride"}


def test_two_processes_print_one_document(model_folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "panoptic_deeplab", "evaluate", "--model", str(model_folder), "--device", "cpu"]
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*command, "--split", "val:2", "--json"],
            env=os.environ | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, errors), (second, _) = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], errors
    assert second == ""
    report = json.loads(first)
    assert (report["num_images"], report["provenance"]["processes"]) == (2, 2)


def test_data_of_another_format_and_files(run: Run, model_folder: Path, coco_set: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--data.format", "coco_panoptic", "--data.root", coco_set, "--split", "val", "--output", output)
    outcome = run("evaluate", f"--model={model_folder}", "--device", "cpu", "--per-class", *options)
    assert outcome.code == 0
    assert "sidewalk" in outcome.out
    assert json.loads((output / "report.json").read_text())["num_images"] == 1
    assert "sidewalk" in (output / "table.txt").read_text()
    assert {path.name for path in output.iterdir()} == {
        *("report.json", "report.html", "table.txt", "per_class_pq.png", "mosaic.png")
    }
    with Image.open(output / "mosaic.png") as mosaic:
        assert mosaic.width > 3 * 420


def test_settings_are_those_of_the_model_unless_named(run: Run, model_folder: Path) -> None:
    outcome = run("evaluate", "--model", model_folder, "--help")
    assert "(default: test_resnet)" not in outcome.out  # the network is no option here
    assert "(default: synthetic)" in outcome.out.replace("\n", " ")


@pytest.mark.parametrize("folder", ["missing", "empty", "broken"])
def test_unusable_model_folder(run: Run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"train": ')
    outcome = run("evaluate", "--model", tmp_path / folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("CheckpointError: ")
    assert folder in outcome.err


def test_truncated_weights(run: Run, model_folder: Path, tmp_path: Path) -> None:
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    outcome = run("evaluate", "--model", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("CheckpointError: ")
    assert "model.safetensors" in outcome.err


def test_other_classes_than_the_data(run: Run, model_folder: Path, tmp_path: Path) -> None:
    table = CategoryTable.load("synthetic").to_json()
    table["categories"][0]["name"] = "street"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(table))
    outcome = run("evaluate", "--model", model_folder, "--data.categories", other)
    assert outcome.code == 2
    assert outcome.err.startswith("CheckpointError: The model predicts 10 classes")


def test_missing_data(run: Run, model_folder: Path, tmp_path: Path) -> None:
    outcome = run(
        "evaluate", "--model", model_folder, "--data.format", "coco_panoptic", "--data.root", tmp_path / "nowhere"
    )
    assert outcome.code == 2
    assert outcome.err.startswith("DatasetError: ")
    assert "nowhere" in outcome.err


@pytest.fixture
def street_set(tmp_path: Path, tiny_config: Config) -> tuple[object, ...]:
    """A model of Cityscapes' classes and a labeled image of theirs, as options."""
    categories = CategoryTable.load("cityscapes")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    save_pretrained(tmp_path / "model", model, config=tiny_config, categories=categories)
    label = np.full((48, 64), 7, np.uint16)
    label[8:40, 8:40] = 26001
    pictures = {
        "leftImg8bit": ("leftImg8bit", np.zeros((48, 64, 3), np.uint8)),
        "gtFine": ("gtFine_instanceIds", label),
    }
    for top, (tail, values) in pictures.items():
        folder = tmp_path / "set" / top / "val" / "aachen"
        folder.mkdir(parents=True)
        Image.fromarray(values).save(folder / f"aachen_000000_000000_{tail}.png")
    return "evaluate", "--model", tmp_path / "model", "--data.format", "cityscapes", "--data.root", tmp_path / "set"


def test_on_cityscapes_its_own_ap_is_shown_and_both_protocols_are_named(
    run: Run, street_set: tuple[object, ...]
) -> None:
    pytest.importorskip("cityscapesscripts")
    outcome = run(*street_set, "--split", "val", "--per-class")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.findall(r"AP \(\w+\)", outcome.out) == ["AP (COCO)", "AP (Cityscapes)"] * 2
    report = json.loads(run(*street_set, "--split", "val", "--json").out)
    assert report["cityscapes"]["ap"] is not None
    assert {row["name"] for row in report["cityscapes"]["per_class"]} >= {"car", "person"}
    assert any("Cityscapes' protocol" in note for note in report["provenance"]["notes"])


def test_without_the_scripts_a_sentence_says_what_is_missing(
    run: Run, street_set: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("cityscapesscripts")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    outcome = run(*street_set, "--split", "val")
    assert outcome.code == 0
    assert "AP (COCO)" in outcome.out
    assert "AP (Cityscapes)" not in outcome.out
    assert "Cityscapes' own AP needs the package cityscapesscripts" in outcome.err
    assert 'pip install "panoptic-deeplab[cityscapes]"' in outcome.err
    assert outcome.err.count("\n") == 1


def test_labels_from_a_json_alone_have_no_own_ap(run: Run, street_set: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("cityscapesscripts")
    json_path = tmp_path / "set" / "gtFine" / "cityscapes_panoptic_val.json"
    folder = json_path.with_suffix("")
    folder.mkdir()
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0] = 7
    Image.fromarray(picture).save(folder / "aachen_000000_000000_gtFine_panoptic.png")
    segment = {"id": 7, "category_id": 7, "iscrowd": 0, "area": 48 * 64, "bbox": [0, 0, 64, 48]}
    annotation = {
        "image_id": "aachen_000000_000000",
        "file_name": "aachen_000000_000000_gtFine_panoptic.png",
        "segments_info": [segment],
    }
    image = {"id": "aachen_000000_000000", "file_name": "aachen_000000_000000_gtFine_leftImg8bit.png"}
    table = [
        {"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in CategoryTable.load("cityscapes").categories
    ]
    document = {"images": [image | {"height": 48, "width": 64}], "annotations": [annotation], "categories": table}
    json_path.write_text(json.dumps(document))
    next((tmp_path / "set" / "gtFine" / "val" / "aachen").iterdir()).unlink()
    outcome = run(*street_set, "--split", "val")
    assert outcome.code == 0, outcome.err
    assert "needs the files *_gtFine_instanceIds.png" in outcome.err
    assert "AP (Cityscapes)" not in outcome.out
