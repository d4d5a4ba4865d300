"""Whole runs; the parts are tested in the other files of this folder."""

import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.loader import Batch
from panoptic_deeplab.errors import ConfigError, DatasetError, MissingDependencyError, StoppedBySignal, TrainingError
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.training import trainer, validation
from panoptic_deeplab.training.losses import LossTerms
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.trainer import train

ReadMetrics = Callable[[Path], list[dict[str, float]]]


class KilledError(Exception):
    pass


def _demanding(config: Config, **train: Any) -> Config:
    """Everything that could make resuming inexact: dropout, an average, passes, an unfinished epoch."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, aspp_dropout=0.3),
        train=dataclasses.replace(
            config.train, **{"max_steps": 5, "ema_decay": 0.9, "images_at_once": 3, "batch_size": 6, **train}
        ),
    )


def _after_step(step: int, action: Callable[[], None]) -> Callable[..., LossTerms]:
    """`optimization_step` that does something more once `step` is made."""
    original = trainer.optimization_step

    def wrapped(*arguments: Any, **keywords: Any) -> LossTerms:
        terms = original(*arguments, **keywords)
        if arguments[2].step == step:
            action()
        return terms

    return wrapped


def _kill() -> None:
    raise KilledError


@pytest.fixture(scope="module")
def reference(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "reference"
    assert train(_demanding(tiny_config), run_folder=folder, device="cpu") == folder / "best"
    return folder


def _assert_equal_weights(folder: Path, reference: Path) -> None:
    for name in ("model.safetensors", "ema.safetensors"):
        ours, theirs = load_file(folder / "last" / name), load_file(reference / "last" / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_run_folder_is_complete_and_can_be_used(
    tiny_config: Config, reference: Path, read_metrics: ReadMetrics
) -> None:
    folder = reference
    assert load_config(folder / "config.yaml") == _demanding(tiny_config)
    files = ("environment.json", "labels.png", "train_batch.png", "curves.png", "metrics.csv")
    assert [name for name in files if not (folder / name).is_file()] == []
    last_validation = folder / "validation" / "step_000005"
    assert {f.name for f in last_validation.iterdir()} == {
        *("report.json", "report.html", "table.txt", "mosaic.png", "per_class_pq.png")
    }
    rows = read_metrics(folder)
    assert [int(row["step"]) for row in rows] == [2, 3, 4, 5]
    assert [int(row["step"]) for row in rows if "PQ" in row] == [3, 5]
    measured = json.loads((last_validation / "report.json").read_text())
    assert rows[-1]["mIoU"] == pytest.approx(measured["semantic"]["miou"]) != 0
    predictor = PanopticPredictor.from_pretrained(folder / "best", device="cpu")
    assert predictor.predict(torch.rand(3, 40, 60)).size == (40, 60)


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resuming_after_a_kill_gives_the_same_weights(
    tiny_config: Config,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_metrics: ReadMetrics,
    num_workers: int,
) -> None:
    config = _demanding(tiny_config)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, num_workers=num_workers))
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "optimization_step", _after_step(4, _kill))
        with pytest.raises(KilledError):
            train(config, run_folder=tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "last").resolve().name == "step_000003"
    train(config, run_folder=tmp_path / "run", resume=True, device="cpu")
    _assert_equal_weights(tmp_path / "run", reference)
    without_speed = [
        [{k: v for k, v in row.items() if k not in ("images_per_second", "data_wait_share")} for row in rows]
        for rows in map(read_metrics, (tmp_path / "run", reference))
    ]
    assert [row["step"] for row in without_speed[0]] == [row["step"] for row in without_speed[1]]
    assert without_speed[0][-1] == without_speed[1][-1]


@pytest.mark.usefixtures("no_plots")
def test_a_signal_stops_after_the_step_with_a_checkpoint(
    tiny_config: Config, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _demanding(tiny_config)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "optimization_step", _after_step(2, lambda: signal.raise_signal(signal.SIGTERM)))
        with pytest.raises(StoppedBySignal, match="after step 2") as caught:
            train(config, run_folder=tmp_path, device="cpu")
    assert caught.value.number == signal.SIGTERM
    assert (tmp_path / "last").resolve().name == "step_000002"
    train(config, run_folder=tmp_path, resume=True, device="cpu")
    _assert_equal_weights(tmp_path, reference)


@pytest.mark.usefixtures("no_plots")
def test_a_signal_stops_a_validation_at_once(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, val_split="val:3"),
        train=dataclasses.replace(tiny_config.train, max_steps=1),
    )
    predicted = []
    original = PanopticPredictor.predict

    def predict(*arguments: Any, **keywords: Any) -> Any:
        predicted.append(1)
        signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(PanopticPredictor, "predict", predict)
        with pytest.raises(StoppedBySignal, match="in the validation after step 1, whose checkpoint is written"):
            train(config, run_folder=tmp_path, device="cpu")
    assert predicted == [1]
    assert train(config, run_folder=tmp_path, resume=True, device="cpu") == tmp_path / "best"
    assert (tmp_path / "best" / "validation.json").exists()


@pytest.mark.usefixtures("no_plots")
def test_weights_that_a_step_has_made_nan_stop_the_run_before_they_are_saved(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer.optimization_step

    def poisoned(network: torch.nn.Module, loss: Any, state: TrainingState, batch: Batch, **keywords: Any) -> LossTerms:
        terms = original(network, loss, state, batch, **keywords)
        if state.step == 3:  # which is saved and validated
            with torch.no_grad():
                next(network.center_head.parameters()).fill_(float("nan"))
        return terms

    monkeypatch.setattr(trainer, "optimization_step", poisoned)
    with pytest.raises(TrainingError, match="Step 3 has made weights that are not finite"):
        train(tiny_config, run_folder=tmp_path, device="cpu")
    assert not list((tmp_path).glob("checkpoints/*"))


def test_a_damaged_validation_image_is_found_before_the_run_begins(tiny_config: Config, tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco_panoptic(trainer.open_source(tiny_config.data, "train:2"), tmp_path / "set", split)
    path = sorted((tmp_path / "set" / "val").iterdir())[1]
    path.write_bytes(path.read_bytes()[:200])
    data = dataclasses.replace(
        tiny_config.data, format="coco_panoptic", root=str(tmp_path / "set"), train_split="train", val_split="val"
    )
    config = dataclasses.replace(tiny_config, data=data)
    with pytest.raises(DatasetError, match=rf"1 of 2 images of the split 'val' cannot be used.*{path.name}"):
        train(config, run_folder=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_plots")
def test_checkpoints_are_written_between_validations(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_MINUTES", 0.0)
    monkeypatch.setattr(trainer, "optimization_step", _after_step(2, _kill))
    with pytest.raises(KilledError):
        train(tiny_config, run_folder=tmp_path, device="cpu")
    assert (tmp_path / "last").resolve().name == "step_000001"
    assert not (tmp_path / "best").exists()


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("step", [3, 5])
def test_a_validation_that_fails_is_made_up_for_on_resume(
    tiny_config: Config,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_metrics: ReadMetrics,
    step: int,
) -> None:
    original = trainer.validate

    def fails_once(state: TrainingState, *arguments: Any, **keywords: Any) -> validation.Validation:
        if state.step == step:
            raise KilledError
        return original(state, *arguments, **keywords)

    config = _demanding(tiny_config)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "validate", fails_once)
        with pytest.raises(KilledError):
            train(config, run_folder=tmp_path, device="cpu")
    assert (tmp_path / "last").resolve().name == f"step_00000{step}"
    assert (tmp_path / "best").exists() == (step == 5)
    assert train(config, run_folder=tmp_path, resume=True, device="cpu") == tmp_path / "best"
    _assert_equal_weights(tmp_path, reference)
    cards = [(folder / "best" / "README.md").read_text() for folder in (tmp_path, reference)]
    assert cards[0] == cards[1]
    rows = [{row["step"]: row["PQ"] for row in read_metrics(f) if "PQ" in row} for f in (tmp_path, reference)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2
    cards = [(folder / "last" / "README.md").read_text() for folder in (tmp_path, reference)]
    assert "Measured on the split `val:1`" in cards[0]


def test_settings_that_validation_cannot_use_stop_the_run_before_it_begins(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DatasetError("no labels")

    monkeypatch.setattr(trainer, "check_validation", refuse)
    with pytest.raises(DatasetError, match="no labels"):
        train(tiny_config, run_folder=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_missing_package_stops_the_run_before_it_begins(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError):
        train(tiny_config, run_folder=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_plots")
def test_resuming_without_a_checkpoint_is_warned_about(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = dataclasses.replace(tiny_config, train=dataclasses.replace(tiny_config.train, max_steps=1))
    with caplog.at_level(logging.WARNING):
        train(config, run_folder=tmp_path / "run", resume=True, device="cpu")
    assert f"no checkpoint in {tmp_path / 'run'} to go on from: training starts at step 0" in caplog.text


@pytest.mark.usefixtures("no_plots")
def test_loss_that_is_not_finite_stops_the_run_and_says_what_to_do(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, images = trainer.optimization_step, []

    def poisoned(network: torch.nn.Module, loss: Any, state: TrainingState, batch: Batch, **keywords: Any) -> LossTerms:
        if state.step == 1:
            images.extend(batch.image_ids)
            with torch.no_grad():
                next(network.center_head.parameters()).fill_(float("nan"))
        return original(network, loss, state, batch, **keywords)

    monkeypatch.setattr(trainer, "optimization_step", poisoned)
    with pytest.raises(TrainingError, match="The center loss of step 2 is not finite") as caught:
        train(tiny_config, run_folder=tmp_path, device="cpu")
    assert len(images) == 2
    assert f"images: {', '.join(images)}." in str(caught.value)
    for advice in ("train.learning_rate", "train.clip_gradient_norm", "panoptic-deeplab data check"):
        assert advice in str(caught.value)
    assert not (tmp_path / "last").exists()


def test_one_process_has_plain_batch_norm(tiny_config: Config) -> None:
    config = dataclasses.replace(tiny_config, train=dataclasses.replace(tiny_config.train, batch_norm="sync"))
    categories = CategoryTable.load("synthetic")
    state = trainer._new_state(config, categories, trainer.Process(), with_weights=False)
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in state.model.modules())


def test_small_batches_are_warned_about(tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = trainer.open_source(tiny_config.data, "train:2")
    with caplog.at_level(logging.WARNING):
        trainer._start_run_folder(tmp_path, tiny_config, source, trainer.Process(), start_step=1)
    assert "sees 2 images at once" in caplog.text


def test_sets_in_python_come_together_and_agree(tiny_config: Config, tmp_path: Path) -> None:
    source, other = SyntheticSource(1, size=(32, 32)), SyntheticSource(1, size=(32, 32))
    for one in ({"source": source}, {"validation_source": source}):
        with pytest.raises(ConfigError, match="Pass both or neither"):
            train(tiny_config, run_folder=tmp_path / "a", device="cpu", **one)
    other.categories = dataclasses.replace(source.categories, categories=source.categories.categories[::-1])
    with pytest.raises(ConfigError, match="must have the same `categories`"):
        train(tiny_config, run_folder=tmp_path / "b", device="cpu", source=source, validation_source=other)


def test_a_run_on_a_set_in_python_claims_no_folder(tiny_config: Config, tmp_path: Path, no_plots: None) -> None:
    config = dataclasses.replace(tiny_config, train=dataclasses.replace(tiny_config.train, max_steps=1))
    sources = {"source": SyntheticSource(2, size=(64, 128)), "validation_source": SyntheticSource(1, size=(64, 128))}
    best = train(config, run_folder=tmp_path, device="cpu", **sources)
    assert json.loads((best / "dataset.json").read_text("utf-8"))["format"] == "python"


@pytest.mark.parametrize("width", [10**9, 2**62])
def test_a_network_larger_than_memory_is_one_sentence(tmp_path: Path, tiny_config: Config, width: int) -> None:
    config = dataclasses.replace(tiny_config, model=dataclasses.replace(tiny_config.model, aspp_channels=width))
    with pytest.raises(ConfigError, match=r"`model` describes a network of more than the \d+ GB"):
        train(config, run_folder=tmp_path / "run", device="cpu")
