"""Devices and precisions of the runtimes."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from panoptic_deeplab.errors import CheckpointError, ConfigError, MissingDependencyError
from panoptic_deeplab.inference.exported.model_file import read_model_file_info
from panoptic_deeplab.inference.exported.runtimes import _check_size, open_model_file

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Opens a file with an ONNX Runtime that has some providers; gives those that the session was asked for."""
    asked: list[Any] = []

    class Session:
        def __init__(self, path: str, options: object, providers: list[Any]) -> None:
            asked[:] = providers

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="images")]

    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    def open_with(path: Path, device: str, *, available: list[str]) -> list[Any]:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        open_model_file(path, device=device)
        return asked

    return open_with


def test_providers_of_onnx_runtime(exported: Path, opened: Callable[..., list[Any]]) -> None:
    path, everything = exported / "network.onnx", [TENSORRT, CUDA, CPU]
    assert opened(path, "cpu", available=everything) == [CPU]
    assert opened(path, "cuda", available=everything) == [(CUDA, {"device_id": 0}), CPU]
    assert opened(path, "cuda:1", available=[CUDA, CPU]) == [(CUDA, {"device_id": 1}), CPU]
    expected = [(TENSORRT, {"device_id": 2}), (CUDA, {"device_id": 2}), CPU]
    assert opened(path, "tensorrt:2", available=everything) == expected


def test_auto_is_cuda_where_runtime_and_machine_have_it(
    exported: Path, opened: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported / "network.onnx"
    for machine_has_it, available, expected in (
        (True, [CUDA, CPU], [(CUDA, {"device_id": 0}), CPU]),
        (False, [CUDA, CPU], [CPU]),
        (True, [CPU], [CPU]),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda answer=machine_has_it: answer)
        assert opened(path, "auto", available=available) == expected


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_provider_that_is_not_installed(exported: Path, opened: Callable[..., list[Any]], device: str) -> None:
    with pytest.raises(ConfigError, match=f"`device` is '{device}', but the installed ONNX Runtime has only {CPU}"):
        opened(exported / "network.onnx", device, available=[CPU])


def test_openvino_in_bfloat16_is_near(exported: Path) -> None:
    images = torch.linspace(-2, 2, 3 * 65 * 97).view(1, 3, 65, 97)
    exact = open_model_file(exported / "network.xml")(images)
    rounded = open_model_file(exported / "network.xml", precision="bfloat16")(images)
    for one, other in zip(exact, rounded, strict=True):
        assert (one - other).abs().max() < 0.3 * one.std()  # 8 bits of mantissa, random weights


def test_openvino_runs_on_processors_only(exported: Path) -> None:
    with pytest.raises(ConfigError, match="auto or cpu for an OpenVINO file"):
        open_model_file(exported / "network.xml", device="cuda")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_damaged_graph(exported: Path, tmp_path: Path, suffix: str) -> None:
    """What the file says of itself is intact, the rest is not."""
    path = tmp_path / f"model{suffix}"
    content = (exported / f"network{suffix}").read_bytes()
    damaged = content.replace(b"Conv", b"Cnov")
    assert damaged != content
    path.write_bytes(damaged)
    if suffix == ".xml":
        path.with_suffix(".bin").write_bytes((exported / "network.bin").read_bytes())
    with pytest.raises(CheckpointError, match="cannot load"):
        open_model_file(path)


def test_missing_runtime(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, package in ((".onnx", "onnxruntime"), (".xml", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=package):
            open_model_file(exported / f"network{suffix}")


def test_openvino_without_its_weights(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "street.xml"
    path.write_bytes((exported / "network.xml").read_bytes())
    with pytest.raises(CheckpointError, match=r"There is no .*street\.bin, which holds the weights of .*street\.xml"):
        open_model_file(path)


@pytest.mark.parametrize(("kind", "how"), [("network", "and padding"), ("panoptic", "`input.scale`")])
def test_an_image_of_another_size_than_the_file_takes(exported: Path, kind: str, how: str) -> None:
    path = exported / f"{kind}.onnx"
    info = replace(read_model_file_info(path), input_size=(65, 97))
    with pytest.raises(ConfigError, match=rf"65 x 97 pixels only .* has 129 x 193 after resizing .*{how}\. Export"):
        _check_size(path, info, (129, 193))


def test_onnx_weights_outside_of_the_folder(exported: Path, tmp_path: Path) -> None:
    """The check of `onnx_file.py` comes before the runtime."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported / "network.onnx")
    weights = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../secret"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "street.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"names the file '\.\./secret', which lies outside of"):
        open_model_file(tmp_path / "model" / "street.onnx")


@pytest.mark.parametrize(
    "claim",
    [
        'shape="100000, 100000, 3, 3" offset="0" size="1728"',
        'shape="100000, 100000, 1, 1" offset="0" size="40000000000"',
        'shape="16, 3, 3, 3" offset="99999999999" size="1728"',
        'shape="16, 3, 3, 3" offset="-8000" size="1728"',
    ],
)
def test_openvino_weights_that_the_file_does_not_have(exported: Path, tmp_path: Path, claim: str) -> None:
    content = (exported / "network.xml").read_text()
    changed = re.sub(r'shape="16, 3, 3, 3" offset="\d+" size="1728"', claim, content, count=1)
    assert changed != content
    (tmp_path / "street.xml").write_text(changed)
    (tmp_path / "street.bin").write_bytes((exported / "network.bin").read_bytes())
    with pytest.raises(CheckpointError, match=r"OpenVINO cannot load .*street\.xml"):
        open_model_file(tmp_path / "street.xml")
