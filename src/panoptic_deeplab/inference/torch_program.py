"""Programs of torch.export, loaded without executing anything of the file's author.

`torch.export.load` unpickles some parts of an archive, evaluates the formulas of symbolic sizes as Python, and calls
any function of torch that a program names. Files of `panoptic-deeplab export` have no pickled part, their formulas are
plain arithmetic, and their functions are operators on tensors; whatever has more is refused.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from panoptic_deeplab.distributed import resolve_device
from panoptic_deeplab.errors import CheckpointError, first_line

Program = Callable[[Tensor], Sequence[Tensor]]

_FORMULA = re.compile(
    r"(?:Symbol\('[a-z]+\d+'(?:, \w+=(?:True|False))*\)|(?:Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv"
    r"|IntTrueDiv|ModularIndexing|ToFloat|Integer|Rational|Equality|Unequality|StrictLessThan|LessThan"
    r"|StrictGreaterThan|GreaterThan|Eq|Ne|And|Or|Not)\(|true|false|-?\d+|[), ])*"
)
"""Symbols, numbers, and the functions in which torch writes sizes."""

_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|torch\.ops\.higher_order\.while_loop|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(?:neg|add|sub|mul|floordiv|truediv|mod|pow|eq|ne|ge|gt|le|lt|and_|or_|not_|getitem)"
)
"""Functions of tensors and numbers only."""

_MODULES = ("torch", "_operator", "math", "#")
"""Where torch looks up functions; other targets are names of weights."""


def load_program(path: Path, device: str) -> tuple[Program, torch.device]:
    """Load a `.pt2` file.

    Args:
        path: of the file.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Returns:
        The program, and the device on which it wants its input.

    Raises:
        CheckpointError: the file is damaged, or holds something that could be code.
        ConfigError: there is no such device.
    """
    where = torch.device(resolve_device(device))
    try:
        _refuse_code(path)
        program = torch.export.load(path)
        if where.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, where)
        # The guards are what tracing assumed of strides, not of results: every size is computed alike.
        return program.module(check_guards=False), where
    except CheckpointError:
        raise
    except Exception as error:  # whatever the deserializer of this version of torch raises
        raise CheckpointError(
            f"{path} cannot be loaded by torch {torch.__version__} ({type(error).__name__}:"
            f" {first_line(error)}). Export the model again with this version."
        ) from error


def _refuse_code(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inner = name.partition("/")[2]
            if re.search(r"\.(so|dll|dylib|cpp|cubin|pyc?|hsaco)$", inner) or "aotinductor" in inner:
                raise CheckpointError(
                    f"{path} holds compiled code ({inner}), which is never run because it could do anything. Use"
                    " the .pt2 of `panoptic-deeplab export --format torch`, or `export.compiled.load_compiled` for a"
                    " file that you compiled yourself."
                )
            is_pickle = inner.startswith("data/sample_inputs/") and archive.getinfo(name).file_size > 0
            documents = [json.loads(archive.read(name))] if inner.endswith(".json") else []
            for key, value in (entry for document in documents for entry in _entries(document)):
                if key == "use_pickle" and value:
                    is_pickle = True
                if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
                    is_pickle = True
                unknown = {
                    "expr_str": not _FORMULA.fullmatch(str(value)),
                    "target": str(value).startswith(_MODULES) and not _OPERATOR.fullmatch(str(value)),
                }
                if unknown.get(key, False):
                    raise CheckpointError(
                        f"{path} has {str(value)[:80]!r} in place of an operator or a size, which is never evaluated"
                        " because it may be code. Export the model again."
                    )
            if is_pickle:
                raise CheckpointError(
                    f"{path} holds a pickled object ({inner}), which is never opened because it may be code. Export"
                    " the model again with `panoptic-deeplab export --format torch`."
                )


def _entries(document: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of a JSON document, at any depth."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key, value
            yield from _entries(value)
    elif isinstance(document, list):
        for value in document:
            yield from _entries(value)
