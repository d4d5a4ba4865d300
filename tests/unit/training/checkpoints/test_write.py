import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab.errors import OutputError, TrainingError
from panoptic_deeplab.training.checkpoints import write
from panoptic_deeplab.training.checkpoints.run_folder import tidy
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.weights.checksums import check_files, read_checksums
from panoptic_deeplab.weights.open import open_pretrained

CHANGES_OF_A_VALIDATION = 10
"""The card; checksums, result and checksums of the new `best`; its folders; the result, and the checksums."""


def test_restored_state_is_equal_and_goes_on_equally(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    small_run.make_step(state)
    small_run.save(state, quality=0.25)
    restored = small_run.state(seed=1)
    assert small_run.load(restored)
    assert (restored.step, restored.best_metric) == (1, 0.25)
    for current in (state, restored):
        torch.manual_seed(5)
        small_run.make_step(current)
    for name in ("model", "ema.model"):
        ours, theirs = (_module(s, name).state_dict() for s in (state, restored))
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key


def _module(state: TrainingState, name: str) -> torch.nn.Module:
    return state.model if name == "model" else state.ema.model


def test_best_is_a_pretrained_folder_with_the_average(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    small_run.make_step(state)
    small_run.save(state, quality=0.5)
    model, config, categories = open_pretrained(tmp_path / "best")
    assert config == small_run.config
    assert categories == small_run.categories
    averaged = state.ema.model.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
    assert (tmp_path / "best" / "README.md").read_text() == "# A good model\n"
    assert json.loads((tmp_path / "best" / "validation.json").read_text()) == {"PQ": 0.5, "mIoU": 0.9}


def test_run_folder_can_be_moved(small_run: Any, tmp_path: Path) -> None:
    small_run.folder = tmp_path / "old"
    state = small_run.state()
    small_run.make_step(state)
    small_run.save(state, quality=0.5)
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new" / "last").readlink() == Path("checkpoints/step_000001")
    small_run.folder = tmp_path / "new"
    small_run.load(small_run.state())


def test_retention_keeps_the_newest_and_the_best(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    for step in (2, 4, 6, 8, 10):
        state.step = step
        small_run.save(state, quality=0.5 if step == 4 else 0.4)
    names = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_000008", "step_000010"]
    assert _pq_of_best(tmp_path) == 0.5
    open_pretrained(tmp_path / "best")
    assert (tmp_path / "last").resolve().name == "step_000010"


def test_best_metric_goes_on_over_checkpoints_without_a_validation(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    state.step = 2
    small_run.save(state, quality=0.5)
    state.step = 3
    small_run.save(state)
    restored = small_run.state()
    assert not small_run.load(restored)
    assert restored.best_metric == 0.5
    small_run.validate(restored, 0.5)  # not better
    assert not _is_best(tmp_path, "step_000003")
    assert small_run.load(restored)
    assert restored.best_metric == 0.5


def test_a_kill_while_writing_leaves_the_old_checkpoint(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = small_run.state()
    state.step = 2
    small_run.save(state, quality=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(write.torch, "save", _fail)
        state.step = 4
        with pytest.raises(OSError, match="disk full"):
            small_run.save(state)
    restored = small_run.state(seed=1)
    small_run.load(restored)
    assert restored.step == 2
    state.step = 6
    small_run.save(state)
    assert sorted(f.name for f in (tmp_path / "checkpoints").iterdir()) == ["step_000002", "step_000006"]


def test_a_kill_while_replacing_leaves_a_checkpoint_whenever_it_comes(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of the disk but the first ones is the last one once."""
    state = small_run.state()
    state.step = 4
    small_run.save(state, quality=0.5)
    survived = 0
    for num_changes in range(1, 60):
        with monkeypatch.context() as patch:
            _allow_changes(patch, num_changes)
            killed = False
            try:
                small_run.save(state)
            except OSError:
                killed = True
        if not killed:
            break
        survived += 1
        tidy(tmp_path)
        restored = small_run.state()
        small_run.load(restored)
        assert restored.step == 4
        open_pretrained(tmp_path / "best")
    assert survived >= 4  # two renamings, the link, deleting
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["step_000004"]


def _allow_changes(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let so many renamings and deletions of folders happen, and no more."""
    left = number

    def limited(original: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                _fail()
            return original(*arguments, **keywords)

        return change

    patch.setattr(Path, "rename", limited(Path.rename))
    patch.setattr(Path, "replace", limited(Path.replace))
    patch.setattr(write.shutil, "rmtree", limited(shutil.rmtree))


@pytest.mark.parametrize("num_changes", range(12))
def test_a_kill_while_adding_a_validation_is_made_good_by_repeating_it(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_changes: int
) -> None:
    state = small_run.state()
    for step, quality in ((2, 0.3), (4, 0.5)):
        state.step = step
        small_run.save(state, quality=quality if step == 2 else None)
    with monkeypatch.context() as patch:
        _allow_changes(patch, num_changes)
        killed = False
        try:
            small_run.validate(state, 0.5)
        except OSError:
            killed = True
    assert killed == (num_changes < CHANGES_OF_A_VALIDATION)
    tidy(tmp_path)
    open_pretrained(tmp_path / "best")
    restored = small_run.state()
    if not small_run.load(restored):
        assert restored.best_metric == 0.3
        small_run.validate(restored, 0.5)
    assert restored.best_metric == 0.5
    assert _is_best(tmp_path, "step_000004")
    assert small_run.load(restored)


def _pq_of_best(run_folder: Path) -> float:
    return json.loads((run_folder / "best" / "validation.json").read_text())["PQ"]


def _is_best(run_folder: Path, name: str) -> bool:
    """Whether the files of `best` are those of a checkpoint."""
    return (run_folder / "best" / "config.json").samefile(run_folder / "checkpoints" / name / "config.json")


def _fail(*_: object) -> None:
    raise OSError("disk full")


def _poison_weight(state: TrainingState) -> None:
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))


def _poison_statistics(state: TrainingState) -> None:
    next(b for name, b in state.model.named_buffers() if name.endswith("running_var")).fill_(float("inf"))


def _poison_average(state: TrainingState) -> None:
    assert state.ema is not None
    _poison_weight(TrainingState(model=state.ema.model, optimizer=state.optimizer, ema=None))


def _poison_optimizer(state: TrainingState) -> None:
    next(iter(state.optimizer.state.values()))["exp_avg"].fill_(float("nan"))


@pytest.mark.parametrize(
    ("poison", "name"),
    [
        (_poison_weight, r"\(backbone\.\S+weight\)"),
        (_poison_statistics, r"running_var\)"),
        (_poison_average, r"the average of backbone"),
        (_poison_optimizer, r"the optimizer's exp_avg of backbone"),
    ],
)
def test_what_is_not_finite_never_becomes_a_checkpoint(
    small_run: Any, tmp_path: Path, poison: Callable[[TrainingState], None], name: str
) -> None:
    state = small_run.state()
    small_run.make_step(state)
    good = small_run.save(state)
    small_run.make_step(state)
    poison(state)
    with pytest.raises(TrainingError, match=rf"Step 2 .*not finite.*{name}.*--model\.weights {good}"):
        small_run.save(state)
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    small_run.load(small_run.state())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_leaves_no_half_checkpoint(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    state = small_run.state()
    state.step = 2
    good = small_run.save(state, quality=0.5)

    def fail(content: Any, path: Path) -> None:
        Path(path).write_bytes(b"the first part")
        raise error

    state.step = 4
    with monkeypatch.context() as patch:
        patch.setattr(write.torch, "save", fail)
        with pytest.raises(OutputError, match=rf"/step_000004/training_state\.pt cannot be.*from {good}\."):
            small_run.save(state)
    assert [f.name for f in (tmp_path / "checkpoints").iterdir()] == ["step_000002"]
    restored = small_run.state(seed=1)
    small_run.load(restored)
    assert restored.step == 2


def test_what_a_kill_left_half_written_is_removed_before_room_is_needed(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = tmp_path / "checkpoints" / ".writing_abc"
    unfinished.mkdir(parents=True)
    there: list[bool] = []
    original = write.write_folder

    def look(*arguments: Any, **keywords: Any) -> None:
        there.append(unfinished.exists())
        original(*arguments, **keywords)

    monkeypatch.setattr(write, "write_folder", look)
    state = small_run.state()
    state.step = 2
    small_run.save(state)
    assert there == [False]


def test_a_best_that_is_gone_is_replaced_by_any_other(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    state.step = 2
    small_run.save(state, quality=0.5)
    shutil.rmtree(tmp_path / "best")
    state.step = 4
    small_run.save(state, quality=0.4)
    assert _is_best(tmp_path, "step_000004")
    assert state.best_metric == 0.5


@pytest.mark.parametrize("name", ["last", ".last_new"])
def test_a_folder_in_the_place_of_a_link_is_one_sentence(small_run: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    state = small_run.state()
    small_run.make_step(state)
    with pytest.raises(OutputError, match=r"last cannot be written: Is a directory\. Remove what is there\."):
        small_run.save(state)


def test_what_is_no_model_is_not_replaced_by_best(small_run: Any, tmp_path: Path) -> None:
    state = small_run.state()
    small_run.make_step(state)
    small_run.save(state)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"best cannot be written: what is there is no model folder\. Remove it\."):
        small_run.validate(state, 0.5)
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("hard_links", [True, False])
def test_best_is_a_model_wherever_it_is_copied(
    small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr("os.link", _fail)
    state = small_run.state()
    small_run.make_step(state)
    checkpoint_folder = small_run.save(state, quality=0.5)
    subprocess.run(["cp", "-r", tmp_path / "best", tmp_path / "copy"], check=True)
    shutil.rmtree(checkpoint_folder)
    for folder in (tmp_path / "best", tmp_path / "copy"):
        open_pretrained(folder)
        sums = read_checksums(folder)
        check_files(folder, sums, sums)
        names = ("model.safetensors", "ema.safetensors", "config.json", "categories.json", "dataset.json", "README.md")
        assert {path.name for path in folder.iterdir()} == {*names, "validation.json", "checksums.json"}
