import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError, ConfigError, OutputError
from panoptic_deeplab.training.checkpoints import run_folder as module
from panoptic_deeplab.training.checkpoints.run_folder import (
    check_run_folder,
    checkpoints,
    locked,
    newest_checkpoint,
    tidy,
)

MAIN = Process()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_FOR_WORKERS", 0.1)


def test_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    check_run_folder(tmp_path, resume=False)  # empty
    check_run_folder(tmp_path / "new", resume=False)
    (tmp_path / "data").mkdir()  # the demo's pictures
    check_run_folder(tmp_path, resume=False)
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="--resume"):
        check_run_folder(tmp_path, resume=False)
    check_run_folder(tmp_path, resume=True)
    assert newest_checkpoint(tmp_path) is None
    with pytest.raises(ConfigError, match="is a file"):
        check_run_folder(tmp_path / "something", resume=True)


def _step(run_folder: Path, name: str) -> Path:
    folder = run_folder / "checkpoints" / name
    folder.mkdir(parents=True)
    return folder


def test_other_things_beside_checkpoints_are_left_alone(tmp_path: Path) -> None:
    expected = [_step(tmp_path, name) for name in ("step_000002", "step_000010", "step_1000000")]
    for name in ("step_backup", "step_", "mine"):
        _step(tmp_path, name)
    (tmp_path / "checkpoints" / "step_000011").touch()  # no folder
    assert checkpoints(tmp_path) == expected


def test_the_link_decides_which_checkpoint_is_the_newest(tmp_path: Path) -> None:
    older, newer = _step(tmp_path, "step_000002"), _step(tmp_path, "step_000004")
    link = tmp_path / "last"
    link.symlink_to("checkpoints/step_000002")
    assert newest_checkpoint(tmp_path) == older
    older.rmdir()
    assert newest_checkpoint(tmp_path) == newer
    link.unlink()
    assert newest_checkpoint(tmp_path) == newer


def test_a_link_that_leads_elsewhere_is_an_error(tmp_path: Path) -> None:
    _step(tmp_path, "step_000002")
    link = tmp_path / "last"
    for target in (_step(tmp_path / "other", "step_000004"), _step(tmp_path, "mine")):
        link.symlink_to(target)
        with pytest.raises(CheckpointError, match=r"last must be a link .* Remove it"):
            newest_checkpoint(tmp_path)
        link.unlink()
    link.mkdir()  # as tools leave it that copy what links point to
    with pytest.raises(CheckpointError, match="last must be a link"):
        newest_checkpoint(tmp_path)


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = _step(tmp_path, "step_000002")
    unfinished = [tmp_path / ".metrics.a1b2c3d4.csv", folder / ".validation.abcdefgh.json"]
    kept = [tmp_path / ".gitignore", tmp_path / ".notes.txt", tmp_path / "metrics.csv", folder / "model.safetensors"]
    for path in (*unfinished, *kept):
        path.touch()
    _step(tmp_path, ".writing_xyz")
    (_step(tmp_path, ".replaced_step_000002") / "old").touch()
    (_step(tmp_path, ".replaced_step_000004") / "whole").touch()
    for name in (".writing_step_000009", ".replaced_step_000009"):
        (tmp_path / "checkpoints" / name).touch()  # a copy to a disk without links, a hand: no folder
    tidy(tmp_path)
    assert not any(path.exists() for path in unfinished)
    assert all(path.exists() for path in kept)
    assert sorted(f.name for f in (tmp_path / "checkpoints").iterdir()) == ["step_000002", "step_000004"]


def test_a_second_training_is_told_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder, MAIN):
        owner = json.loads((folder / ".lock.json").read_text())
        message = rf"in use .*\(process {os.getpid()} on {owner['host']}, since 20"
        with pytest.raises(ConfigError, match=message), locked(folder, MAIN):
            raise AssertionError
        (folder / ".lock.json").write_text("[")  # not written yet, or damaged
        with pytest.raises(ConfigError, match=r"in use by another training\. "), locked(folder, MAIN):
            raise AssertionError
        (folder / "metrics.csv").touch()
    with locked(folder, MAIN):
        pass
    assert not (folder / ".lock.json").exists()


def test_a_folder_in_the_place_of_the_owner_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".lock.json").mkdir()
    with pytest.raises(OutputError, match=r"lock\.json cannot be written: Is a directory"), locked(tmp_path, MAIN):
        pass


def test_only_the_first_process_locks(tmp_path: Path) -> None:
    with locked(tmp_path, MAIN), locked(tmp_path, Process(rank=1)):
        pass


def test_a_folder_in_which_nothing_was_written_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "new", MAIN):
        raise KeyError
    assert not (tmp_path / "new").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    with locked(mine, MAIN):
        pass
    assert mine.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    with pytest.raises(OutputError, match=r"file/run cannot be written to: Not a dir"), locked(folder, MAIN):
        raise AssertionError


_HOLD = """
import sys, time
from pathlib import Path
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.training.checkpoints.run_folder import locked
with locked(Path(sys.argv[1]), Process()):
    print("locked", flush=True)
    time.sleep(300)
"""


def test_the_lock_of_a_killed_training_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=rf"process {process.pid} "), locked(tmp_path, MAIN):
            raise AssertionError
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert (tmp_path / ".lock.json").exists()
    with locked(tmp_path, MAIN):
        assert json.loads((tmp_path / ".lock.json").read_text())["process"] == os.getpid()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_worker_that_lives_on_does_not_hold_the_lock_of_this_process(tmp_path: Path) -> None:
    with locked(tmp_path, MAIN):
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
        worker.start()
    try:
        with locked(tmp_path, MAIN):
            pass
    finally:
        worker.kill()
        worker.join()
