"""Published models by name on the command line: the list, and `--model NAME`."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.cli import main
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights import zoo
from panoptic_deeplab.weights.bundled import bundled_models

Run = Callable[..., Any]
NAME = "bowenc0221/R50_os32_cityscapes"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANOPTIC_DEEPLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo" / NAME


@pytest.fixture
def downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Config) -> Path:
    """The file that a browser put into the cache; a tiny model is in it."""
    config = replace(tiny_config, postprocess=replace(tiny_config.postprocess, center_threshold=0.25))

    def convert(path: Path, name: str) -> tuple[PanopticDeepLab, Config, CategoryTable]:
        return PanopticDeepLab(config.model, 10).eval(), config, CategoryTable.load("synthetic")

    monkeypatch.setattr("panoptic_deeplab.weights.converters.convert_checkpoint", convert)
    (cache / "download").mkdir(parents=True)
    (cache / "download" / "weights.pth").write_bytes(b"weights" * 1_000_000)
    return cache


def test_list(run: Run) -> None:
    outcome = run("models")
    assert (outcome.code, outcome.err) == (0, "")
    bundled, _, published = outcome.out.partition("Published by others, downloaded the first time:\n")
    assert bundled.startswith("".join(f"{name}: in the package. " for name in list(bundled_models())[:1]))
    lines = published.splitlines()
    assert " ".join(lines[0].split()) == "Name Data Backbone Params M PQ AP mIoU MB From Notes"
    row = next(line for line in lines if line.startswith(NAME))
    assert row.split()[:8] == [NAME, "cityscapes", "ResNet-50", "55.3", "59.8", "28.3", "78.6", "~221"]
    notes = dict(line.split("  ", 1) for line in lines if line[:1].isdecimal())
    of_row = [notes[number] for number in row.split("Google Drive")[1].split()]
    assert any(note.startswith("License: ") for note in of_row)
    assert "Outputs agree with a recording of the original code." in of_row
    unverified = next(line for line in lines if line.startswith("deeplab2/resnet50_os32_coco"))
    assert "Not verified against a recording of the original code." in [notes[n] for n in unverified.split()[-3:]]
    unpublished = next(line for line in lines if line.startswith("deeplab2/mobilenet_v3_small_os32_cityscapes"))
    assert unpublished.split()[4:9] == ["-", "-", "-", "-", "-"]
    assert lines[-4] == "Published elsewhere, and not read here:"
    assert "Wide-ResNet-41" in lines[-3]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_has_seen_enough_is_no_error(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`panoptic-deeplab models | head`: the pipe is closed before the list is written."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:  # closed in the end, when Python writes what is left, as it does at exit
        monkeypatch.setattr(sys, "stdout", stdout)
        main(["models", *options])
    assert capfd.readouterr().err == ""


def test_list_as_json(run: Run, cache: Path) -> None:
    outcome = run("models", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert Path(document["cache"]) == cache.parents[2]
    row = next(model for model in document["models"] if model["name"] == NAME)
    assert row["reported"] == {"PQ": 0.598, "SQ": 0.8, "RQ": 0.735, "AP": 0.283, "mIoU": 0.786}
    assert (row["size"], row["in_cache"], row["on_google_drive"]) == (None, False, True)
    assert row["parameters"] == 55_308_870
    assert len(document["unsupported"]) == 3


def test_predict_with_a_name(run: Run, photo: Path, downloaded: Path, tmp_path: Path) -> None:
    outcome = run("predict", photo, "--model", NAME, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "photo_overlay.png").exists()
    row = next(line for line in run("models").out.splitlines() if line.startswith(NAME))
    assert row.split()[7:9] == ["7", "cache"]


def test_settings_of_the_model_are_the_defaults(run: Run, downloaded: Path) -> None:
    zoo.zoo_model(NAME)
    for option in (["--model", NAME], [f"--model={NAME}"]):
        assert "0.25" not in run("predict", *option, "--help").out  # help alone gets no model
    outcome = run("evaluate", "--model", NAME, "--data.num-workers", "0", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["provenance"]["settings"]["postprocess"]["center_threshold"] == 0.25
    assert json.loads(outcome.out)["provenance"]["models"] == [NAME]


def test_what_to_do_for_a_file_on_google_drive(run: Run, photo: Path, cache: Path) -> None:
    outcome = run("predict", photo, "--model", NAME)
    assert outcome.code == 2
    assert outcome.err.startswith(f"CheckpointError: {NAME} lies on Google Drive")
    assert f"into {cache / 'download'};" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bowenc0221/R50_os32_cityscape", f"Did you mean `{NAME}`, "),
        ("deeplab2/wide_resnet41_os16_cityscapes", "not read here: Wide-ResNet-41"),
        (
            "deeplab2/mobilenet_v3_large_os32_cityscapes",
            "Convert those that you trained with: panoptic-deeplab convert",
        ),
        ("runs/strete/best", "There is no model folder runs/strete/best. Expected a folder"),
    ],
)
def test_names_that_mean_nothing(run: Run, photo: Path, name: str, message: str) -> None:
    outcome = run("predict", photo, "--model", name)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_help_downloads_nothing(run: Run, cache: Path) -> None:
    outcome = run("predict", "--model", NAME, "--help")
    assert outcome.code == 0
    assert not cache.exists()
