"""What a file of weights holds, read without ever executing anything, and whether it is what a network needs."""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from panoptic_deeplab.errors import CheckpointError, first_line
from panoptic_deeplab.weights.reading.torch_file import read_torch_file

COUNTER = "num_batches_tracked"
"""Batch normalization's number of batches. Older files lack it, and nothing here reads it."""

_SHOWN = 5
"""Entries of each kind that a message names."""


def read_content(path: Path) -> Any:
    """Read a `.safetensors` file, or one that `torch.save` or `pickle.dump` wrote: tensors, arrays and plain values.

    The memory that this takes is a small multiple of the file's size, whatever the file says.

    Raises:
        CheckpointError: the file is missing, truncated, holds something else, or claims to be more than it is.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}. Check the path.")
    with _readable(path):
        return load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Everything that reading a damaged or dangerous file raises becomes a `CheckpointError` that says what to do."""
    try:
        yield
    except MemoryError as error:
        said = first_line(error)
        raise CheckpointError(
            f"{path} of {path.stat().st_size / 1e6:.1f} MB asks for more memory than a file of that size can need"
            f" ({said}), so it is not opened. Copy or download it again."
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}: {first_line(error)}). It may be truncated;"
            " copy or download it again."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds something else than tensors, which is never opened because it may be code"
            f" ({first_line(error)}). Copy or download it again, or save a plain state dict."
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise CheckpointError(
            f"{path} is no checkpoint, or it is damaged ({type(error).__name__}:"
            f" {first_line(error)}). Copy or download it again."
        ) from error


def check_entries(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str, what: str = "the model", advice: str
) -> None:
    """Compare names, shapes and kinds of numbers; only `COUNTER` may be missing.

    Args:
        state: what a file holds.
        expected: what it should hold.
        where: name of the file, for the message.
        what: what the file is for.
        advice: what to do, as a clause.

    Raises:
        CheckpointError: names the first entries that are missing, unexpected, of another shape, or integers instead of
            fractions, and how many there are. All of them are in a note, which a traceback shows.
    """
    problems = {
        "missing": [name for name in expected if name not in state and not name.endswith(COUNTER)],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in state and state[name].shape != expected[name].shape
        ],
        "of another kind of numbers": [
            f"{name} {state[name].dtype} instead of {expected[name].dtype}"
            for name in expected
            if name in state and not name.endswith(COUNTER)
            if state[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }
    problems = {kind: names for kind, names in problems.items() if names}
    if not problems:
        return
    is_cut = any(len(names) > _SHOWN for names in problems.values())
    parts = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for kind, names in problems.items()
    ]
    see_all = "; see them all with --debug" if is_cut else ""
    error = CheckpointError(f"{where} does not fit {what}: {'; '.join(parts)}{see_all}. {advice}.")
    if is_cut:
        lists = (f"{len(names)} {kind}:\n    " + "\n    ".join(names) for kind, names in problems.items())
        error.add_note("\n".join(lists))
    raise error
