"""The run folder: what lies where, which checkpoint is the newest, and that it is used by one training at a time.

    runs/street/
    ├── config.yaml              complete, resolved; `train runs/street/config.yaml --run-folder NEW` repeats the run
    ├── environment.json         command, versions, commit, hardware, world size: one entry a start
    ├── metrics.csv              one row per log step; events.out.tfevents... beside it (`train.loggers`)
    ├── labels.png  train_batch.png            what the network is fed: look here first
    ├── validation/step_001000/  report.html (the worst images first), report.json, table.txt, ...
    ├── curves.png
    ├── checkpoints/step_001000/ see `write.py`
    ├── last -> checkpoints/step_001000
    └── best/                    a model folder for `PanopticPredictor.from_pretrained`, to copy and move; see `best.py`

Everything is written beside its place and renamed into it. What kills leave half-written is removed when the run goes
on, and before a checkpoint needs room.
"""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from panoptic_deeplab.distributed import Process, barrier, of_main_process
from panoptic_deeplab.errors import CheckpointError, ConfigError, OutputError
from panoptic_deeplab.files import read_json, write_json

CHECKPOINTS, LAST, BEST = "checkpoints", "last", "best"
CONFIG_YAML, CURVES_PICTURE = "config.yaml", "curves.png"
LABELS_PICTURE, BATCH_PICTURE = "labels.png", "train_batch.png"
STATE_FILE, VALIDATION_FILE = "training_state.pt", "validation.json"
"""Files of a checkpoint."""
WRITING, REPLACED = ".writing_", ".replaced_"
"""How folders of checkpoints, and `best`, begin that are not whole, or have a successor."""

_LOCK, _OWNER = ".lock", ".lock.json"
_SECONDS_FOR_WORKERS = 6.0
"""Loader processes notice within 5 s that their training was killed, and hold its lock until then."""

_STEP = re.compile(r"step_(\d+)")
_UNFINISHED = re.compile(r"\.[^.]+\.[a-z0-9_]{8}\.(yaml|json|csv|png|txt)")
"""What `files.written_whole` calls a file while it is written."""


def step_of(folder: Path) -> int | None:
    """The step of a checkpoint's folder; None for what is no such folder."""
    match = _STEP.fullmatch(folder.name)
    return int(match[1]) if match and folder.is_dir() else None


def checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    steps = {folder: step_of(folder) for folder in (run_folder / CHECKPOINTS).glob("step_*")}
    return sorted((f for f, step in steps.items() if step is not None), key=lambda f: steps[f] or 0)


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The folder that `last` points to; where that is gone, the newest one. None if there is none.

    Raises:
        CheckpointError: `last` is no link to a checkpoint of this run.
    """
    link = run_folder / LAST
    if not link.exists():
        found = checkpoints(run_folder)
        return found[-1].resolve() if found else None
    folder = link.resolve()
    if not link.is_symlink() or folder.parent != (run_folder / CHECKPOINTS).resolve() or step_of(folder) is None:
        raise CheckpointError(
            f"{link} must be a link to one of the folders {run_folder / CHECKPOINTS}/step_NNNNNN. Remove it, and"
            " --resume goes on from the newest of them."
        )
    return folder


def validation_folder(run_folder: Path, step: int) -> Path:
    """The folder of what was measured after so many steps."""
    return run_folder / "validation" / f"step_{step:06d}"


def check_run_folder(run_folder: Path, *, resume: bool) -> None:
    """See that no run is overwritten, or raise a `ConfigError`. A folder `data` in it, as the demo has, is no run."""
    if not run_folder.exists():
        return
    if not run_folder.is_dir():
        raise ConfigError(f"The run folder {run_folder} is a file. Choose another --run-folder.")
    if not resume and any(entry.name not in ("data", _LOCK, _OWNER) for entry in run_folder.iterdir()):
        raise ConfigError(
            f"The run folder {run_folder} exists and is not empty. Go on with that run by --resume, or choose another"
            " --run-folder."
        )


def tidy(run_folder: Path) -> None:
    """Remove what a kill has left half-written; of a folder that was being replaced, one of the two stays."""
    folder = run_folder / CHECKPOINTS
    for place in (folder, run_folder):
        for replaced in place.glob(f"{REPLACED}*"):
            original = replaced.with_name(replaced.name.removeprefix(REPLACED))
            if original.exists() or not replaced.is_dir():
                _remove(replaced)
            else:
                replaced.rename(original)
        for unfinished in place.glob(f"{WRITING}*"):
            _remove(unfinished)
    for place in (run_folder, *folder.glob("step_*"), *run_folder.glob("validation/step_*")):
        for path in place.glob(".*.*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def locked(run_folder: Path, process: Process) -> Iterator[None]:
    """Make the run folder, and keep every other training out of it; all processes of a training enter it together.

    What kills have left half-written is removed. The system gives the lock back when the training ends, however it
    does. A folder in which nothing was written is removed again.

    Raises:
        ConfigError: another training has the folder; the message says which.
        OutputError: the folder cannot be made.
    """
    with ExitStack() as stack:
        of_main_process(process, lambda: stack.enter_context(_locked_by_main(run_folder)))
        yield
        barrier()  # the others may still read


@contextmanager
def _locked_by_main(run_folder: Path) -> Iterator[None]:
    check_run_folder(run_folder, resume=True)
    is_new = not run_folder.exists()
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run_folder / _LOCK, timeout=_SECONDS_FOR_WORKERS)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"The run folder {run_folder} is in use by another training{_owner(run_folder)}. Wait for its end, stop it,"
            " or choose another --run-folder."
        ) from error
    except OSError as error:
        said = error.strerror or str(error)
        raise OutputError(f"The run folder {run_folder} cannot be written to: {said}. Choose another one.") from error
    try:
        tidy(run_folder)  # before there is need of room
        owner = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(run_folder / _OWNER, owner)
        yield
    finally:
        with suppress(OSError):  # it is no file, which `write_json` has said
            (run_folder / _OWNER).unlink()
        if is_new and {entry.name for entry in run_folder.iterdir()} <= {_LOCK}:
            (run_folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # somebody has put a file there meanwhile
                run_folder.rmdir()
        lock.release()


def _owner(run_folder: Path) -> str:
    """Who has the folder, for the message; nothing where that training has not said it yet."""
    try:
        owner = read_json(run_folder / _OWNER, what="owner of the lock", error=ConfigError)
        return f" (process {owner['process']} on {owner['host']}, since {owner['since']})"
    except (ConfigError, LookupError, TypeError):
        return ""
