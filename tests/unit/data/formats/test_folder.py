"""Images with instance maps, semantic maps or both."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.folder import FolderSource, labels_from_maps
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.places import check_consistency

THING = Category(id=3, name="cell", isthing=True, color=(1, 1, 1))
OTHER_THING = Category(id=5, name="vessel", isthing=True, color=(2, 2, 2))
STUFF = Category(id=9, name="glass", isthing=False, color=(3, 3, 3))
BOTH = CategoryTable(name="lab", categories=(THING, OTHER_THING, STUFF), void_ids=(255,))
CELLS = CategoryTable(name="cells", categories=(THING, STUFF))
CELLS_ONLY = CategoryTable(name="cells_only", categories=(THING,))

INSTANCES = np.array([[1, 1, 0, 0], [0, 300, 0, 0]], np.uint16)
SEMANTIC = np.array([[3, 3, 9, 255], [9, 5, 5, 3]], np.uint8)


def write_set(root: Path, *, split: str = "", name: str = "a", instances=INSTANCES, semantic=SEMANTIC) -> None:
    for folder, array in (("images", np.zeros((2, 4, 3), np.uint8)), ("instances", instances), ("semantic", semantic)):
        if array is not None:
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / split / f"{name}.png")


def facts(sample) -> list[tuple]:
    return [(s.id, s.name, s.iscrowd, s.area) for s in sample.segments_info]


def test_instances_and_semantics_together(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train.txt").write_text("a\n")
    sample = FolderSource(tmp_path, "train", BOTH)[0]
    assert sample.image_id == "a"
    assert sorted(facts(sample), key=lambda fact: fact[1:]) == [
        (1, "cell", False, 2),
        (301, "cell", True, 1),
        (303, "glass", False, 2),
        (300, "vessel", False, 1),
        (302, "vessel", True, 1),
    ]
    assert sample.panoptic_map.tolist() == [[1, 1, 303, 0], [303, 300, 302, 301]]


def test_instances_alone_use_the_only_classes(tmp_path):
    write_set(tmp_path, semantic=None)
    (tmp_path / "train.txt").write_text("a")
    sample = FolderSource(tmp_path, "train", CELLS)[0]
    assert facts(sample) == [(301, "glass", False, 5), (1, "cell", False, 2), (300, "cell", False, 1)]
    sample = FolderSource(tmp_path, "train", CELLS_ONLY)[0]
    assert facts(sample) == [(1, "cell", False, 2), (300, "cell", False, 1)]
    assert (sample.panoptic_map == INSTANCES).all()


def test_semantics_alone_make_crowds_of_things(tmp_path):
    write_set(tmp_path, instances=None)
    (tmp_path / "train.txt").write_text("a")
    sample = FolderSource(tmp_path, "train", BOTH)[0]
    assert sorted(facts(sample)) == [(1, "cell", True, 3), (2, "vessel", True, 2), (3, "glass", False, 2)]


def test_instances_alone_need_a_table_without_a_choice(tmp_path):
    write_set(tmp_path, semantic=None)
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(DatasetError, match=r"'lab' has 2 and 1"):
        FolderSource(tmp_path, "train", BOTH)


def test_sub_folders_are_splits(tmp_path):
    write_set(tmp_path, split="train", name="b")
    write_set(tmp_path, split="train", name="a")
    write_set(tmp_path, split="val", name="c")
    source = FolderSource(tmp_path, "train", BOTH)
    assert list(source.image_ids) == ["a", "b"]
    assert len(facts(source[1])) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no files of these names")
@pytest.mark.parametrize("name", ["a:b", r"a\b", "con", "~a", "C:a", "a\nb", "-a"])
def test_what_the_disk_lists_may_have_any_name(tmp_path, name):
    write_set(tmp_path, split="train", name=name)
    assert FolderSource(tmp_path, "train", BOTH)[0].image_id == name


def test_a_split_without_label_files_has_no_labels(tmp_path):
    write_set(tmp_path, split="train")
    write_set(tmp_path, split="test", instances=None, semantic=None)
    sample = FolderSource(tmp_path, "test", BOTH)[0]
    assert sample.panoptic_map is None
    write_set(tmp_path, split="train", name="b", semantic=None)
    with pytest.raises(DatasetError, match=r"semantic/train/b.png does not exist, though other images have semantic"):
        FolderSource(tmp_path, "train", BOTH)


@pytest.mark.parametrize("kind", ["instances", "semantic"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost.png", "lost.png belongs to no image"),
        ("a_mask.png", "a_mask.png belongs to no image"),
        ("a.tif", "a.png and a.tif differ only in their suffix"),
        ("a.npy", "a.npy is no picture that can be read"),
    ],
)
def test_labels_that_nothing_uses_are_errors_in_sub_folders(tmp_path, kind, name, message):
    write_set(tmp_path, split="train")
    (tmp_path / kind / "train" / "readme.txt").touch()
    assert len(FolderSource(tmp_path, "train", BOTH)) == 1
    (tmp_path / kind / "train" / name).touch()
    with pytest.raises(DatasetError, match=rf"{kind}/train/{message}"):
        FolderSource(tmp_path, "train", BOTH)


def test_all_labels_without_their_images_are_an_error(tmp_path):
    write_set(tmp_path, split="train")
    (tmp_path / "images" / "train" / "a.png").rename(tmp_path / "images" / "train" / "b.png")
    with pytest.raises(DatasetError, match=r"instances/train/a.png belongs to no image"):
        FolderSource(tmp_path, "train", BOTH)


def test_a_list_may_leave_labels_out(tmp_path):
    write_set(tmp_path)
    write_set(tmp_path, name="b")
    (tmp_path / "train.txt").write_text("a")
    assert len(FolderSource(tmp_path, "train", BOTH)) == 1


def test_what_cannot_be_found_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"'train' is not in .*train.txt.*images/train"):
        FolderSource(tmp_path, "train", BOTH)
    (tmp_path / "train.txt").write_text("a\nmissing\n")
    with pytest.raises(DatasetError, match="images does not exist"):
        FolderSource(tmp_path, "train", BOTH)
    write_set(tmp_path)
    with pytest.raises(DatasetError, match=r"train.txt: entry 2 names 'missing', but .*missing.\* does not exist"):
        FolderSource(tmp_path, "train", BOTH)
    (tmp_path / "train.txt").write_text("a\na\n")
    with pytest.raises(DatasetError, match="lists 'a' twice"):
        FolderSource(tmp_path, "train", BOTH)
    (tmp_path / "train.txt").write_text("a")
    Image.new("RGB", (4, 2)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DatasetError, match="differ only in their suffix"):
        FolderSource(tmp_path, "train", BOTH)


def test_sizes_must_agree(tmp_path):
    write_set(tmp_path, instances=INSTANCES[:, :3])
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(DatasetError, match=r"instances/a.png has the size .*\(2, 3\)"):
        FolderSource(tmp_path, "train", BOTH)[0]


@pytest.mark.parametrize(
    ("instances", "semantic", "message"),
    [
        ([[1, 1]], [[3, 5]], r"instance 1 has pixels of several categories \[3, 5\]"),
        ([[1, 1]], [[3, 255]], r"instance 1 has pixels of several categories \[3, 255\]"),
        ([[1, 1]], [[9, 9]], "instance 1 lies on the stuff class 'glass'"),
        ([[0, 0]], [[9, 77]], "category id 77"),
    ],
)
def test_contradicting_maps(instances, semantic, message):
    with pytest.raises(DatasetError, match=f"a.png: .*{message}"):
        labels_from_maps(np.array(instances, np.int32), np.array(semantic, np.int32), categories=BOTH, where="a.png")


def test_an_instance_on_void_is_void():
    panoptic_map, info = labels_from_maps(
        np.array([[4, 4, 2]], np.int32), np.array([[255, 255, 3]], np.int32), categories=BOTH, where="a.png"
    )
    assert panoptic_map.tolist() == [[0, 0, 2]]
    assert [s.id for s in info] == [2]


def test_table_with_category_id_0():
    table = CategoryTable(
        name="zero",
        categories=(
            Category(id=0, name="floor", isthing=False, color=(0, 0, 0)),
            Category(id=1, name="box", isthing=True, color=(1, 1, 1)),
        ),
    )
    panoptic_map, info = labels_from_maps(
        np.array([[0, 7]], np.int32), np.array([[0, 1]], np.int32), categories=table, where="a"
    )
    assert panoptic_map.tolist() == [[8, 7]]
    assert {(s.id, s.category_id) for s in info} == {(8, 0), (7, 1)}


def test_real_nuclei(shared_folder):
    root = shared_folder / "data" / "dsb2018_nuclei"
    table = CategoryTable.load("nuclei")
    assert len(FolderSource(root, "train", table)) == 451
    source = FolderSource(root, "dev", table)
    assert len(source) == 80
    for sample in (source[i] for i in range(0, 80, 5)):
        check_consistency(sample.panoptic_map, [s.id for s in sample.segments_info], where=sample.image_id)
        with Image.open(root / "instances" / f"{sample.image_id}.png") as picture:
            instances = np.asarray(picture)
        assert (sample.panoptic_map[instances > 0] == instances[instances > 0]).all()
        assert {s.name for s in sample.segments_info if not s.isthing} == {"background"}
        assert sum(s.area for s in sample.segments_info) == instances.size
        assert sum(s.isthing for s in sample.segments_info) == len(np.unique(instances)) - 1
