"""TIFF files of several pages, written by the programs' library and by Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.errors import ImageError
from panoptic_deeplab.images.pages import num_pages
from panoptic_deeplab.images.read import range_warning, read_image

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")

STACK = np.arange(3, dtype=np.uint8)[:, None, None] * 60 + np.arange(20, dtype=np.uint8).reshape(4, 5)


def test_each_page_is_read_as_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    assert num_pages(path) == 3
    for page in range(3):
        assert np.array_equal(read_image(path, page=page)[..., 1], STACK[page])
    for page in (3, -1):
        with pytest.raises(ImageError, match=rf"has no page {page}: it has 3"):
            read_image(path, page=page)
    with pytest.raises(ImageError, match=r"has 3 pages or frames.*page=0"):
        read_image(path)


def test_depth_and_colors_of_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[2].astype(np.uint16) * 257, photometric="minisblack")
        writer.write(np.stack([STACK[1]] * 3, axis=-1) + np.array([0, 1, 2], np.uint8), photometric="rgb")
        writer.write(STACK[2].astype(np.uint16), photometric="minisblack")
    assert read_image(tmp_path / "a.tif", page=0, deep=True).dtype == np.uint16
    assert (read_image(tmp_path / "a.tif", page=1)[0, 0] == [60, 61, 62]).all()
    assert range_warning(tmp_path / "a.tif", page=0) is None
    assert "no value above 139" in str(range_warning(tmp_path / "a.tif", page=2))


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_stacks_of_imagej_and_ome_have_pages(tmp_path: Path, axes: str) -> None:
    for name, how in {"imagej": {"imagej": True}, "ome": {"ome": True}}.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, STACK.astype(np.uint16), metadata={"axes": axes}, photometric="minisblack", **how)
        assert num_pages(path) == 3
        assert (read_image(path, page=2, deep=True)[..., 0] == STACK[2]).all()


@pytest.mark.parametrize(("how", "axes"), [("imagej", "ZCYX"), ("imagej", "CYX"), ("ome", "CYX"), ("ome", "ZCYX")])
def test_channels_stored_as_pages_are_refused(tmp_path: Path, how: str, axes: str) -> None:
    path, options = tmp_path / "a.tif", {how: True}
    stack = np.stack([STACK, STACK]) if axes == "ZCYX" else STACK
    tifffile.imwrite(path, stack, metadata={"axes": axes}, photometric="minisblack", **options)
    assert num_pages(path) == (2 if axes == "ZCYX" else 1)
    for call in (read_image, lambda path: read_image(path, page=1)):
        with pytest.raises(ImageError, match=r"a\.tif stores 3 channels as pages"):
            call(path)


def test_colors_of_an_ome_file_are_no_pages(tmp_path: Path) -> None:
    colors = np.stack([STACK] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", colors, ome=True, metadata={"axes": "ZYXS"}, photometric="rgb")
    assert num_pages(tmp_path / "a.tif") == 3


def test_large_stack_of_imagej_behind_one_directory_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], description="ImageJ=1.53t\nimages=9\nslices=9\n", metadata=None)
    with pytest.raises(ImageError, match=r"a stack of 9 pictures .* behind one directory"):
        read_image(tmp_path / "a.tif")


def test_copies_and_masks_are_no_pages(tmp_path: Path) -> None:
    pictures: list[Any] = [Image.fromarray(STACK[page]) for page in (0, 1, 2, 1)]
    for picture, kind in zip(pictures, (0, 1, 0, 4), strict=True):
        picture.encoderinfo = {"tiffinfo": {254: kind}}  # NewSubfileType: a reduced copy, a mask
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:])
    assert num_pages(tmp_path / "a.tif") == 2
    assert (read_image(tmp_path / "a.tif", page=1)[..., 0] == STACK[2]).all()


def test_all_other_files_have_one_page(tmp_path: Path) -> None:
    pages: list[Any] = [Image.new("RGB", (8, 8), (90 * i, 20, 30)) for i in range(3)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    assert num_pages(tmp_path / "a.gif") == 1
    (tmp_path / "b.tif").write_bytes(b"nothing")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.tif", format="PNG")
    assert [num_pages(tmp_path / name) for name in ("b.tif", "c.tif", "missing.tif")] == [1, 1, 1]
