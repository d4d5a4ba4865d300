"""One mask an object, in a folder an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.object_masks import ObjectMasksSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import ConfigError, DatasetError

CELL = Category(id=3, name="cell", isthing=True, color=(1, 1, 1))
GLASS = Category(id=9, name="glass", isthing=False, color=(2, 2, 2))
TABLE = CategoryTable(name="lab", categories=(CELL, GLASS))
CELLS = CategoryTable(name="cells", categories=(CELL,))

LARGE = np.array([[255, 255, 255, 0], [255, 255, 255, 0]], np.uint8)
SMALL = np.array([[0, 0, 255, 255], [0, 0, 0, 0]], np.uint8)


def write(root: Path, name: str, masks: dict[str, np.ndarray] | None, split: str = "train") -> Path:
    folder = root / split / name
    (folder / "images").mkdir(parents=True)
    Image.new("RGBA", (4, 2)).save(folder / "images" / f"{name}.png")
    if masks is not None:
        (folder / "masks").mkdir()
        for file, mask in masks.items():
            Image.fromarray(mask).save(folder / "masks" / file)
    return folder


def read(root: Path, table: CategoryTable = TABLE, **options) -> list[list[int]]:
    return ObjectMasksSource(root, "train", table, **options)[0].panoptic_map.tolist()


def problems_of(root: Path) -> list[str]:
    problems = Problems()
    ObjectMasksSource(root, "train", TABLE, problems=problems)
    return [message for message, _ in problems.messages()]


def test_the_smaller_of_two_that_overlap_is_on_top(tmp_path):
    write(tmp_path, "n1", {"a.png": SMALL, "b.png": LARGE})
    sample = ObjectMasksSource(tmp_path, "train", TABLE)[0]
    assert sample.image_id == "n1"
    assert sample.panoptic_map.tolist() == [[2, 2, 1, 1], [2, 2, 2, 3]]
    assert [(s.id, s.name, s.area) for s in sample.segments_info] == [(1, "cell", 2), (2, "cell", 5), (3, "glass", 1)]
    assert read(tmp_path, overlap="file") == [[2, 2, 2, 1], [2, 2, 2, 3]]
    with pytest.raises(ConfigError, match="this format has none"):
        read(tmp_path, overlap="z_order")


def test_without_a_stuff_class_the_rest_is_void(tmp_path):
    write(tmp_path, "n1", {"a.png": SMALL})
    assert read(tmp_path, CELLS) == [[0, 0, 1, 1], [0, 0, 0, 0]]


def test_masks_of_several_stuff_classes_need_the_name_of_the_unlabeled_one(tmp_path):
    write(tmp_path, "n1", {"a.png": SMALL})
    stuff = (GLASS, Category(id=10, name="dirt", isthing=False, color=(3, 3, 3)))
    table = CategoryTable(name="lab", categories=(CELL, *stuff), unlabeled="dirt")
    sample = ObjectMasksSource(tmp_path, "train", table)[0]
    assert [s.name for s in sample.segments_info] == ["cell", "dirt"]
    two_things = CategoryTable(name="lab", categories=(CELL, Category(id=1, name="c", isthing=True, color=(0, 0, 0))))
    with pytest.raises(DatasetError, match="with one thing class"):
        read(tmp_path, two_things)


@pytest.mark.parametrize("kind", ["RGBA", "alpha", "black on transparent", "bit", "one", "16 bit", "soft", "palette"])
def test_masks_of_every_kind_of_png(tmp_path, kind):
    shape = SMALL > 0
    rgba = np.zeros((2, 4, 4), np.uint8)
    rgba[shape] = 255
    pictures = {
        "RGBA": np.dstack([SMALL, SMALL, SMALL, np.full_like(SMALL, 255)]),
        "alpha": rgba,
        "black on transparent": np.dstack([np.zeros((2, 4, 3), np.uint8), SMALL]),
        "bit": shape,
        "one": shape.astype(np.uint8),
        "16 bit": SMALL.astype(np.uint16) * 257,
        "soft": np.where(shape, SMALL, np.uint8(60)),
    }
    picture = Image.fromarray(SMALL).convert("P") if kind == "palette" else Image.fromarray(pictures[kind])
    folder = write(tmp_path, "n1", {})
    picture.save(folder / "masks" / "A.PNG")
    assert read(tmp_path, CELLS) == [[0, 0, 1, 1], [0, 0, 0, 0]]


def test_a_label_image_in_the_place_of_a_mask_is_refused(tmp_path):
    write(tmp_path, "n1", {"a.png": np.array([[0, 1, 2, 3]] * 2, np.uint8)})
    with pytest.raises(DatasetError, match=r"a.png holds several numbers up to 3.*format label_images"):
        read(tmp_path)


def test_a_mask_of_another_size_is_refused(tmp_path):
    write(tmp_path, "n1", {"a.png": SMALL.T})
    with pytest.raises(
        DatasetError, match=r"a.png has the size \(height, width\) \(4, 2\).*images/n1.png has \(2, 4\)"
    ):
        read(tmp_path)


def test_lists_name_folders_wherever_they_lie(tmp_path):
    write(tmp_path, "n1", {"a.png": SMALL}, split="stage1_train")
    write(tmp_path, "n2", {"a.png": SMALL}, split="stage1_train")
    (tmp_path / "stage1_train" / "n3").mkdir()
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfn2\r\n")
    source = ObjectMasksSource(tmp_path, "train", TABLE)
    assert list(source.image_ids) == ["n2"]
    assert len(source[0].segments_info) == 2
    (tmp_path / "train.txt").write_text("n2\nn2\nn4\nn3")
    listed_twice, absent, no_image, no_masks = problems_of(tmp_path)
    assert "entry 2 lists 'n2' twice" in listed_twice
    assert "entry 3 names 'n4', but" in absent
    assert "stage1_train/n3 has no image in images/" in no_image
    assert "n3/masks does not exist, though other images have masks" in no_masks


def test_an_empty_folder_of_masks_has_no_object_and_no_folder_no_labels(tmp_path):
    write(tmp_path, "n1", {})
    assert read(tmp_path, CELLS) == [[0] * 4] * 2
    write(tmp_path, "n1", None, split="test")
    assert ObjectMasksSource(tmp_path, "test", TABLE)[0].panoptic_map is None


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    folder = write(tmp_path, "n1", {"a.png": SMALL})
    (folder / "masks" / "a.npy").touch()
    (folder / "masks" / ".DS_Store").touch()
    Image.new("L", (4, 2)).save(folder / "images" / "second.png")
    Image.new("L", (4, 2)).save(tmp_path / "train" / "loose.png")
    write(tmp_path, "n2", None)
    loose, images, other, missing = problems_of(tmp_path)
    assert "train/loose.png is not read. Expected NAME/images/" in loose
    assert "train/n1 holds 2 images in images/. Expected one" in images
    assert "masks/a.npy is no mask that can be read" in other
    assert "n2/masks does not exist" in missing
    with pytest.raises(DatasetError, match=r"loose.png is not read.*problems of 3 other kinds \(4 in all\)"):
        ObjectMasksSource(tmp_path, "train", TABLE)
    with pytest.raises(DatasetError, match="Split 'val' is not in"):
        ObjectMasksSource(tmp_path, "val", TABLE)
