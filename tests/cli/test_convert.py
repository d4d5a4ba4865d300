import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from panoptic_deeplab.errors import CheckpointError

Run = Callable[..., Any]
NAME = "bowenc0221/MBNV2_100_os32_cityscapes_bs16_lr_x2"
networks = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[1] / "reference" / "published_networks.py"))
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the published models, with other weights."""
    weights, image = networks.Weights(), torch.zeros(1, 3, 32, 32)
    with torch.inference_mode():
        networks.bowenc0221(weights, networks.mobilenet_v2(weights, image))
    path = tmp_path_factory.mktemp("checkpoint") / "final_state.pth"
    torch.save(weights.state, path)
    return path


def test_convert_and_predict(run: Run, checkpoint: Path, tmp_path: Path, photo: Path) -> None:
    outcome = run("convert", checkpoint, "--from", NAME, "--output", tmp_path / "model")
    assert outcome.code == 0, outcome.err
    assert "19 classes (cityscapes), 7.72 M parameters" in outcome.out
    assert "not verified against" in outcome.out
    written = {file.name for file in (tmp_path / "model").iterdir()}
    assert written == {"model.safetensors", "config.json", "categories.json", "README.md"}
    assert all(name in outcome.out for name in written)
    assert f"Converted from a checkpoint of `{NAME}`" in (tmp_path / "model" / "README.md").read_text("utf-8")
    options = ("--input.pad-to", "None", "--postprocess.stuff-area-limit", "0")
    outcome = run("predict", photo, "--model", tmp_path / "model", "--json", "--device", "cpu", *options)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["images"][0]["size"] == [50, 70]


def test_wrong_name_lists_what_does_not_fit(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    command = ("convert", checkpoint, "--from", "detectron2/R52_os16_conv", "--output", tmp_path / "model")
    outcome = run(*command)
    assert outcome.code == 2
    assert "missing: backbone.stem.conv1.weight, backbone.stem.conv1.norm.weight, " in outcome.err
    assert "unexpected: backbone.features.0.0.weight, " in outcome.err
    assert "see them all with --debug" in outcome.err
    assert len(outcome.err) < 1500
    assert not (tmp_path / "model").exists()
    with pytest.raises(CheckpointError) as caught:
        run(*command, "--debug")
    for last in ("ins_embed_head.offset_predictor.bias", "decoder.instance_head.classifier.offset.1.bias"):
        assert last in "\n".join(caught.value.__notes__)


def test_folder_of_a_run_is_not_written_to(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "ema.safetensors").touch()
    outcome = run("convert", checkpoint, "--from", NAME, "--output", tmp_path)
    assert outcome.code == 2
    assert "is the checkpoint of a run" in outcome.err


def test_unknown_name(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    outcome = run("convert", checkpoint, "--from", "somebody/model", "--output", tmp_path / "model")
    assert outcome.code == 2
    assert outcome.err.endswith(
        "There is no converter for checkpoints of 'somebody/model'. See all with: panoptic-deeplab models\n"
    )
