"""`best`: the model folder of the best validation, as a folder with files of its own.

A link would be a model only where it lies: `cp -r runs/street/best elsewhere` copies the link, which then points to
nothing. Where the disk has hard links, the files are such to those of the checkpoint, and take no room while that is
kept; elsewhere they are copies. The state of the optimizer is left out: nobody predicts with it.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from panoptic_deeplab.errors import OutputError
from panoptic_deeplab.files import write_json
from panoptic_deeplab.training.checkpoints.run_folder import BEST, REPLACED, STATE_FILE, VALIDATION_FILE, WRITING
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE, read_checksums, write_checksums
from panoptic_deeplab.weights.folder import CONFIG_FILE

_OWN = (STATE_FILE, VALIDATION_FILE, CHECKSUMS_FILE)
"""What is not taken from the checkpoint."""


def write_best(run_folder: Path, checkpoint: Path, metrics: Mapping[str, float]) -> None:
    """Let `best` be the model folder of a checkpoint.

    Args:
        run_folder: the folder of the run. A kill leaves the old `best` or the new one, at the latest after `tidy`.
        checkpoint: a whole one of this run.
        metrics: what was measured of it, by name, in [0, 1].

    Raises:
        OutputError: the system refuses to write, or what stands in the place is no model folder; the old one stays.
    """
    best, temporary, replaced = (run_folder / f"{prefix}{BEST}" for prefix in ("", WRITING, REPLACED))
    if best.exists() and not (best / CONFIG_FILE).is_file():
        raise OutputError(f"{best} cannot be written: what is there is no model folder. Remove it.")
    sums = read_checksums(checkpoint)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for path in checkpoint.iterdir():
            if path.name not in _OWN and not path.name.startswith("."):
                _link_or_copy(path, temporary / path.name)
        write_json(temporary / CHECKSUMS_FILE, {n: s for n, s in sums.items() if n not in _OWN}, indent=2)
        write_json(temporary / VALIDATION_FILE, dict(metrics), indent=2)
        write_checksums(temporary, {VALIDATION_FILE: temporary / VALIDATION_FILE})
        if best.exists():
            best.rename(replaced)
        temporary.rename(best)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        said = str(error) if isinstance(error, OutputError) else f"{best} cannot be written: {error}. Make room."
        raise OutputError(said) from error


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links, as many of the network and all of FAT
        shutil.copyfile(source, target)
