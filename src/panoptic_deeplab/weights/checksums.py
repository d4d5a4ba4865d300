"""`checksums.json` of a checkpoint: whether its files are those that were written.

A disk that fails, a copy that was cut and a flipped bit change weights without any other sign. The file is written
last, so a checkpoint that has it is complete. README.md, which people may edit, is not in it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import read_json, write_json
from panoptic_deeplab.weights.download import sha256_of

CHECKSUMS_FILE = "checksums.json"


def write_checksums(folder: Path, files: Mapping[str, Path]) -> None:
    """Write the SHA-256 of files, and keep those of others that are there already.

    Args:
        folder: folder of the checkpoint.
        files: where the content of each file lies now, by the name that it has or will have in the folder.
    """
    sums = read_checksums(folder) | {name: sha256_of(path) for name, path in files.items()}
    write_json(folder / CHECKSUMS_FILE, sums, indent=2)


def read_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, by name; empty where a folder has none, as those of other makers.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return {}
    sums = read_json(path, what="list of checksums", error=CheckpointError)
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise CheckpointError(f"{path} is damaged. Expected the SHA-256 of each file, by name.")
    return sums


def check_files(folder: Path, names: Iterable[str], sums: Mapping[str, str], *, advice: str = "") -> None:
    """Hold files of a folder against their checksums; `advice` ends the message, as a sentence behind a blank.

    Raises:
        CheckpointError: a file is missing, not in the list, or not the one that was written.
    """
    for name in names:
        path = folder / name
        if name not in sums:
            raise CheckpointError(f"{folder / CHECKSUMS_FILE} is missing or does not list {name}.")
        try:
            found = sha256_of(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing.") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
        if found != sums[name]:
            raise CheckpointError(
                f"{path} is damaged or was changed: its checksum is not that in {CHECKSUMS_FILE}.{advice}"
            )
