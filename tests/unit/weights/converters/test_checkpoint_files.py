"""Foreign checkpoint files: every form that trainings write is read, and no file ever executes anything."""

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.converters.checkpoint_files import read_checkpoint

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.tensor(7)}
ARRAYS = {
    "conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "half": np.ones(3, np.float16),
    "counter": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        collections.OrderedDict((f"module.{name}", value) for name, value in STATE.items()),
        {"start_iter": 5, "state_dict": STATE, "optimizer": {"state": {0: {"step": torch.tensor(5)}}}, "lr": [1e-3]},
        {"model": {f"module.{name}": value for name, value in STATE.items()}, "iteration": 5},
    ],
    ids=["bare", "parallel", "bowenc0221", "detectron2"],
)
def test_forms_of_torch_files(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "file.pth")
    state = read_checkpoint(tmp_path / "file.pth")
    assert state.keys() == STATE.keys()
    assert all(torch.equal(value, STATE[name]) for name, value in state.items())


def test_format_of_older_torch(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "file.pth").keys() == STATE.keys()


def test_prefix_of_some_names_only_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "file.pth")
    assert read_checkpoint(tmp_path / "file.pth").keys() == {"module.a", "b"}


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "file.safetensors")
    assert read_checkpoint(tmp_path / "file.safetensors").keys() == STATE.keys()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {"model": collections.OrderedDict(ARRAYS), "__author__": "x", "best": np.float32(0.5), "l": [1, (None,)]}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    state = read_checkpoint(tmp_path / "file.pkl")
    assert state.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(state[name].numpy(), array)
        assert state[name].numpy().dtype == array.dtype.newbyteorder("=")


def test_names_of_older_numpy(tmp_path: Path) -> None:
    data = pickle.dumps({"model": ARRAYS}, protocol=2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "file.pkl").write_bytes(data)
    assert read_checkpoint(tmp_path / "file.pkl").keys() == ARRAYS.keys()


class _Calls:
    """What a malicious file holds: a call that happens while it is read."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".pkl", _write_pickle), (".pth", lambda path, content: torch.save(content, path)), (".pth", _write_pickle)],
    ids=["pickle", "torch", "pickle_named_pth"],
)
def test_code_is_refused_without_running(tmp_path: Path, suffix: str, write: Any) -> None:
    marker, path = tmp_path / "executed", tmp_path / f"file{suffix}"
    import os

    write(path, {"model": {**ARRAYS, "attack": _Calls(os.mkdir, str(marker))}})
    with pytest.raises(CheckpointError, match="something else than tensors, which is never opened"):
        read_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(_Calls(os.mkdir, str(marker))))  # the same bytes, read carelessly
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n(S'x.npy'\ntR.",
        b"cnumpy\nndarray\n((I3\ntS'f4'\ntR.",  # the array class is named in every file, but not called
        b"cnumpy\ndtype\n(S'O'\ntR.",  # objects
        b"cnumpy\ndtype\n(S'f4'\ntR(I3\nS'x'\ntb.",  # byte order
        b"ccollections\nOrderedDict\n}S'__call__'\nI1\nsb.",  # a function changed from the file
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    ],
    ids=["eval", "system", "numpy_load", "ndarray", "object_dtype", "byte_order", "set_state", "codec"],
)
def test_nothing_but_arrays_is_admitted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pkl").write_bytes(content)
    with pytest.raises(CheckpointError, match="never opened"):
        read_checkpoint(tmp_path / "file.pkl")


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f."])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"file{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match="download it again"):
        read_checkpoint(tmp_path / f"file{suffix}")


def test_truncated_pickle(tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(pickle.dumps({"model": ARRAYS})[:-40])
    with pytest.raises(CheckpointError, match="download it again"):
        read_checkpoint(tmp_path / "file.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a dictionary of tensors. Got list"),
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"a": torch.zeros(1), "b": "text"}, "has a str under 'b'"),
        ({3: torch.zeros(1)}, "has a int as the name of an entry"),
    ],
)
def test_other_content(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file.pth")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no weights file"):
        read_checkpoint(tmp_path / "absent.pkl")
