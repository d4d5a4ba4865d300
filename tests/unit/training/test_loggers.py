"""TensorBoard, Weights & Biases and MLflow hear of whole runs; all of it stays on this disk."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.errors import ConfigError, MissingDependencyError
from panoptic_deeplab.training.callbacks import Callback
from panoptic_deeplab.training.loggers.to_mlflow import MlflowLogger
from panoptic_deeplab.training.loggers.to_wandb import WandbLogger
from panoptic_deeplab.training.trainer import train

pytestmark = pytest.mark.usefixtures("no_plots")


class KilledError(Exception):
    pass


class Kill(Callback):
    """Ends a run at a step as a fault would."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_validation(self, step: int, report: object) -> None:
        if step == self._step:
            raise KilledError


def _config(config: Config, *loggers: Any) -> Config:
    settings = dataclasses.replace(config.train, max_steps=4, validate_every=2, log_every=1, loggers=loggers)
    return dataclasses.replace(config, train=settings)


def test_settings_name_loggers() -> None:
    assert TrainConfig().loggers == ("tensorboard",)
    assert load_config("demo", {"train.loggers": []}).train.loggers == ()
    assert load_config("demo", {"train.loggers": ["wandb", "mlflow"]}).train.loggers == ("wandb", "mlflow")
    with pytest.raises(ConfigError, match=r"`train\.loggers`.*tensorboard"):
        load_config("demo", {"train.loggers": ["tensorbord"]})
    with pytest.raises(ConfigError, match=r"`train\.loggers` must be different names"):
        TrainConfig(loggers=("wandb", "wandb"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_stops_the_run_before_it_begins(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "panoptic-deeplab\[{name}\]"'):
        train(_config(tiny_config, name), run_folder=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_callbacks_hear_the_start_and_of_every_end(tiny_config: Config, tmp_path: Path) -> None:
    heard: list[Any] = []

    class Listener(Callback):
        def on_start(self, run_folder: Path, config: Config, start_step: int) -> None:
            heard.append((run_folder, config.train.max_steps, start_step))

        def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
            heard.append(step)

        def on_end(self, best: Path) -> None:
            heard.append(best)

        def on_close(self) -> None:
            heard.append("closed")

    config = _config(tiny_config)
    with pytest.raises(KilledError):
        train(config, run_folder=tmp_path, device="cpu", callbacks=[Listener(), Kill(2)])
    assert heard == [(tmp_path, 4, 0), 1, 2, "closed"]
    heard.clear()
    train(config, run_folder=tmp_path, device="cpu", callbacks=[Listener()], resume=True)
    assert heard == [(tmp_path, 4, 2), 3, 4, tmp_path / "best", "closed"]
    assert not list(tmp_path.glob("events.*"))  # no logger is named


def test_tensorboard_shows_numbers_and_images(tiny_config: Config, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(_config(tiny_config, "tensorboard"), run_folder=tmp_path, device="cpu")
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("validation/PQ")] == [2, 4]
    images = events.Images("validation/pictures")
    assert [image.step for image in images] == [2, 4]
    assert images[0].width > 3 * images[0].height  # image, truth, prediction and errors of one image


@pytest.mark.filterwarnings("ignore")  # those of wandb itself
def test_wandb_gets_numbers_and_images_and_a_resumed_run_goes_on(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    begun: list[dict[str, Any]] = []
    logged: list[tuple[int, set[str]]] = []
    ended: list[int] = []
    original = wandb.init

    def init(**options: Any) -> Any:
        run = original(**options)
        begun.append(options)
        log, finish = run.log, run.finish
        run.log = lambda values, step: (logged.append((step, set(values))), log(values, step=step))
        run.finish = lambda exit_code: (ended.append(exit_code), finish(exit_code=exit_code))
        return run

    monkeypatch.setattr(wandb, "init", init)
    config = _config(tiny_config, "wandb")
    with pytest.raises(KilledError):
        train(config, run_folder=tmp_path / "street", device="cpu", callbacks=[Kill(2)])
    train(config, run_folder=tmp_path / "street", device="cpu", resume=True)
    assert ended == [1, 0]
    assert (begun[0]["name"], begun[0]["project"], begun[0]["id"]) == ("street", "panoptic-deeplab", None)
    assert begun[0]["config"]["train"]["max_steps"] == 4
    folders = sorted((tmp_path / "street" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    name = json.loads((tmp_path / "street" / "loggers.json").read_text())["wandb"]
    assert [folder.name.rpartition("-")[2] for folder in folders] == [name, name]
    assert begun[1]["id"] == name
    for folder in folders:
        assert (folder / f"run-{name}.wandb").stat().st_size > 0
        assert list(folder.glob("files/media/images/validation/pictures*.png"))
    assert [step for step, _ in logged] == [1, 2, 2, 3, 4, 4]
    assert {"validation/PQ", "validation/pictures"} <= logged[2][1]
    assert {"training/loss", "training/learning_rate"} <= logged[0][1]


def test_a_refusal_of_wandb_is_one_sentence(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse wandb login.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError, match=r"cannot begin a run: No API key configured\. Use `wandb login`, or set WAN"):
        train(_config(tiny_config), run_folder=tmp_path, device="cpu", callbacks=[WandbLogger()])


@pytest.mark.filterwarnings("ignore")  # those of MLflow itself
def test_mlflow_gets_numbers_and_images_and_a_resumed_run_goes_on(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = _config(tiny_config, "mlflow")
    with pytest.raises(KilledError):
        train(config, run_folder=tmp_path / "street", device="cpu", callbacks=[Kill(2)])
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name("panoptic-deeplab")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("street", "FAILED")
    train(config, run_folder=tmp_path / "street", device="cpu", resume=True)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.max_steps"] == "4"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "training/loss")]
    assert steps == [1, 2, 3, 4]
    assert run.data.metrics["validation/PQ"] >= 0
    assert [file.path for file in client.list_artifacts(run.info.run_id, "validation/step_000004")] == [
        "validation/step_000004/mosaic.png"
    ]

    class Unreachable:
        def log_batch(self, *_: object, **__: object) -> None:
            raise ConnectionError("no route to host")

    logger = MlflowLogger(tracking_uri=uri)
    logger.on_start(tmp_path / "street", config, 4)
    logger._client = Unreachable()
    logger.on_log(5, {"loss": 1.0})
    assert "MLflow does not take what happens, and the training goes on: no route to host" in caplog.text
