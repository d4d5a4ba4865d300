"""Labels of a folder set under names that exporters give them: read where they mean one thing, else named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError

TABLE = CategoryTable(
    name="lab",
    categories=(
        Category(id=1, name="cell", isthing=True, color=(1, 1, 1)),
        Category(id=2, name="glass", isthing=False, color=(2, 2, 2)),
    ),
)
INSTANCES = np.array([[1, 1, 0, 0], [0, 0, 2, 0]], np.uint8)
SEMANTIC = np.where(INSTANCES > 0, 1, 2).astype(np.uint8)
NAMES = ("a", "b", "c")


def write_set(root: Path, *, lists: bool, names: tuple[str, ...] = NAMES, split: str = "train") -> None:
    sub_folder = Path() if lists else Path(split)
    for folder, array in (("images", np.zeros((2, 4, 3), np.uint8)), ("instances", INSTANCES), ("semantic", SEMANTIC)):
        (root / folder / sub_folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(array).save(root / folder / sub_folder / f"{name}.png")
    if lists:
        (root / f"{split}.txt").write_text("\n".join(names))


def num_instances(source: FolderSource) -> list[int]:
    return [sum(s.isthing and not s.iscrowd for s in source[i].segments_info) for i in range(len(source))]


def problems_of(root: Path, split: str = "train") -> list[str]:
    problems = Problems()
    FolderSource(root, split, TABLE, problems=problems)
    return [message for message, _ in problems.messages()]


def rename_labels(folder: Path, pattern: str) -> None:
    """Write the labels again under another name and in the format of its suffix."""
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            array = np.asarray(picture)
        path.unlink()
        Image.fromarray(array).save(folder / pattern.format(path.stem))


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("kind", ["instances", "semantic"])
@pytest.mark.parametrize(
    "pattern",
    [
        "{}.PNG",
        "{}.tif",
        "{}.TIFF",
        "{}.bmp",
        "{}_mask.png",
        "{}_label.tif",
        "{}-seg.png",
        "{}_gtFine_instanceIds.png",
    ],
)
def test_labels_of_other_names_are_read(tmp_path, lists, kind, pattern):
    write_set(tmp_path, lists=lists)
    rename_labels(tmp_path / kind / ("" if lists else "train"), pattern)
    assert num_instances(FolderSource(tmp_path, "train", TABLE)) == [2, 2, 2]


@pytest.mark.parametrize("images_too", [True, False])
def test_sub_folders_beside_a_list(tmp_path, images_too):
    write_set(tmp_path, lists=True)
    for kind in ("instances", "semantic", *(("images",) if images_too else ())):
        (tmp_path / kind / "train").mkdir()
        for path in (tmp_path / kind).glob("*.png"):
            path.rename(tmp_path / kind / "train" / path.name)
    assert num_instances(FolderSource(tmp_path, "train", TABLE)) == [2, 2, 2]


def test_names_that_begin_like_another_are_not_mixed_up(tmp_path):
    write_set(tmp_path, lists=True, names=("a", "a_mask", "a_mask_2", "ab"))
    (tmp_path / "train.txt").write_text("a\n")
    for kind in ("instances", "semantic"):
        (tmp_path / kind / "a.png").unlink()
    assert FolderSource(tmp_path, "train", TABLE)[0].panoptic_map is None  # a_mask.png belongs to the image a_mask
    assert problems_of(tmp_path) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("mask_{}.png",), "mask_a.png belongs to no image"),
        (("{}_0.png",), "a_0.png belongs to no image"),
        (("{}_mask.png", "{}_instances.png"), "holds files with several tails, _instances, _mask"),
        (("{}.png", "{}_mask.png"), "a_mask.png belongs to no image"),
        (("{}.png", "{}.tif"), "differ only in their suffix"),
        (("{}.npy",), "a.npy is no picture that can be read"),
    ],
)
@pytest.mark.parametrize("lists", [True, False])
def test_labels_whose_image_would_be_a_guess_are_errors(tmp_path, lists, names, message):
    write_set(tmp_path, lists=lists)
    folder = tmp_path / "instances" / ("" if lists else "train")
    for path in folder.glob("*.png"):
        path.unlink()
    for name in NAMES:
        for pattern in names:
            Image.fromarray(INSTANCES).save(folder / pattern.format(name), format="PNG")
    with pytest.raises(DatasetError, match=message):
        FolderSource(tmp_path, "train", TABLE)


@pytest.mark.parametrize("folder", ["masks", "instance", "Instances/train", "labels/train"])
@pytest.mark.parametrize("lists", [True, False])
def test_a_folder_that_may_hold_the_labels_and_is_not_read_is_an_error(tmp_path, lists, folder):
    write_set(tmp_path, lists=lists)
    (tmp_path / folder).mkdir(parents=True)
    for path in (tmp_path / "instances" / ("" if lists else "train")).glob("*.png"):
        path.rename(tmp_path / folder / f"{path.stem}_mask.png")
    expected = tmp_path / "instances" / ("" if lists else "train")
    with pytest.raises(DatasetError, match=rf"{folder} holds files .*nothing reads them.*call the folder {expected};"):
        FolderSource(tmp_path, "train", TABLE)


def test_a_split_of_another_case_is_an_error(tmp_path):
    write_set(tmp_path, lists=False)
    (tmp_path / "instances" / "train").rename(tmp_path / "instances" / "Train")
    assert any("instances holds files, but none for an image of split 'train'" in m for m in problems_of(tmp_path))


@pytest.mark.parametrize("lists", [True, False])
def test_only_one_split_without_instances_is_an_error(tmp_path, lists):
    write_set(tmp_path, lists=lists)
    write_set(tmp_path, lists=lists, names=("d", "e"), split="val")
    for name in ("d", "e"):
        (tmp_path / "instances" / ("" if lists else "val") / f"{name}.png").unlink()
    assert num_instances(FolderSource(tmp_path, "train", TABLE)) == [2, 2, 2]
    with pytest.raises(DatasetError, match="instances holds files, but none for an image of split 'val'"):
        FolderSource(tmp_path, "val", TABLE)


def test_missing_labels_are_told_together_with_their_number(tmp_path):
    write_set(tmp_path, lists=True, names=tuple("abcdefg"))
    for name in "bcdefg":
        (tmp_path / "instances" / f"{name}.png").unlink()
    (message,) = problems_of(tmp_path)
    assert "instances/b.png does not exist, though other images have instances" in message
    assert message.endswith("The same is wrong with c.png, d.png, e.png and 2 more.")
    with pytest.raises(DatasetError, match=r"b.png does not exist"):
        FolderSource(tmp_path, "train", TABLE)


def test_splits_of_the_same_names_do_not_disturb_each_other(tmp_path):
    for split in ("train", "val"):
        write_set(tmp_path, lists=False, split=split)
    for path in (tmp_path / "semantic").rglob("*.png"):
        path.unlink()
    for split in ("train", "val"):
        assert num_instances(FolderSource(tmp_path, split, TABLE)) == [2, 2, 2]


@pytest.mark.parametrize("content", ["a.png\r\nb.png\r\nc\r\n", "\ufeffa\nb\n\n c \n"])
def test_lists_with_suffixes_windows_line_ends_and_marks(tmp_path, content):
    write_set(tmp_path, lists=True)
    (tmp_path / "train.txt").write_bytes(content.encode())
    assert list(FolderSource(tmp_path, "train", TABLE).image_ids) == ["a", "b", "c"]
    (tmp_path / "train.txt").write_bytes(content.strip("\ufeff").encode("utf-16"))
    assert list(FolderSource(tmp_path, "train", TABLE).image_ids) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train.txt lists no image"),
        (b" \n\n", "train.txt lists no image"),
        (b"a\nb\na.png\n", "entry 3 lists 'a' twice"),
        (b"a.jpg\n", "entry 1 names 'a.jpg', but the image .* does not exist"),
        (b"../a\n", "entry 1 names '../a', but the image .* does not exist"),
        (b"Stra\xdfe\n", "no text in UTF-8.*0xdf in line 1"),
    ],
)
def test_lists_that_name_what_is_not_there(tmp_path, content, message):
    write_set(tmp_path, lists=True)
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        FolderSource(tmp_path, "train", TABLE)


@pytest.mark.parametrize("lists", [True, False])
def test_images_that_nobody_could_read_are_named_before_anything_is_read(tmp_path, lists):
    write_set(tmp_path, lists=lists)
    sub_folder = "" if lists else "train"
    images = tmp_path / "images" / sub_folder
    (images / "a.png").rename(images / "a.HEIC")
    (images / "b.png").unlink()
    (images / "b.png").symlink_to(tmp_path / "gone.png")
    messages = problems_of(tmp_path)
    assert len(messages) == 2
    assert "a.HEIC is a picture in a format that cannot be read" in messages[0]
    assert "b.png is a link to a file that does not exist" in messages[1]
    with pytest.raises(DatasetError, match=r"a\.HEIC .*problems of one other kind \(2 in all\).*data check"):
        FolderSource(tmp_path, "train", TABLE)


def test_what_systems_and_people_put_beside_images_is_no_image(tmp_path):
    write_set(tmp_path, lists=False)
    for folder in ("images", "instances", "semantic"):
        for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "README", "license.txt"):
            (tmp_path / folder / "train" / name).write_bytes(b"no image")
    assert num_instances(FolderSource(tmp_path, "train", TABLE)) == [2, 2, 2]


def test_folders_in_the_folder_of_a_split_are_named(tmp_path):
    write_set(tmp_path, lists=False)
    (tmp_path / "images" / "train" / "more").mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "images" / "train" / "more" / "d.jpg")
    with pytest.raises(DatasetError, match=r"images/train/more holds files that are not read"):
        FolderSource(tmp_path, "train", TABLE)


@pytest.mark.parametrize("suffix", ["jfif", "jp2", "webp", "avif"])
def test_images_of_every_format_that_is_read(tmp_path, suffix):
    write_set(tmp_path, lists=False)
    path = tmp_path / "images" / "train" / "a.png"
    Image.new("RGB", (4, 2)).save(path.with_suffix(f".{suffix}"))
    path.unlink()
    source = FolderSource(tmp_path, "train", TABLE)
    assert len(source) == 3
    assert source[0].image.shape == (2, 4, 3)


def test_links_that_lead_out_of_the_set_need_permission(tmp_path):
    root, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    write_set(root, lists=False)
    elsewhere.mkdir()
    for kind in ("images", "instances"):
        path = root / kind / "train" / "a.png"
        path.rename(elsewhere / f"{kind}.png")
        path.symlink_to(elsewhere / f"{kind}.png")
        with pytest.raises(DatasetError, match=r"names the file 'a.png', which lies outside .*data.outside_root true"):
            FolderSource(root, "train", TABLE)[0]
        assert FolderSource(root, "train", TABLE, outside_root=True)[0].size == (2, 4)
        path.unlink()
        (elsewhere / f"{kind}.png").rename(path)


def test_folders_of_the_layout_and_links_within_the_set_may_be_links(tmp_path):
    root, disk = tmp_path / "set", tmp_path / "disk"
    write_set(disk, lists=False)
    root.mkdir()
    for kind in ("images", "instances"):
        (root / kind).symlink_to(disk / kind)
    (root / "semantic" / "train").mkdir(parents=True)
    (root / "all").mkdir()
    for path in (disk / "semantic" / "train").iterdir():
        path.rename(root / "all" / path.name)
        (root / "semantic" / "train" / path.name).symlink_to(root / "all" / path.name)
    source = FolderSource(root, "train", TABLE, problems=Problems())
    assert num_instances(source) == [2, 2, 2]


def test_problems_are_plain_data(tmp_path):
    write_set(tmp_path, lists=True)
    (tmp_path / "instances" / "a.png").unlink()
    problems = Problems()
    FolderSource(tmp_path, "train", TABLE, problems=problems)
    ((message, image_id),) = problems.messages()
    assert image_id == "a"
    assert json.dumps(message)
