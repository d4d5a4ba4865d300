"""Files of torch are read as torch reads them, and whatever a file claims, it gets no more memory than it is large."""

import io
import pickle
import random
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.reading.tensors import read_content

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
]
DTYPES += [torch.uint8, torch.bool, torch.uint16, torch.float8_e4m3fn]


def _content() -> dict[str, Any]:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {str(dtype): torch.arange(5).to(dtype) for dtype in DTYPES}
    views = {"base": base, "row": base[1], "turned": base.T, "empty": torch.zeros(0, 3), "scalar": torch.tensor(7.0)}
    return {
        "model": OrderedDict(tensors | views),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        "milestones": Counter({3: 1}),
        "epoch": 5,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "old"])
def test_it_reads_what_torch_reads(tmp_path: Path, zipped: bool) -> None:
    content = _content()
    if not zipped:  # the old form has no such types
        content["model"] = {name: value for name, value in content["model"].items() if "uint16" not in name}
        content["model"].pop("torch.float8_e4m3fn")
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    ours = read_content(tmp_path / "a.pth")
    theirs = torch.load(tmp_path / "a.pth", weights_only=True)
    assert ours["model"].keys() == theirs["model"].keys()
    for name, value in theirs["model"].items():
        assert ours["model"][name].dtype == value.dtype
        assert torch.equal(ours["model"][name].double(), value.double())
    assert torch.equal(ours["parameter"], theirs["parameter"])
    assert ours["optimizer"] == theirs["optimizer"]
    assert ours["epoch"] == 5


def test_state_dict_of_a_module_with_its_metadata(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "a.pth")
    state = read_content(tmp_path / "a.pth")
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


class _Calls:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@contextmanager
def _little_memory(limit: int = 50_000_000) -> Iterator[None]:
    """Python's own objects, and what NumPy allocates; the tensors of these tests would be refused by the system."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def _compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(25_000_000)}, path.with_suffix(".stored"))
    with zipfile.ZipFile(path.with_suffix(".stored")) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert path.stat().st_size < 200_000


def _expanded(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)


def _views(path: Path) -> None:
    base = torch.zeros(100_000)
    torch.save({str(i): base[:99_999] for i in range(1000)}, path)


def _long_storage(path: Path) -> None:
    """The old form says how many numbers follow, and nothing follows."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(5)}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    assert data.count(b"K\x05N") == 1
    path.write_bytes(data.replace(b"K\x05N", b"\x8a\x06\x00\x00\x00\x00\x00\x01N"))


def _instructions(path: Path) -> None:
    path.write_bytes(b"\x80\x02](" + b"}" * 2_000_000 + b"e.")


def _encodings(path: Path) -> None:
    text = "x" * 100_000
    path.write_bytes(pickle.dumps([_Calls(_encode, text, "latin1") for _ in range(2000)], protocol=2))


def _dictionaries(path: Path) -> None:
    pairs = [(i, i) for i in range(10_000)]
    path.write_bytes(pickle.dumps([_Calls(OrderedDict, pairs) for _ in range(2000)], protocol=2))


_encode = __import__("_codecs").encode


@pytest.mark.parametrize(
    "write",
    [_compressed, _expanded, _views, _long_storage, _instructions, _encodings, _dictionaries],
)
def test_a_file_that_claims_more_than_it_is(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a.pth"
    write(path)
    with (
        _little_memory(),
        pytest.raises(CheckpointError, match=r"a\.pth of \d.*asks for more memory than a file of that"),
    ):
        read_content(path)


def test_a_high_number_of_a_remembered_object_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with _little_memory():
        assert read_content(tmp_path / "a.pth") == {}


_TWICE = b")q\x00" + 60 * b"h\x00h\x00\x86q\x00"
"""Puts `()` on the stack, then a tuple that holds the one before twice, sixty times."""
_DEEP = b")" + 300_000 * b"\x85"
"""Hashing this overflows the stack of the C unpickler."""


@pytest.mark.parametrize(
    "program",
    [
        b"}" + _DEEP + b"K\x01s.",
        b"(" + _TWICE + b"K\x01d.",  # a dictionary with that key
        b"\x8f(" + _TWICE + b"\x90.",  # a set
        b"(" + _TWICE + b"\x91.",  # a frozenset
        b"ccollections\nOrderedDict\n(" + _TWICE + b"K\x01\x86l\x85R.",
        b"\x8b\x00\x00\x01\x00" + 65536 * b"\x7f" + b".",  # a number, of which products would be made
    ],
    ids=["deep", "key", "set", "frozenset", "call", "number"],
)
def test_a_pickle_cannot_ask_for_endless_work(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x04" + program)
    with pytest.raises(CheckpointError, match=r"asks for more memory than .*\(it has a (tuple|whole)"):
        read_content(tmp_path / "a.pth")


@pytest.mark.parametrize("part", [b"K\x05\x85", b"K\x05t", b"X\x01\x00\x00\x000"], ids=["shape", "count", "key"])
def test_no_message_shows_a_list_of_lists_that_are_the_same(tmp_path: Path, part: bytes) -> None:
    """Sixty lists, each with the one before twice, have 2^60 letters as text."""
    lists = b"]q\xff" + 60 * b"](h\xffh\xffeq\xff"
    torch.save({"a": torch.zeros(5)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(tmp_path / "a.pth", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert content.count(part) == 1
                content = (
                    content[:2] + lists + content[2:].replace(part, b"h\xfft" if part.endswith(b"t") else b"h\xff")
                )
            new.writestr(name, content)
    with pytest.raises(CheckpointError, match=r"cannot be read|is damaged"):
        read_content(tmp_path / "a.pth")


@pytest.mark.parametrize("call", [_Calls(bytearray, 8 * 10**9), _Calls(set, [1]), _Calls(torch.Size, [3])])
def test_what_is_no_tensor_is_not_made(tmp_path: Path, call: _Calls) -> None:
    torch.save({"a": torch.ones(2), "other": call}, tmp_path / "a.pth")
    with _little_memory():
        content = read_content(tmp_path / "a.pth")
    assert torch.equal(content["a"], torch.ones(2))


@pytest.mark.parametrize(
    "call",
    [
        _Calls(torch.FloatTensor, 8 * 10**9),
        _Calls(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**12,), (1,), False),
        _Calls(_encode, "x", "hex"),
        _Calls(range, 10**12),
    ],
)
def test_other_types_that_torch_would_make_are_refused(tmp_path: Path, call: _Calls) -> None:
    torch.save({"a": call}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="something else than tensors"):
        read_content(tmp_path / "a.pth")


def test_a_tensor_stays_inside_its_storage(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(7)}, buffer)
    data = buffer.getvalue()
    assert data.count(b"K\x07\x85") == 1  # the shape, (7,)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(tmp_path / "a.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"K\x07\x85", b"K\x08\x85"))
    with pytest.raises(CheckpointError, match=r"shape \(8,\) that reaches beyond its 28 bytes"):
        read_content(tmp_path / "a.pth")


@pytest.mark.parametrize("form", ["archive", "old", "pickle", "safetensors"])
def test_damage_is_always_one_sentence(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    state = {f"layer{i}.weight": torch.full((3, 2), float(i)) for i in range(4)}
    if form == "safetensors":
        save_file(state, path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps({name: value.numpy() for name, value in state.items()}))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "archive")
    whole = path.read_bytes()
    random_ = random.Random(0)
    refused: list[str] = []
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        path.write_bytes(damaged[: random_.choice([len(damaged), random_.randrange(len(damaged))])])
        try:
            read_content(path)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)
