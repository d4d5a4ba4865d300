"""Label images, colored masks and Pascal VOC, where other programs put them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.formats.mask_folders import ColorMasksSource, LabelImagesSource, VocSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError

CELL = Category(id=3, name="cell", isthing=True, color=(200, 0, 0))
GLASS = Category(id=9, name="glass", isthing=False, color=(0, 0, 200))
DIRT = Category(id=7, name="dirt", isthing=False, color=(0, 90, 0), dataset_ids=(17, 18), dataset_names=("mud", "dust"))
CELLS = CategoryTable(name="cells", categories=(CELL, GLASS))
COLORS = CategoryTable(name="lab", categories=(CELL, GLASS, DIRT))

OBJECTS = np.array([[1, 1, 0, 0], [0, 0, 2, 0]], np.uint16)
C, G, D, NONE, BORDER = (200, 0, 0), (0, 0, 200), (0, 90, 0), (0, 0, 0), (224, 224, 192)


def put(path: Path, array=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 4, 3), np.uint8) if array is None else np.asarray(array)).save(path)
    return path


def colored(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


def facts(sample) -> list[tuple]:
    return sorted((s.name, s.iscrowd, s.area) for s in sample.segments_info)


def problems_of(reader, root: Path, table=CELLS) -> list[str]:
    problems = Problems()
    reader(root, "train", table, problems=problems)
    return [message for message, _ in problems.messages()]


LAYOUTS = [
    ("train/a.png", "train/a_masks.tif"),
    ("train/a.png", "train/a_cp_masks.png"),
    ("train/a_img.png", "train/a_masks.png"),
    ("train/a.JPG", "train/a_Mask.PNG"),
    ("train/images/a.png", "train/masks/a.tif"),
    ("train/images/a.png", "train/labels/a_label.tif"),
    ("images/train/a.png", "labels/train/a.png"),
    ("train/a.png", "train_labels/a_L.png"),
    ("train/a.png", "trainannot/a.png"),
]


@pytest.mark.parametrize(("image", "label"), LAYOUTS)
def test_label_images_lie_where_programs_put_them(tmp_path, image, label):
    put(tmp_path / image)
    put(tmp_path / label, OBJECTS)
    source = LabelImagesSource(tmp_path, "train", CELLS)
    assert list(source.image_ids) == [Path(image).stem]
    assert source[0].panoptic_map.tolist() == [[1, 1, 3, 3], [3, 3, 2, 3]]
    assert facts(source[0]) == [("cell", False, 1), ("cell", False, 2), ("glass", False, 5)]


@pytest.mark.parametrize("place", ["images/b.png masks/b.png", "images/b.png masks/train/b_mask.TIF"])
def test_a_list_chooses_images(tmp_path, place):
    image, label = place.split()
    for name in ("b", "c"):
        put(tmp_path / image.replace("b.", f"{name}."))
        put(tmp_path / label.replace("b", name, 1), OBJECTS)
    (tmp_path / "train.txt").write_text("c.png\r\n", encoding="utf-16")
    source = LabelImagesSource(tmp_path, "train", CELLS)
    assert list(source.image_ids) == ["c"]
    assert len(facts(source[0])) == 3


def test_labels_without_images_and_images_without_labels_are_named(tmp_path):
    for name in ("a.png", "b.png", "e.png"):
        put(tmp_path / "train" / name)
    for name in ("a_masks.tif", "c_masks.tif"):
        put(tmp_path / "train" / name, OBJECTS)
    stray, missing = problems_of(LabelImagesSource, tmp_path)
    assert "train/c_masks.tif belongs to no image" in stray
    assert "train/b.png does not exist, though other images have instances" in missing
    assert "The same is wrong with" in missing
    with pytest.raises(DatasetError, match=r"Split 'val' is not in .*images in images/val/ or val/images/ or val/"):
        LabelImagesSource(tmp_path, "val", CELLS)


def test_label_images_need_one_thing_class(tmp_path):
    put(tmp_path / "train" / "a.png")
    put(tmp_path / "train" / "a_masks.tif", OBJECTS)
    with pytest.raises(DatasetError, match="'lab' has 1 and 2"):
        LabelImagesSource(tmp_path, "train", COLORS)
    named = CategoryTable(name="lab", categories=(CELL, GLASS, DIRT), unlabeled="dirt")
    assert facts(LabelImagesSource(tmp_path, "train", named)[0])[-1] == ("dirt", False, 5)


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "palette"])
def test_classes_by_the_colors_of_the_table(tmp_path, kind):
    put(tmp_path / "train" / "a.jpg")
    picture = Image.fromarray(colored([C, C, G, D], [NONE, BORDER, G, D]))
    if kind == "RGBA":
        picture.putalpha(Image.fromarray(np.array([[255, 255, 255, 0], [255] * 4], np.uint8)))
    picture = picture.quantize(8) if kind == "palette" else picture
    picture.save(tmp_path / "train" / "a_mask.png")
    sample = ColorMasksSource(tmp_path, "train", COLORS)[0]
    dirt, void = (1, 3) if kind == "RGBA" else (2, 2)
    assert facts(sample) == [("cell", True, 2), ("dirt", False, dirt), ("glass", False, 2)]
    assert (sample.panoptic_map == 0).sum() == void
    unlabeled = CategoryTable(name="lab", categories=(CELL, GLASS, DIRT), unlabeled="glass")
    assert (ColorMasksSource(tmp_path, "train", unlabeled)[0].panoptic_map == 0).sum() == 1  # the border


def test_a_black_class_is_a_class(tmp_path):
    put(tmp_path / "train" / "a.png")
    put(tmp_path / "train" / "a_mask.png", colored([NONE] * 4, [G] * 4))
    black = Category(id=1, name="night", isthing=False, color=(0, 0, 0))
    table = CategoryTable(name="lab", categories=(black, GLASS))
    assert facts(ColorMasksSource(tmp_path, "train", table)[0]) == [("glass", False, 4), ("night", False, 4)]
    twins = CategoryTable(name="lab", categories=(black, Category(id=2, name="pit", isthing=False, color=(0, 0, 0))))
    with pytest.raises(DatasetError, match=r"'night' and 'pit' of table 'lab' have one color"):
        ColorMasksSource(tmp_path, "train", twins)[0]


def test_a_color_that_no_class_has_is_named_with_its_place(tmp_path):
    put(tmp_path / "train" / "a.png")
    put(tmp_path / "train" / "a_mask.png", colored([C, C, G, D], [G, (201, 0, 0), (1, 2, 3), D]))
    with pytest.raises(DatasetError, match=r"a_mask.png has the color \(201, 0, 0\) at \(y=1, x=1\), and 1 more"):
        ColorMasksSource(tmp_path, "train", COLORS)[0]


def test_half_transparent_labels_are_refused(tmp_path):
    put(tmp_path / "train" / "a.png")
    put(tmp_path / "train" / "a_mask.png", np.full((2, 4, 4), 100, np.uint8))
    with pytest.raises(DatasetError, match="half transparent"):
        ColorMasksSource(tmp_path, "train", COLORS)[0]


def test_a_folder_set_takes_colored_semantics_and_colored_instances(tmp_path):
    put(tmp_path / "images" / "train" / "a.png")
    put(tmp_path / "semantic" / "train" / "a.png", colored([C, C, C, D], [C, BORDER, G, D]))
    put(tmp_path / "instances" / "train" / "a.png", colored([G, G, (255, 255, 255), NONE], [G, BORDER, NONE, NONE]))
    sample = FolderSource(tmp_path, "train", COLORS)[0]
    assert facts(sample) == [("cell", False, 1), ("cell", False, 3), ("dirt", False, 2), ("glass", False, 1)]
    put(tmp_path / "semantic" / "train" / "a.png", colored([C, NONE, C, D], [C, BORDER, G, D]))
    with pytest.raises(DatasetError, match=r"instance \d+ has no class"):
        FolderSource(tmp_path, "train", COLORS)[0]


def voc(root: Path, classes, objects) -> None:
    put(root / "JPEGImages" / "a.jpg")
    put(root / "JPEGImages" / "b.jpg")
    for folder, picture in (("SegmentationClass", classes), ("SegmentationObject", objects)):
        (root / folder).mkdir()
        picture.save(root / folder / "a.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")


def indexed(*rows) -> Image.Image:
    picture = Image.fromarray(np.array(rows, np.uint8))
    picture.putpalette(list(range(256)) * 3)
    return picture


def test_voc_by_palette_indices(tmp_path):
    voc(tmp_path, indexed([3, 3, 255, 0], [3, 255, 0, 0]), indexed([1, 1, 255, 0], [2, 255, 0, 0]))
    rest = Category(id=0, name="background", isthing=False, color=(0, 0, 0))
    table = CategoryTable(name="voc", categories=(rest, CELL), void_ids=(255,))
    sample = VocSource(tmp_path, "train", table)[0]
    assert sample.panoptic_map.tolist() == [[1, 1, 0, 256], [2, 0, 256, 256]]
    assert facts(sample) == [("background", False, 3), ("cell", False, 1), ("cell", False, 2)]


@pytest.mark.parametrize("labelmap", [True, False])
def test_voc_by_colors_as_cvat_exports_it(tmp_path, labelmap):
    mud = (9, 9, 9) if labelmap else D
    voc(
        tmp_path,
        Image.fromarray(colored([C, C, NONE, mud], [C, BORDER, NONE, mud])),
        Image.fromarray(colored([(128, 0, 0), (128, 0, 0), NONE, NONE], [(0, 128, 0), BORDER, NONE, NONE])),
    )
    if labelmap:
        text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:200,0,0::\nmud:9,9,9::\n"
        (tmp_path / "labelmap.txt").write_text(text)
    sample = VocSource(tmp_path, "train", COLORS)[0]
    assert facts(sample) == [("cell", False, 1), ("cell", False, 2), ("dirt", False, 2)]
    if labelmap:
        (tmp_path / "labelmap.txt").write_text("cells:200,0,0::\n")
        with pytest.raises(DatasetError, match=r"entry 1 names the class 'cells', which.*Did you mean `cell`"):
            VocSource(tmp_path, "train", COLORS)[0]
        (tmp_path / "labelmap.txt").write_text("cell:200,0\n")
        with pytest.raises(DatasetError, match=r"entry 1 is 'cell:200,0'. Expected name:red,green,blue"):
            VocSource(tmp_path, "train", COLORS)[0]
