import io

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import OutputError
from panoptic_deeplab.images.write import encoded, save_picture


def test_a_full_disk_leaves_no_picture(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"a\.png cannot be written: No space left on device"):
        save_picture(Image.new("RGB", (2, 2)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_what_a_file_would_hold(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    save_picture(Image.fromarray(pixels), tmp_path / "a.png")
    assert encoded(Image.fromarray(pixels)) == (tmp_path / "a.png").read_bytes()
    with Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "jpeg", quality=50))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (4, 2))
