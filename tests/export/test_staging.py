"""Disks that are full, and folders that are closed: one sentence, and nothing left behind."""

import errno
from pathlib import Path

import pytest
import torch

from panoptic_deeplab.errors import OutputError
from panoptic_deeplab.export.staging import staged
from panoptic_deeplab.export.writers import save_onnx, save_openvino, save_torch
from panoptic_deeplab.inference.exported.model_file import read_model_file_info


def test_what_the_system_refuses(tmp_path: Path) -> None:
    path = tmp_path / "models" / "street.onnx"

    def write(file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"street\.onnx cannot be written: No space left"), staged(path) as file:
        write(file)
    assert list(path.parent.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"street\.onnx cannot be written"), staged(tmp_path / "file" / "street.onnx"):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_an_error_of_the_system_for_every_format(exported: Path, tmp_path: Path) -> None:
    """And does not end the process, as torch's own writer does."""
    import onnx
    import openvino

    info = read_model_file_info(exported / "network.pt2")
    for suffix in (".pt2", ".onnx", ".xml", ".bin"):
        (tmp_path / f"street{suffix}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_torch(torch.export.load(exported / "network.pt2"), tmp_path / "street.pt2", info)
    with pytest.raises(OSError, match="No space left"):
        save_onnx(onnx.load(exported / "network.onnx"), tmp_path / "street.onnx")
    with pytest.raises(OutputError, match=r"OpenVINO cannot write .*street\.xml"):
        save_openvino(openvino.Core().read_model(exported / "network.xml"), tmp_path / "street.xml", info)
