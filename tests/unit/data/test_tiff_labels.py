"""TIFF label images of scientists' programs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.data.label_files import read_id_label
from panoptic_deeplab.data.tiff_labels import needs_tifffile
from panoptic_deeplab.errors import DatasetError

tifffile = pytest.importorskip("tifffile")

LABELS = np.array([[0, 1, 2], [300, 300, 0]])


def written(path: Path, dtype: str, **options) -> Path:
    tifffile.imwrite(path, LABELS.astype(dtype), **options)
    return path


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"])
def test_numbers_of_every_kind(tmp_path, dtype, compression, byteorder):
    path = written(tmp_path / "a.tif", dtype, compression=compression, byteorder=byteorder)
    labels = read_id_label(path)
    assert labels.dtype == np.int32
    assert labels.tolist() == LABELS.tolist()


def test_labels_of_imagej(tmp_path):
    assert read_id_label(written(tmp_path / "a.tif", "float32", imagej=True)).tolist() == LABELS.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("value", "message"), [(0.5, "holds fractions"), (np.nan, "holds fractions"), (-1, "holds -1"), (2**24, "holds 0")]
)
def test_numbers_that_are_no_labels(tmp_path, dtype, value, message):
    values = LABELS.astype(dtype)
    values[1, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(DatasetError, match=message):
        read_id_label(tmp_path / "a.tif")


def test_several_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([LABELS] * 2).astype(np.int64), photometric="minisblack")
    with pytest.raises(DatasetError, match=r"a.tif has 2 pages"):
        read_id_label(tmp_path / "a.tif")


def test_a_size_that_nobody_could_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(DatasetError, match="too large: 6 pixels"):
        read_id_label(written(tmp_path / "a.tif", "int64"))


def test_a_broken_file_is_named(tmp_path):
    path = written(tmp_path / "a.tif", "int64", compression="zlib")
    path.write_bytes(path.read_bytes()[:-4].replace(b"\x78\xda", b"\x00\x00").replace(b"\x78\x9c", b"\x00\x00"))
    with pytest.raises(DatasetError, match=r"a.tif cannot be read as TIFF"):
        read_id_label(path)


def test_without_tifffile_the_message_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path / "a.tif", "int64")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DatasetError, match=r"a.tif.*needs the package tifffile.*panoptic-deeplab\[tiff\].*16 bits"):
        read_id_label(path)
    assert not needs_tifffile(written_by_pillow(tmp_path / "b.tif"))
    assert read_id_label(tmp_path / "b.tif").tolist() == LABELS.tolist()


def written_by_pillow(path: Path) -> Path:
    Image.fromarray(LABELS.astype(np.uint16)).save(path)
    return path
