"""The last row of Table 1: a network without an instance branch, from training to prediction."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.inference.predictor import PanopticPredictor

Run = Callable[..., Any]


@pytest.fixture
def trained(run: Run, tiny_recipe: Path, tmp_path: Path) -> Path:
    """A run folder, written by `train`."""
    options = ("--model.no-instance-branch", "--train.max-steps", 2, "--train.log-every", 1, "--device", "cpu")
    outcome = run("train", tiny_recipe, "--run-folder", tmp_path / "run", "--evaluation.metric", "mIoU", *options)
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


def test_train_evaluate_and_predict(
    run: Run, trained: Path, photo: Path, tmp_path: Path, read_metrics: Callable[[Path], list[dict[str, float]]]
) -> None:
    rows = read_metrics(trained)
    losses = [row for row in rows if "loss" in row]
    assert len(losses) == 2
    assert all(row["loss_center"] == row["loss_offset"] == 0 < row["loss_semantic"] for row in losses)
    assert any(row.get("mIoU", 0) > 0 for row in rows)

    best = trained / "best"
    outcome = run("evaluate", "--model", best, "--device", "cpu", "--json")
    assert "no instance branch" in outcome.err
    report = json.loads(outcome.out)
    assert report["semantic"]["miou"] > 0
    assert report["panoptic"]["things"]["pq"] == 0

    output = tmp_path / "out"
    outcome = run("predict", photo, "--model", best, "--output", output, "--save", "overlay", "panoptic", "semantic")
    assert outcome.code == 0, outcome.err
    with Image.open(output / "photo_semantic.png") as picture:
        semantic = np.asarray(picture)
    predictor = PanopticPredictor.from_pretrained(best, device="cpu")
    assert predictor.engine.model.center_head is None
    result = predictor.predict(photo)
    assert np.array_equal(semantic, result.semantic_map)
    assert not result.instances()

    options = ("--test-time-augmentation.scales", "0.5", "1", "--test-time-augmentation.flip", "--json")
    document = json.loads(run("predict", photo, "--model", best, *options).out)
    assert document["failed"] == []
    assert not any(segment["isthing"] for segment in document["images"][0]["segments_info"])
