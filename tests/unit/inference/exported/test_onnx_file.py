"""What an ONNX file claims is compared with what it has, before the runtime sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.exported.onnx_file import check_contents, read_metadata

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto


def tensor(**changes: Any) -> Any:
    proto = TensorProto(name="weight", data_type=TensorProto.FLOAT, raw_data=bytes(16), dims=[2, 2])
    for key, value in changes.items():
        proto.ClearField(key)
        if value is not None:
            getattr(proto, key).extend(value) if key == "dims" else setattr(proto, key, value)
    return proto


def outside(location: str, **numbers: int) -> Any:
    """A tensor whose numbers are in another file."""
    proto = tensor(raw_data=None, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **numbers}.items():
        entry = proto.external_data.add()
        entry.key, entry.value = key, str(value)
    return proto


def in_initializer(proto: Any) -> Any:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("images", "maps")]
    nodes = [helper.make_node("Add", ["images", "weight"], ["maps"])]
    return helper.make_model(helper.make_graph(nodes, "main", values[:1], values[1:], [proto]))


def in_attribute(proto: Any) -> Any:
    model = in_initializer(tensor())
    model.graph.node.insert(0, helper.make_node("Constant", [], ["value"], value=proto))
    return model


def in_loop(proto: Any) -> Any:
    model = in_initializer(tensor())
    body = helper.make_graph([], "body", [], [], [proto])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))
    return model


def in_function(proto: Any) -> Any:
    model = in_initializer(tensor())
    node = helper.make_node("Constant", [], ["value"], value=proto)
    model.functions.append(helper.make_function("own", "f", [], ["value"], [node], [helper.make_opsetid("", 18)]))
    model.graph.node.append(helper.make_node("f", [], ["y"], domain="own"))
    return model


PLACES = [in_initializer, in_attribute, in_loop, in_function]


def save(model: Any, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", PLACES)
def test_honest_tensors_pass(tmp_path: Path, place: Callable[[Any], Any]) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.bin").write_bytes(bytes(16))
    for proto in (
        tensor(),
        tensor(dims=[0, 10**9]),
        tensor(data_type=TensorProto.INT4, raw_data=bytes(2)),
        outside("weights/model.bin"),
        outside("weights/model.bin", offset=0, length=16),
    ):
        check_contents(save(place(proto), tmp_path / "model.onnx"))


@pytest.mark.parametrize("place", PLACES)
def test_files_outside_of_the_folder_are_refused(tmp_path: Path, place: Callable[[Any], Any]) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(secret)
    for location in (str(secret), "../secret", "x/../../secret", "..\\secret", "C:\\secret", "link"):
        with pytest.raises(CheckpointError, match=r"The ONNX file .*model\.onnx names the file .* outside of"):
            check_contents(save(place(outside(location)), tmp_path / "model" / "model.onnx"))
    for location in ("*/_ORT_MEM_ADDR_/*", "missing.bin"):  # the first is an address in memory for ONNX Runtime
        with pytest.raises(CheckpointError, match="does not exist"):
            check_contents(save(place(outside(location, offset=4096)), tmp_path / "model" / "model.onnx"))


@pytest.mark.parametrize("place", PLACES)
def test_sizes_that_nothing_fills_are_refused(tmp_path: Path, place: Callable[[Any], Any]) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    large = outside("weights.bin")
    large.dims[:] = [10**6, 10**6]
    for proto in (
        tensor(dims=[10**5, 10**5]),
        tensor(dims=[10**12], raw_data=None),
        tensor(dims=[10**9], data_type=TensorProto.STRING, raw_data=None),
        tensor(dims=[-1, 1]),
        large,
    ):
        with pytest.raises(CheckpointError, match=r"model\.onnx claims a tensor of \d+ numbers, for which .* bytes"):
            check_contents(save(place(proto), tmp_path / "model.onnx"))


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    model = in_initializer(tensor())
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([10**12])
    with pytest.raises(CheckpointError, match="sparse tensor"):
        check_contents(save(model, tmp_path / "model.onnx"))


def test_operators_are_of_the_standard_set(tmp_path: Path) -> None:
    model = in_initializer(tensor())
    model.graph.node.append(helper.make_node("EPContext", [], ["x"], domain="com.microsoft"))
    with pytest.raises(CheckpointError, match=r"operators of 'com\.microsoft', which are not of the standard set"):
        check_contents(save(model, tmp_path / "model.onnx"))


def test_damaged_files(tmp_path: Path) -> None:
    content = in_loop(tensor()).SerializeToString()
    path = tmp_path / "model.onnx"
    for damaged in (b"", content[:-3], b"\x3b" + content, b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.onnx cannot be read"):
            check_contents(path)


@pytest.mark.parametrize("content", [b"\x38\x01", b"\x3a\x02\x08\x01"], ids=["graph", "node"])
def test_numbers_in_place_of_messages(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.onnx cannot be read \(a number stands where a text or message"):
        check_contents(tmp_path / "m.onnx")


def test_metadata(tmp_path: Path) -> None:
    model = in_initializer(tensor())
    helper.set_model_props(model, {"other": "1", "key": "välue"})
    path = save(model, tmp_path / "model.onnx")
    assert read_metadata(path, "key") == "välue"
    assert read_metadata(path, "absent") is None
