"""Programs of torch.export, run without torch's own loader, which executes what a file says.

`torch.export.load` unpickles parts of an archive, evaluates the formulas of symbolic sizes as Python, calls any
function of torch that a program names, and writes names from the file into Python source, which it compiles. None of
that is needed to run a program. It is a list of operators, each with the names of what it reads and gives:

    conv2d = torch.ops.aten.conv2d.default(images, p_weight, None, [2, 2], [1, 1])
    add_1 = _operator.add(sym_size_int_1, 16)

So the list is read as data (`torch_archive.py`), and gone through with operators that are looked up in `_OPERATORS`,
`_NUMBERS` and `_LOOP`: functions of tensors and numbers that check what they are given, and reach neither files nor
memory of others. Sizes are computed as they come, so their formulas are never read.
"""

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from panoptic_deeplab.distributed import resolve_device
from panoptic_deeplab.errors import CheckpointError, PanopticDeepLabError, first_line
from panoptic_deeplab.inference.exported.torch_archive import DTYPES, read_contents
from panoptic_deeplab.inference.exported.torch_operators import ASSERTIONS, NAMESPACE, OPERATORS

_SCHEMA = 8
"""Major version of torch's schema of programs: that of torch 2.9 and later."""

_LOOP = "torch.ops.higher_order.while_loop"

_NUMBERS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in ("neg", "add", "sub", "mul", "floordiv", "truediv")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("mod", "eq", "ne", "ge", "gt", "le", "lt")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("and_", "or_", "not_")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "sqrt", "trunc")},
    "torch.sym_float": float,
    "torch.sym_int": int,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
    "torch.sym_sum": sum,
}
"""Functions of sizes."""

_MEMORY_FORMATS = dict(
    enumerate((torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format), start=1)
)
_STRIDED = 7  # of torch's schema's layouts, the only one for dense tensors


class TorchProgram:
    """A program that is ready to run; several threads may run it at once.

    `constants` are what it reads besides its input: weights by the names that they have in the graph, on its device.
    """

    def __init__(
        self, path: Path, graph: "_Graph", device: torch.device, constants: dict[str, Tensor], input_name: str
    ) -> None:
        self.device = device
        self._path, self._graph, self._constants, self._input_name = path, graph, constants, input_name

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run on images as the file takes them, on the program's device.

        Raises:
            CheckpointError: an operator refuses what the program gives it.
        """
        known: dict[str, Any] = {**self._constants, self._input_name: images}
        try:
            return self._graph.run(known)
        except torch.OutOfMemoryError:  # the image's fault, not that of the file
            raise
        except Exception as error:  # torch raises many kinds
            raise CheckpointError(
                f"{self._path} cannot be run by torch {torch.__version__} on images of shape {tuple(images.shape)}"
                f" ({type(error).__name__}: {first_line(error)}). Export the model again."
            ) from error


def load_program(path: Path, device: str) -> TorchProgram:
    """Load a `.pt2` file.

    Raises:
        CheckpointError: the file is damaged, or holds something that no file of `panoptic-deeplab export` has.
        ConfigError: there is no such device.
    """
    where = torch.device(resolve_device(device))
    try:
        contents = read_contents(path)
        return _program(path, contents.document, contents.tensors, where)
    except PanopticDeepLabError:
        raise
    except Exception as error:  # a document of any shape: what is missing or of another type shows where it is read
        raise CheckpointError(
            f"{path} holds no program that can be read ({type(error).__name__}: {first_line(error)}). It may be"
            " damaged; export the model again."
        ) from error


class _Name(str):
    """A value that is known by name when the program runs."""

    __slots__ = ()


class _Step(NamedTuple):
    function: Callable[..., Any]
    arguments: list[Any]
    options: dict[str, Any]
    results: list[str | None]
    """Names for what the function gives; None for what nobody reads."""
    forgotten: list[str]
    """Names that no later step reads: their memory is free."""


class _Graph:
    """Steps, with the names of what comes in and goes out."""

    def __init__(self, inputs: list[str], steps: list[_Step], outputs: list[Any]) -> None:
        self.inputs, self._outputs = inputs, outputs
        self._steps = _with_forgotten(steps, outputs)

    def __call__(self, *values: Any) -> list[Any]:
        return self.run(dict(zip(self.inputs, values, strict=True)))

    def run(self, known: dict[str, Any]) -> list[Any]:
        """Go through the steps; `known` is used up."""
        for step in self._steps:
            options = {key: _value(option, known) for key, option in step.options.items()}
            given = step.function(*_value(step.arguments, known), **options)
            values = given if isinstance(given, tuple | list) else (given,)
            for name, value in zip(step.results, values, strict=True):
                if name is not None:
                    known[name] = value
            del given, values
            for name in step.forgotten:
                del known[name]
        outputs: list[Any] = _value(self._outputs, known)
        return outputs


def _value(argument: Any, known: dict[str, Any]) -> Any:
    if isinstance(argument, _Name):
        return known[argument]
    return [_value(part, known) for part in argument] if isinstance(argument, list) else argument


def _with_forgotten(steps: list[_Step], outputs: list[Any]) -> list[_Step]:
    """The steps, each with what is read for the last time in it."""
    needed = set(_names(outputs))
    reversed_steps = []
    for step in reversed(steps):
        touched = {*_names(step.arguments), *_names(list(step.options.values())), *filter(None, step.results)}
        reversed_steps.append(step._replace(forgotten=sorted(touched - needed)))
        needed |= touched
    return reversed_steps[::-1]


def _names(argument: Any) -> list[str]:
    if isinstance(argument, _Name):
        return [argument]
    return [name for part in argument for name in _names(part)] if isinstance(argument, list) else []


# ------------------------------------------------------------------------------------------------- reading a document


def _program(path: Path, document: Any, tensors: dict[str, Tensor], device: torch.device) -> TorchProgram:
    if document["schema_version"]["major"] != _SCHEMA:
        raise CheckpointError(
            f"{path} is of version {document['schema_version']['major']} of torch's programs. Expected {_SCHEMA};"
            " export the model again."
        )
    module = document["graph_module"]
    reader = _Reader(path, device)
    graph = reader.graph(module["graph"])
    constants: dict[str, Tensor] = {}
    images = []
    for spec in module["signature"]["input_specs"]:
        (kind, entry), *_ = spec.items()
        if kind == "user_input":
            images.append(entry["arg"]["as_tensor"]["name"])
            continue
        name = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}[kind]
        constants[entry["arg"]["name"]] = tensors[entry[name]].to(device)
    (input_name,) = images
    if any("user_output" not in spec for spec in module["signature"]["output_specs"]):
        raise CheckpointError(f"{path} changes its own weights when it runs. Export the model again.")
    return TorchProgram(path, graph, device, constants, input_name)


class _Reader:
    """Translates the parts of a document to what they mean."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path, self.device = path, device

    def graph(self, document: Any) -> _Graph:
        steps = [self.step(node) for node in document["nodes"] if node["target"] not in ASSERTIONS]
        inputs = [str(self.argument(value)) for value in document["inputs"]]
        return _Graph(inputs, steps, [self.argument(value) for value in document["outputs"]])

    def step(self, node: Any) -> _Step:
        target = node["target"]
        arguments, options = [], {}
        for entry in node["inputs"]:
            value = self.argument(entry["arg"])
            if target in _NUMBERS or entry["kind"] == 1:
                arguments.append(value)
            else:
                options[str(entry["name"])] = value
        return _Step(self.function(target), arguments, options, self.results(node["outputs"]), [])

    def function(self, target: Any) -> Callable[..., Any]:
        if target == _LOOP:
            return _while
        if target in _NUMBERS:
            return _NUMBERS[target]
        packet, _, overload = str(target).removeprefix(NAMESPACE).partition(".")
        if str(target).startswith(NAMESPACE) and packet in OPERATORS:
            operators = getattr(torch.ops.aten, packet)
            if overload in operators.overloads() and not _writes_into_arguments(operators, overload):
                chosen: Callable[..., Any] = getattr(operators, overload)
                return chosen
        raise CheckpointError(
            f"{self.path} calls {str(target)[:80]!r}, which is not on the list of operators that files may call. If"
            " the file is yours, export the model as ONNX instead."
        )

    def results(self, outputs: Any) -> list[str | None]:
        names: list[str | None] = []
        for output in outputs:
            (kind, value), *_ = output.items()
            if kind == "as_none":
                names.append(None)
            elif kind == "as_tensors" and len(outputs) == 1:
                names += [str(entry["name"]) for entry in value]
            else:
                name = self.argument(output)
                if not isinstance(name, _Name):
                    raise ValueError(f"{kind!r} in place of the name of a result")
                names.append(str(name))
        return names

    def argument(self, document: Any) -> Any:
        (kind, value), *_ = document.items()
        match kind:
            case "as_none":
                return None
            case "as_int" | "as_float" | "as_bool" | "as_string":
                return _plain(value)
            case "as_ints" | "as_floats" | "as_bools":
                return [_plain(entry) for entry in value]
            case "as_tensor":
                return _Name(value["name"])
            case "as_tensors":
                return [_Name(entry["name"]) for entry in value]
            case "as_optional_tensors" | "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
                return [self.argument(entry) for entry in value]
            case "as_optional_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self.argument(value)
            case "as_name":
                return _Name(value)
            case "as_scalar_type":
                return DTYPES[value]
            case "as_memory_format":
                return _MEMORY_FORMATS[value]
            case "as_layout" if value == _STRIDED:
                return torch.strided
            case "as_device":
                return self.device
            case "as_graph":
                return self.graph(value["graph"])
        raise ValueError(f"{kind!r} in place of an argument")


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):  # JSON has no such numbers
        return float(value)
    if isinstance(value, int | float | str):
        return value
    raise ValueError(f"{str(value)[:80]!r} in place of a number")


def _while(condition: _Graph, body: _Graph, carried: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """What `torch.while_loop` does."""
    carried = list(carried)
    while condition(*carried, *others)[0]:
        carried = body(*carried, *others)
    return carried


def _writes_into_arguments(operators: Any, overload: str) -> bool:
    """Is it one of the overloads that are given a tensor for their result?"""
    return any(argument.is_out for argument in getattr(operators, overload)._schema.arguments)
