import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE, write_checksums


def _checkpoint(small_run: Any, step: int, *, quality: float | None = None) -> Path:
    state = small_run.state()
    small_run.make_step(state)
    state.step = step
    return small_run.save(state, quality=quality)


FILES = (
    "config.json",
    "categories.json",
    "dataset.json",
    "model.safetensors",
    "ema.safetensors",
    "training_state.pt",
    "validation.json",
)


def test_every_file_that_is_cut_or_changed_by_one_bit_or_missing_is_named(small_run: Any) -> None:
    folder = _checkpoint(small_run, 2, quality=0.5)
    names = {path.name for path in folder.iterdir()}
    assert names == {*FILES, CHECKSUMS_FILE, "README.md"}
    for name in FILES:
        path = folder / name
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        for damaged in (content[:middle], flipped, b""):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=f"{name} is damaged"):
                small_run.load(small_run.state())
        path.unlink()
        if name != "validation.json":  # it is repeated
            with pytest.raises(CheckpointError, match=f"{name} is missing"):
                small_run.load(small_run.state())
        path.write_bytes(content)
    assert small_run.load(small_run.state())


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"model.safetensors": 1}', b"{}", b"[" * 100_000])
def test_a_list_of_checksums_that_is_damaged_or_missing_is_named(small_run: Any, content: bytes | None) -> None:
    path = _checkpoint(small_run, 2) / CHECKSUMS_FILE
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checksums\.json"):
        small_run.load(small_run.state())


def test_the_message_names_the_older_checkpoint_that_is_whole_and_a_command_to_go_on_from_it(
    small_run: Any, tmp_path: Path
) -> None:
    for step in (2, 4):
        _checkpoint(small_run, step)
    newest = tmp_path / "checkpoints" / "step_000006"
    shutil.copytree(tmp_path / "checkpoints" / "step_000004", newest)
    (tmp_path / "last").unlink()
    (tmp_path / "last").symlink_to("checkpoints/step_000006")
    for folder in (newest, tmp_path / "checkpoints" / "step_000004"):
        (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"step_000006/model\.safetensors is damaged") as caught:
        small_run.load(small_run.state())
    assert f"is whole is {tmp_path}/checkpoints/step_000002:" in str(caught.value)
    command = str(caught.value).rpartition("  ")[2]
    subprocess.run(command, shell=True, check=True)
    restored = small_run.state()
    small_run.load(restored)
    assert restored.step == 2


def test_the_message_says_where_no_other_checkpoint_is_whole(small_run: Any) -> None:
    (_checkpoint(small_run, 2) / "training_state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"training_state\.pt is missing\. No older checkpoint"):
        small_run.load(small_run.state())


def test_where_the_link_is_lost_the_newest_is_resumed(small_run: Any, tmp_path: Path) -> None:
    for step in (2, 4):
        _checkpoint(small_run, step)
    (tmp_path / "last").unlink()
    restored = small_run.state()
    small_run.load(restored)
    assert restored.step == 4


def _with(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | values


def _of_one(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """The optimizer's state of the first parameter, changed; None leaves the entry out."""

    def change(content: dict[str, Any]) -> Any:
        entry = next(iter(content["optimizer"].values()))
        entry.pop(key, None)
        if value is not None:
            entry[key] = value
        return content

    return change


def _without_a_parameter(content: dict[str, Any]) -> Any:
    content["optimizer"].pop(next(iter(content["optimizer"])))
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(step=10**9), r"says that 1000000000 steps were made"),
        (_with(step=3), r"says that 3 steps were made"),
        (_with(step=2.0), r"says that 2.0 steps"),
        (_with(step="2"), r"says that '2' steps"),
        (_with(best_metric=float("nan")), r"best metric nan"),
        (_with(best_metric=[0.5]), r"best metric \[0\.5\]"),
        (_with(more=1), "no state of a training"),
        (lambda content: [content], "no state of a training"),
        (_with(optimizer={}), "other parameters"),
        (_with(optimizer=[]), "other parameters"),
        (_without_a_parameter, "other parameters"),
        (_of_one("exp_avg", torch.zeros(1)), r"does not fit \S+: exp_avg is torch\.float32 \(1,\)"),
        (_of_one("exp_avg", torch.zeros(10**6)), "does not fit"),
        (_of_one("exp_avg", None), "instead of exp_avg, exp_avg_sq, step"),
        (_of_one("exp_avg", 1.0), "no dictionary of tensors"),
        (_of_one("momentum_buffer", torch.zeros(1)), "it has exp_avg, exp_avg_sq, momentum_buffer, step"),
        (_of_one("step", torch.tensor(1e9)), "changed 1e"),
        (_of_one("step", torch.zeros(3)), "step is"),
    ],
)
def test_a_state_that_belongs_to_another_run_is_refused(
    small_run: Any, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    folder = _checkpoint(small_run, 2)
    path = folder / "training_state.pt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    write_checksums(folder, {path.name: path})
    with pytest.raises(CheckpointError, match=message):
        small_run.load(small_run.state())


def test_weights_that_are_not_finite_are_refused(small_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from panoptic_deeplab.training.checkpoints import write

    monkeypatch.setattr(write, "not_finite", lambda _: None)
    state = small_run.state()
    small_run.make_step(state)
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    small_run.save(state)
    with pytest.raises(CheckpointError, match="not finite"):
        small_run.load(small_run.state())


@pytest.mark.parametrize("content", ["{}", "[]", '{"PQ": "0.5"}', '{"PQ": 7}', '{"PQ": NaN}'])
def test_a_validation_without_its_metric_is_refused(small_run: Any, content: str) -> None:
    folder = _checkpoint(small_run, 2, quality=0.5)
    path = folder / "validation.json"
    path.write_text(content)
    write_checksums(folder, {path.name: path})
    with pytest.raises(CheckpointError, match=r"validation\.json"):
        small_run.load(small_run.state())


def test_a_run_goes_on_with_its_own_data_only(small_run: Any) -> None:
    _checkpoint(small_run, 2)
    small_run.dataset = json.loads(json.dumps(small_run.dataset))
    small_run.dataset["splits"]["train"]["images"] = 5
    with pytest.raises(ConfigError, match=r"only with its own data.*'train' has 5 images .* it was 4 images"):
        small_run.load(small_run.state())


def test_changed_settings_are_named(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    small_run.save(state)
    changed = dataclasses.replace(
        small_run.config,
        train=dataclasses.replace(small_run.config.train, max_steps=5, log_every=1),
        loss=dataclasses.replace(small_run.config.loss, heatmap_lambda=1.0),
    )
    with pytest.raises(ConfigError, match=r"train.max_steps is 5 now, 6 in the run") as caught:
        small_run.load(small_run.state(), changed)
    assert "loss.heatmap_lambda" in str(caught.value)
    assert "train.log_every is" not in str(caught.value)


def test_settings_without_influence_may_change(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    state.step = 3
    small_run.save(state)
    changed = dataclasses.replace(
        small_run.config,
        data=dataclasses.replace(small_run.config.data, num_workers=4, root="elsewhere"),
        train=dataclasses.replace(small_run.config.train, log_every=1, keep_checkpoints=5),
    )
    restored = small_run.state()
    small_run.load(restored, changed)
    assert restored.step == 3
