import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import load_pretrained
from panoptic_deeplab.training import checkpoint
from panoptic_deeplab.training.checkpoint import (
    TrainingState,
    add_validation,
    check_run_folder,
    finish_replacing,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.optimizer import build_optimizer

CATEGORIES = CategoryTable.load("synthetic")


def _state(config: Config, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    model = PanopticDeepLab(config.model, CATEGORIES.num_classes).to(memory_format=torch.channels_last)
    return TrainingState(
        model=model,
        optimizer=build_optimizer(model, config.train),
        ema=ExponentialMovingAverage(model, decay=0.9),
    )


def _make_step(state: TrainingState) -> None:
    maps = state.model(torch.rand(2, 3, 33, 33))
    sum(map_.square().mean() for map_ in maps).backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    state.ema.update(state.model, state.step)


def _save(run_folder: Path, state: TrainingState, config: Config, *, quality: float | None = None) -> Path:
    folder = save_checkpoint(run_folder, state, config=config, categories=CATEGORIES, model_card="# A model\n")
    if quality is not None:
        _validate(run_folder, state, quality)
    return folder


def _validate(run_folder: Path, state: TrainingState, quality: float) -> None:
    add_validation(run_folder, state, {"PQ": quality, "mIoU": 0.9}, metric="PQ", model_card="# A good model\n")


def test_restored_state_is_equal_and_goes_on_equally(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    _make_step(state)
    _save(tmp_path, state, tiny_config, quality=0.25)
    restored = _state(tiny_config, seed=1)
    assert load_checkpoint(tmp_path, restored, config=tiny_config)
    assert (restored.step, restored.best_metric) == (1, 0.25)
    for current in (state, restored):
        torch.manual_seed(5)
        _make_step(current)
    for name in ("model", "ema.model"):
        ours, theirs = (_module(s, name).state_dict() for s in (state, restored))
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key


def _module(state: TrainingState, name: str) -> torch.nn.Module:
    return state.model if name == "model" else state.ema.model


def test_best_is_a_pretrained_folder_with_the_average(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    _make_step(state)
    _save(tmp_path, state, tiny_config, quality=0.5)
    model, config, categories = load_pretrained(tmp_path / "best")
    assert config == tiny_config
    assert categories == CATEGORIES
    averaged = state.ema.model.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
    assert (tmp_path / "best" / "README.md").read_text() == "# A good model\n"
    assert json.loads((tmp_path / "best" / "validation.json").read_text()) == {"PQ": 0.5, "mIoU": 0.9}


def test_run_folder_can_be_moved(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    _make_step(state)
    _save(tmp_path / "old", state, tiny_config, quality=0.5)
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new" / "last").readlink() == Path("checkpoints/step_000001")
    load_checkpoint(tmp_path / "new", _state(tiny_config), config=tiny_config)


def test_retention_keeps_the_newest_and_the_best(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    for step in (2, 4, 6, 8, 10):
        state.step = step
        _save(tmp_path, state, tiny_config, quality=0.5 if step == 4 else 0.4)
    names = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_000004", "step_000008", "step_000010"]
    assert (tmp_path / "best").resolve().name == "step_000004"
    assert (tmp_path / "last").resolve().name == "step_000010"


def test_best_metric_goes_on_over_checkpoints_without_a_validation(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    state.step = 2
    _save(tmp_path, state, tiny_config, quality=0.5)
    state.step = 3
    _save(tmp_path, state, tiny_config)
    restored = _state(tiny_config)
    assert not load_checkpoint(tmp_path, restored, config=tiny_config)
    assert restored.best_metric == 0.5
    _validate(tmp_path, restored, 0.5)  # not better
    assert (tmp_path / "best").resolve().name == "step_000002"
    assert load_checkpoint(tmp_path, restored, config=tiny_config)
    assert restored.best_metric == 0.5


def test_a_kill_while_writing_leaves_the_old_checkpoint(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _state(tiny_config)
    state.step = 2
    _save(tmp_path, state, tiny_config, quality=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", _fail)
        state.step = 4
        with pytest.raises(OSError, match="disk full"):
            _save(tmp_path, state, tiny_config)
    restored = _state(tiny_config, seed=1)
    load_checkpoint(tmp_path, restored, config=tiny_config)
    assert restored.step == 2
    state.step = 6
    _save(tmp_path, state, tiny_config)
    assert sorted(f.name for f in (tmp_path / "checkpoints").iterdir()) == ["step_000002", "step_000006"]


def test_a_kill_while_replacing_leaves_a_checkpoint_whenever_it_comes(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of the disk but the first ones is the last one once."""
    state = _state(tiny_config)
    state.step = 4
    _save(tmp_path, state, tiny_config, quality=0.5)
    survived = 0
    for num_changes in range(1, 20):
        with monkeypatch.context() as patch:
            _allow_changes(patch, num_changes)
            killed = False
            try:
                _save(tmp_path, state, tiny_config)
            except OSError:
                killed = True
        if not killed:
            break
        survived += 1
        finish_replacing(tmp_path)
        restored = _state(tiny_config)
        load_checkpoint(tmp_path, restored, config=tiny_config)
        assert restored.step == 4
        load_pretrained(tmp_path / "best")
    assert survived >= 4  # two renamings, the link, deleting
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["step_000004"]


def _allow_changes(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let so many renamings and deletions of folders happen, and no more."""
    left = number

    def limited(original: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                _fail()
            return original(*arguments)

        return change

    patch.setattr(Path, "rename", limited(Path.rename))
    patch.setattr(Path, "replace", limited(Path.replace))
    patch.setattr(checkpoint.shutil, "rmtree", limited(shutil.rmtree))


@pytest.mark.parametrize("num_changes", range(4))
def test_a_kill_while_adding_a_validation_is_made_good_by_repeating_it(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_changes: int
) -> None:
    state = _state(tiny_config)
    for step, quality in ((2, 0.3), (4, 0.5)):
        state.step = step
        _save(tmp_path, state, tiny_config, quality=quality if step == 2 else None)
    with monkeypatch.context() as patch:
        _allow_changes(patch, num_changes)  # the card, the link, the result: 3 are all
        if num_changes < 3:
            with pytest.raises(OSError, match="disk full"):
                _validate(tmp_path, state, 0.5)
        else:
            _validate(tmp_path, state, 0.5)
    restored = _state(tiny_config)
    if not load_checkpoint(tmp_path, restored, config=tiny_config):
        assert restored.best_metric == 0.3
        _validate(tmp_path, restored, 0.5)
    assert restored.best_metric == 0.5
    assert (tmp_path / "best").resolve().name == "step_000004"
    assert load_checkpoint(tmp_path, restored, config=tiny_config)


def _fail(*_: object) -> None:
    raise OSError("disk full")


def test_damaged_checkpoint_is_named(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    folder = _save(tmp_path, state, tiny_config)
    for name in ("config.json", "model.safetensors", "ema.safetensors", "training_state.pt"):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path, state, config=tiny_config)
        path.unlink()
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path, state, config=tiny_config)
        path.write_bytes(content)
    load_checkpoint(tmp_path, state, config=tiny_config)


def test_changed_settings_are_named(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    _save(tmp_path, state, tiny_config)
    changed = dataclasses.replace(
        tiny_config,
        train=dataclasses.replace(tiny_config.train, max_steps=99, log_every=1),
        loss=dataclasses.replace(tiny_config.loss, heatmap_lambda=1.0),
    )
    with pytest.raises(ConfigError, match=r"train.max_steps is 99 now, 6 in the run") as caught:
        load_checkpoint(tmp_path, _state(tiny_config), config=changed)
    assert "loss.heatmap_lambda" in str(caught.value)
    assert "train.log_every is" not in str(caught.value)


def test_settings_without_influence_may_change(tiny_config: Config, tmp_path: Path) -> None:
    state = _state(tiny_config)
    state.step = 3
    _save(tmp_path, state, tiny_config)
    changed = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, num_workers=4, root="elsewhere"),
        train=dataclasses.replace(tiny_config.train, log_every=1, keep_checkpoints=5),
    )
    restored = _state(changed)
    load_checkpoint(tmp_path, restored, config=changed)
    assert restored.step == 3


def test_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    check_run_folder(tmp_path, resume=False)  # empty
    check_run_folder(tmp_path / "new", resume=False)
    (tmp_path / "data").mkdir()  # the demo's pictures
    check_run_folder(tmp_path, resume=False)
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="--resume"):
        check_run_folder(tmp_path, resume=False)
    check_run_folder(tmp_path, resume=True)
    assert not has_checkpoint(tmp_path)
