"""Parts of large files are what is in the file, and what is no single picture is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.regions import open_regions

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")

RGB = np.random.default_rng(0).integers(0, 256, (130, 170, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _every_tiff_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)


def _part(place: Path) -> np.ndarray:
    with open_regions(place) as image:
        assert image.size == (130, 170)
        return image.read(slice(20, 101), slice(5, 160))


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 48), "compression": "zlib", "photometric": "rgb"},
        {"tile": (32, 48), "compression": "lzw", "photometric": "rgb", "bigtiff": True},
        {"rowsperstrip": 7, "compression": "zlib", "photometric": "rgb"},
        {"photometric": "rgb"},  # one block, which is mapped
        {"photometric": "rgb", "byteorder": ">"},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_tiff(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, **options)
    np.testing.assert_array_equal(_part(tmp_path / "a.tif"), RGB[20:101, 5:160])


def test_16_bits_gray_and_planes_of_color(tmp_path: Path) -> None:
    gray = RGB[..., 0].astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "gray.tif", gray, tile=(32, 32), photometric="minisblack")
    np.testing.assert_array_equal(_part(tmp_path / "gray.tif"), np.repeat(RGB[20:101, 5:160, :1], 3, axis=2))
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    how = {"tile": (32, 32), "photometric": "minisblack", "metadata": {"axes": "CYX"}}
    tifffile.imwrite(tmp_path / "planes.ome.tif", planes, **how)
    np.testing.assert_array_equal(_part(tmp_path / "planes.ome.tif"), RGB[20:101, 5:160])


def test_the_largest_picture_of_a_pyramid(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        how = {"tile": (32, 32), "photometric": "rgb"}
        writer.write(RGB, subifds=1, **how)
        writer.write(RGB[::2, ::2], subfiletype=1, **how)
    np.testing.assert_array_equal(_part(tmp_path / "a.ome.tif"), RGB[20:101, 5:160])


def test_zarr_and_ome_zarr(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=RGB, chunks=(32, 32, 3))
    np.testing.assert_array_equal(_part(tmp_path / "a.zarr"), RGB[20:101, 5:160])
    for version in ("0.4", "0.5"):
        group = zarr.open_group(str(tmp_path / f"{version}.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3)
        group.create_array("0", data=RGB.transpose(2, 0, 1)[None, :, None], chunks=(1, 1, 1, 32, 32))
        axes = [{"name": name} for name in "tczyx"]
        about = {"multiscales": [{"version": version, "axes": axes, "datasets": [{"path": "0"}]}]}
        group.attrs.update(about if version == "0.4" else {"ome": about})
        np.testing.assert_array_equal(_part(tmp_path / f"{version}.zarr"), RGB[20:101, 5:160])


def test_what_is_no_single_picture_is_refused(tmp_path: Path) -> None:
    stack = np.zeros((5, 130, 170), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "channels.ome.tif", stack, photometric="minisblack", metadata={"axes": "CYX"})
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[:50], photometric="rgb")
    (tmp_path / "text.tif").write_text("no picture")
    (tmp_path / "folder.zarr").mkdir()
    for name, said in {
        "stack.tif": "Expected one picture",
        "channels.ome.tif": "has 5 channels",
        "pages.tif": "has 2 pictures",
        "text.tif": "no TIFF file",
        "folder.zarr": "is no image",
        "absent.tif": "does not exist",
    }.items():
        with pytest.raises(ImageError, match=said):
            open_regions(tmp_path / name)


def test_a_damaged_tile_is_an_image_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, tile=(32, 32), compression="zlib", photometric="rgb")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    with open_regions(path) as image, pytest.raises(ImageError, match="cannot be read in rows 0 to 10"):
        image.read(slice(0, 10), slice(0, 10))
