"""A file is written and checked out of sight, and takes its name when it is good."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from panoptic_deeplab.errors import OutputError


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Put a model's files in their place at the end of the block, unless something is raised in it, Ctrl-C included.

    Until then, earlier files of these names stay as they are.

    Args:
        path: the finished file; its folder is made.

    Yields:
        Where to write: the same name, in a temporary folder beside the finished file.

    Raises:
        OutputError: the system refuses to write: a full disk, a folder without permission.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.stem}_", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            for file in reversed(files_of(temporary)):  # weights first: an .xml without its .bin would look complete
                file.replace(path.with_name(file.name))
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Make room, or choose another folder."
        ) from error


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that make up an exported model."""
    return (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,)
