"""Checkpoints written here byte by byte; checksums are tensorboard's, which are not ours."""

import io
import runpy
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights.converters.tensorflow_bundle import TensorBundle, open_bundle
from panoptic_deeplab.weights.converters.tensorflow_checksum import crc32c, unmask

writer = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[3] / "reference" / "tensorflow_bundle_writer.py"))
)

ARRAY = np.zeros(4, np.float32)


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {
        f"encoder/_stage{stage}/_block{block}/kernel": random.normal(size=(3, 1, stage, block)).astype(np.float32)
        for stage in range(2, 6)
        for block in range(1, 7)
    }
    return arrays | {
        "global_step": np.array(60000, np.int64),
        "half": random.normal(size=5).astype(np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "large": random.normal(size=(150, 3)).astype(np.float32),
    }


@pytest.fixture
def prefix(tmp_path: Path, tensors: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "run" / "ckpt-60000"
    writer.write_bundle(path, tensors, masked_crc32c)
    return path


@pytest.mark.parametrize("options", [{}, {"restart_interval": 16, "entries_a_block": 100}, {"entries_a_block": 1}])
def test_every_tensor_comes_back(tmp_path: Path, tensors: dict[str, np.ndarray], options: dict[str, int]) -> None:
    writer.write_bundle(tmp_path / "ckpt-1", tensors, masked_crc32c, **options)
    bundle = TensorBundle(tmp_path / "ckpt-1")
    assert set(bundle.names) == set(tensors)
    for name, array in tensors.items():
        found = bundle.read(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_opens_what_people_have(tmp_path: Path, prefix: Path) -> None:
    archive = tmp_path / "resnet50.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(prefix.parent, "resnet50")
    for path in (prefix, prefix.with_name("ckpt-60000.index"), prefix.parent, archive):
        with open_bundle(path) as bundle:
            assert bundle.read("global_step") == 60000


def test_archive_cannot_write_elsewhere(tmp_path: Path, prefix: Path) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(prefix.with_name("ckpt-60000.index"), "../../escaped.index", filter=None)
    with pytest.raises(CheckpointError, match="damaged"), open_bundle(archive):
        pass
    assert not (tmp_path.parent.parent / "escaped.index").exists()


def test_folder_with_two_checkpoints(prefix: Path, tensors: dict[str, np.ndarray]) -> None:
    writer.write_bundle(prefix.with_name("ckpt-9"), tensors, masked_crc32c)
    message = r"one TensorFlow checkpoint.*Got ckpt-60000\.index, ckpt-9\.index"
    with pytest.raises(CheckpointError, match=message), open_bundle(prefix.parent):
        pass


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        TensorBundle(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="Got none"), open_bundle(tmp_path):
        pass


def test_data_file_missing_or_truncated(prefix: Path) -> None:
    data = prefix.with_name("ckpt-60000.data-00000-of-00001")
    content = data.read_bytes()
    data.write_bytes(content[:-1])
    bundle = TensorBundle(prefix)
    with pytest.raises(CheckpointError, match="is truncated, it ends before large"):
        bundle.read("large")
    data.unlink()
    with pytest.raises(CheckpointError, match=r"No such file.*but half is in it"):
        bundle.read("half")


def test_flipped_byte_of_a_tensor_is_noticed(prefix: Path) -> None:
    data = prefix.with_name("ckpt-60000.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    bundle = TensorBundle(prefix)
    bundle.read("half")
    with pytest.raises(CheckpointError, match="the checksum of large is wrong"):
        bundle.read("large")


def test_damaged_index_is_refused_at_any_byte(tmp_path: Path) -> None:
    """Whatever byte is changed: an error of ours, or the tensors as they were; no other exception."""
    prefix, tensors = tmp_path / "c", {"a": ARRAY, "ab": ARRAY}
    writer.write_bundle(prefix, tensors, masked_crc32c)
    index = prefix.with_name("c.index")
    content = index.read_bytes()
    refused = 0
    positions = range(len(content) - 48)  # in front of the footer
    for position in positions:
        index.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            bundle = TensorBundle(prefix)
            assert set(bundle.names) == set(tensors)
        except CheckpointError:
            refused += 1
    assert refused == len(positions) - 13  # all but the block about other blocks, which is not read


@pytest.mark.parametrize("length", [0, 10, 47, 48, 500])
def test_truncated_index(prefix: Path, length: int) -> None:
    index = prefix.with_name("ckpt-60000.index")
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="no index of a TensorFlow checkpoint, or it is damaged"):
        TensorBundle(prefix)


def _write_entries(prefix: Path, entries: list[tuple[bytes, bytes]], **options: int) -> None:
    prefix.with_name(prefix.name + ".index").write_bytes(writer.table(entries, masked_crc32c, **options))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(bytes(64))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(b"", writer.header(endianness=1))], "big-endian"),
        ([(b"x", writer.entry(ARRAY, 0, 0))], "no header"),
        ([(b"", writer.field(1, b"1"))], "a text stands where a number is expected"),
        ([(b"", b"\x0b")], "unknown wire type 3"),
        ([(b"", writer.header()), (b"x", writer.field(2, 5))], "a number stands where"),
        ([(b"", writer.header()), (b"\xff", writer.entry(ARRAY, 0, 0))], "utf-8"),
    ],
)
def test_unusable_entries(tmp_path: Path, entries: list[tuple[bytes, bytes]], message: str) -> None:
    _write_entries(tmp_path / "c", entries)
    with pytest.raises(CheckpointError, match=message):
        TensorBundle(tmp_path / "c")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (writer.entry(ARRAY, 0, 0, extra=writer.field(7, b"")), "stored in several parts"),
        (writer.entry(ARRAY.astype(bool), 0, 0), "TensorFlow's type 10"),
        (writer.entry(ARRAY, 2**60, 0), "truncated"),
        (
            writer.field(1, 1) + writer.field(2, writer.field(2, writer.field(1, 2**63))) + writer.field(5, 16),
            "16 bytes",
        ),
    ],
)
def test_unusable_tensors(tmp_path: Path, value: bytes, message: str) -> None:
    _write_entries(tmp_path / "c", [(b"", writer.header()), (b"x", value)])
    with pytest.raises(CheckpointError, match=message):
        TensorBundle(tmp_path / "c").read("x")


def test_compressed_index(tmp_path: Path) -> None:
    _write_entries(tmp_path / "c", [(b"", writer.header())], compression=1)
    with pytest.raises(CheckpointError, match="compressed"):
        TensorBundle(tmp_path / "c")


def test_archive_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="damaged"), open_bundle(tmp_path / "x.tar.gz"):
        pass


@pytest.mark.parametrize("name", ["run/ckpt-1.index", "run/notes.txt"])
def test_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = 90_000_000
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert (tmp_path / "x.tar.gz").stat().st_size < 500_000
    with (
        pytest.raises(CheckpointError, match=r"x\.tar\.gz of 0\.\d MB unpacks to more than \d\d MB"),
        open_bundle(tmp_path / "x.tar.gz"),
    ):
        pass


def test_a_long_name_in_an_archive_is_counted_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT, compresslevel=1) as tar:
        tar.addfile(tarfile.TarInfo("x" * 90_000_000))
    with pytest.raises(CheckpointError, match="unpacks to more than"), open_bundle(tmp_path / "x.tar.gz"):
        pass


def test_index_of_no_possible_size(tmp_path: Path) -> None:
    with (tmp_path / "c.index").open("wb") as file:
        file.truncate(3 * 10**9)  # a hole, which takes no room
    with pytest.raises(
        CheckpointError, match=r"has 3000 MB, and an index of a TensorFlow checkpoint has less than one"
    ):
        TensorBundle(tmp_path / "c")


def test_keys_that_share_a_long_start(tmp_path: Path) -> None:
    start = b"x" * 50_000
    entries = [(b"", writer.header()), *((start + b"%04d" % n, writer.entry(ARRAY, 0, 0)) for n in range(2000))]
    _write_entries(tmp_path / "c", entries, restart_interval=10**6, entries_a_block=10**6)
    assert (tmp_path / "c.index").stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="claims more than an index of that size can hold"):
        TensorBundle(tmp_path / "c")


def test_many_tensors_of_the_same_bytes(tmp_path: Path) -> None:
    entries = [(b"%d" % n, writer.entry(ARRAY, 8 * n, 0)) for n in range(3)]
    _write_entries(tmp_path / "c", [(b"", writer.header()), *entries])
    with pytest.raises(CheckpointError, match="two of its tensors have the byte 8 of data file 0"):
        TensorBundle(tmp_path / "c")


# ------------------------------------------------------------------------------------------------------------ checksums


@pytest.mark.parametrize(
    ("data", "checksum"),  # RFC 3720, B.4
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"", 0)],
)
def test_crc32c_of_the_standard(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@pytest.mark.parametrize("length", [1, 1023, 1024, 1025, 1090, 4095, 4096, 4097, 30_011])
def test_crc32c_agrees_with_tensorboard(length: int) -> None:
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == unmask(masked_crc32c(data))
