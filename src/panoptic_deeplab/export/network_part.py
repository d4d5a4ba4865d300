"""Cutting the network out of a whole pipeline, and putting another one in its place.

What is quantized is the network: NNCF sees no loops, sorting or grouping, and cannot touch them. The cut goes through
the raw maps, which are the outputs of the last convolutions.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from panoptic_deeplab.errors import require

_CONVOLUTIONS = frozenset({"Conv", "Convolution", "GroupConvolution"})


class Operator(NamedTuple):
    """One operator of a model, in whatever format."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    """Names of the operators that it reads."""


class Roles(NamedTuple):
    """Operators with a special place in a model, by name."""

    first: set[str]
    """Convolutions before which there is none."""
    last: set[str]
    """Convolutions behind which there is none."""
    before: set[str]
    """All operators that a first convolution reads, in any number of steps."""


def find_roles(operators: Iterable[Operator]) -> Roles:
    """Look through a model."""
    by_name = {operator.name: operator for operator in operators}
    sources = {name: operator.inputs for name, operator in by_name.items()}
    readers: dict[str, list[str]] = {name: [] for name in by_name}
    for name, inputs in sources.items():
        for source in inputs:
            if source in readers:
                readers[source].append(name)
    convolutions = {name for name, operator in by_name.items() if operator.kind in _CONVOLUTIONS}
    first = {name for name in convolutions if not _reached({name}, sources) & convolutions}
    last = {name for name in convolutions if not _reached({name}, readers) & convolutions}
    return Roles(first=first, last=last, before=_reached(first, sources))


def _reached(start: set[str], following: dict[str, Any]) -> set[str]:
    """Everything that follows, in any number of steps."""
    found: set[str] = set()
    waiting = [name for begin in start for name in following[begin]]
    while waiting:
        name = waiting.pop()
        if name not in found and name in following:
            found.add(name)
            waiting.extend(following[name])
    return found


# ------------------------------------------------------------------------------------------------------------ OpenVINO


def openvino_operators(model: Any) -> list[Operator]:
    """The operators of an `openvino.Model`, without constants."""
    return [
        Operator(
            name=op.get_friendly_name(),
            kind=op.get_type_name(),
            inputs=tuple(i.get_source_output().get_node().get_friendly_name() for i in op.inputs()),
        )
        for op in model.get_ordered_ops()
        if op.get_type_name() not in ("Constant", "Parameter", "Result")
    ]


def cut_openvino(model: Any) -> Any:
    """The network of an `openvino.Model` as a model of its own, with the raw maps as outputs."""
    openvino = require("openvino", extra="openvino", purpose="quantizing")
    network = openvino.Model(_openvino_maps(model), model.get_parameters(), "network").clone()
    passes = require("openvino.passes", extra="openvino", purpose="quantizing")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())  # NNCF does not expect operators on constants only
    manager.run_passes(network)
    return network


def join_openvino(model: Any, network: Any) -> Any:
    """The `openvino.Model`, which is changed, with what was made of `cut_openvino(model)` in the place of its own."""
    openvino = require("openvino", extra="openvino", purpose="quantizing")
    (parameter,), (own_parameter,) = model.get_parameters(), network.get_parameters()
    for reader in own_parameter.output(0).get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    for own, result in zip(_openvino_maps(model), network.get_results(), strict=True):
        for reader in own.get_target_inputs():
            reader.replace_source_output(result.input_value(0))
    return openvino.Model(model.get_results(), [parameter], model.get_friendly_name())


def _openvino_maps(model: Any) -> list[Any]:
    """The raw maps: what the last convolutions give, with their bias."""
    last = find_roles(openvino_operators(model)).last
    maps = []
    for op in model.get_ordered_ops():
        if op.get_friendly_name() in last:
            (reader, *others) = op.output(0).get_target_inputs()
            bias = reader.get_node()
            maps.append(bias.output(0) if bias.get_type_name() == "Add" and not others else op.output(0))
    return maps


# ---------------------------------------------------------------------------------------------------------------- ONNX


def onnx_operators(model: Any) -> list[Operator]:
    """The operators of an `onnx.ModelProto`, without those inside of loops."""
    writer = {output: node.name for node in model.graph.node for output in node.output}
    return [
        Operator(node.name, node.op_type, tuple(writer[name] for name in node.input if name in writer))
        for node in model.graph.node
    ]


def cut_onnx(model: Any) -> Any:
    """The network of an `onnx.ModelProto` as a model of its own, with the raw maps as outputs."""
    onnx = require("onnx", extra="onnx", purpose="quantizing")
    return onnx.utils.Extractor(model).extract_model([model.graph.input[0].name], _onnx_maps(model))


def join_onnx(model: Any, network: Any) -> Any:
    """The `onnx.ModelProto` with another network, made of `cut_onnx(model)`, in the place of its own."""
    onnx = require("onnx", extra="onnx", purpose="quantizing")
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    replaced = _needed_nodes(model, [output.name for output in network.graph.output])
    rest = [node for index, node in enumerate(model.graph.node) if index not in replaced]
    del joined.graph.node[:]
    # What the rest reads of the inside of the network (its sizes) is computed again.
    available = {name for node in network.graph.node for name in node.output} | {model.graph.input[0].name}
    available |= {tensor.name for tensor in (*model.graph.initializer, *network.graph.initializer)}
    missing = [name for node in rest for name in _all_inputs(node) if name not in available]
    own = {name for node in rest for name in node.output}
    again = _needed_nodes(model, [name for name in missing if name and name not in own], stop=available)
    joined.graph.node.extend(network.graph.node)
    joined.graph.node.extend(node for i, node in enumerate(model.graph.node) if i in again or i not in replaced)
    names = {tensor.name for tensor in model.graph.initializer}
    joined.graph.initializer.extend(tensor for tensor in network.graph.initializer if tensor.name not in names)
    _drop_unused(joined)
    del joined.opset_import[:]
    joined.opset_import.extend(network.opset_import)
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _onnx_maps(model: Any) -> list[str]:
    last = find_roles(onnx_operators(model)).last
    return [node.output[0] for node in model.graph.node if node.name in last]


def _needed_nodes(model: Any, names: Sequence[str], stop: Iterable[str] = ()) -> set[int]:
    """Indices of the nodes from which the values come."""
    writer = {output: index for index, node in enumerate(model.graph.node) for output in node.output}
    stop, found, waiting = set(stop), set[int](), list(names)
    while waiting:
        name = waiting.pop()
        index = writer.get(name)
        if index is not None and index not in found and name not in stop:
            found.add(index)
            waiting.extend(_all_inputs(model.graph.node[index]))
    return found


def _all_inputs(node: Any) -> list[str]:
    """Names of the values that the node and the graphs inside of it read."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inside = {output for inner in attribute.g.node for output in inner.output}
            inside |= {value.name for value in (*attribute.g.input, *attribute.g.initializer)}
            names += [name for inner in attribute.g.node for name in _all_inputs(inner) if name not in inside]
    return names


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in _all_inputs(node)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
