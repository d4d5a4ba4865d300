"""Writing COCO panoptic files, and what panopticapi says of the same images."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.convert import unmerged, write_coco_panoptic
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.label_files import read_rgb_label, read_upright_image
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.results.panoptic_result import Segment

COCO = CategoryTable.load("coco")


def assert_equal_samples(a: Sample, b: Sample) -> None:
    assert a.image_id == b.image_id
    assert (a.image == b.image).all()
    assert (a.panoptic_map == b.panoptic_map).all()
    assert a.segments_info == b.segments_info


def test_round_trip_is_exact(tmp_path):
    source = SyntheticSource(4, seed=3, size=(48, 64))
    write_coco_panoptic(source, tmp_path, "val")
    table = CategoryTable.load(tmp_path / "categories.json")
    assert table == source.categories
    again = CocoPanopticSource(tmp_path, "val", table)
    assert list(again.image_ids) == list(source.image_ids)
    for index in range(4):
        assert_equal_samples(again[index], source[index])


def test_a_second_split_goes_beside_the_first_and_none_is_overwritten(tmp_path):
    source = SyntheticSource(1, size=(32, 32))
    write_coco_panoptic(source, tmp_path, "train")
    write_coco_panoptic(source, tmp_path, "val")
    with pytest.raises(DatasetError, match=r"panoptic_val.json exists already"):
        write_coco_panoptic(source, tmp_path, "val")


def test_the_table_that_another_split_needs_is_not_overwritten(tmp_path):
    write_coco_panoptic(SyntheticSource(1, size=(32, 32)), tmp_path, "train")
    table = (tmp_path / "categories.json").read_bytes()
    with pytest.raises(DatasetError, match=r"categories\.json has other classes than 'nuclei'"):
        write_coco_panoptic(folder_of_images(tmp_path / "set"), tmp_path, "val")
    assert (tmp_path / "categories.json").read_bytes() == table
    assert not (tmp_path / "val").exists()


def folder_of_images(root) -> FolderSource:
    """Images of several kinds, by their names, with the label of a synthetic one."""
    sample = SyntheticSource(1, seed=5, size=(32, 40))[0]
    image, table = Image.fromarray(sample.image), CategoryTable.load("nuclei")
    for folder in ("images", "instances"):
        (root / folder).mkdir(parents=True)
    image.save(root / "images" / "jpeg.JPG", quality=60)
    image.save(root / "images" / "jpeg_called_png.png", format="JPEG")
    image.save(root / "images" / "png.png")
    image.convert("L").save(root / "images" / "gray.jpeg")
    image.convert("P").save(root / "images" / "palette.png")
    image.convert("RGBA").save(root / "images" / "transparent.png")
    image.save(root / "images" / "tiff.tif")
    names = sorted(path.stem for path in (root / "images").iterdir())
    for name in names:
        Image.fromarray(np.minimum(sample.panoptic_map, 3).astype(np.uint8)).save(root / "instances" / f"{name}.png")
    (root / "train.txt").write_text("\n".join(names))
    return FolderSource(root, "train", table)


def test_jpeg_and_png_files_are_copied_byte_for_byte(tmp_path):
    source = folder_of_images(tmp_path / "set")
    write_coco_panoptic(source, tmp_path / "coco", "train")
    written = {path.name: path.read_bytes() for path in (tmp_path / "coco" / "train").iterdir()}
    copied = {
        "jpeg.jpg": "jpeg.JPG",
        "jpeg_called_png.jpg": "jpeg_called_png.png",
        "png.png": "png.png",
        "gray.jpg": "gray.jpeg",
    }
    for name, original in copied.items():
        assert written.pop(name) == (tmp_path / "set" / "images" / original).read_bytes()
    assert sorted(written) == ["palette.png", "tiff.png", "transparent.png"]  # read differently elsewhere
    again = CocoPanopticSource(tmp_path / "coco", "train", CategoryTable.load(tmp_path / "coco" / "categories.json"))
    for index in range(len(source)):
        assert_equal_samples(again[index], source[index])


def test_images_become_jpeg_when_asked(tmp_path):
    write_coco_panoptic(folder_of_images(tmp_path / "set"), tmp_path / "coco", "train", jpeg_quality=90)
    files = list((tmp_path / "coco" / "train").iterdir())
    assert {path.suffix for path in files} == {".jpg"}
    assert all(path.read_bytes().startswith(b"\xff\xd8") for path in files)


def test_jpeg_is_close(tmp_path):
    source = SyntheticSource(1, size=(48, 64))
    write_coco_panoptic(source, tmp_path, "val", jpeg_quality=95)
    assert [path.suffix for path in (tmp_path / "val").iterdir()] == [".jpg"]
    again = CocoPanopticSource(tmp_path, "val", source.categories)[0]
    difference = again.image.astype(int) - source[0].image
    assert 0 < np.abs(difference).mean() < 4


def test_a_split_without_labels_is_refused(tmp_path):
    class Unlabeled:
        categories = COCO
        image_ids = ("a",)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            return Sample(image_id="a", image=np.zeros((2, 2, 3), np.uint8), panoptic_map=None, segments_info=[])

    with pytest.raises(DatasetError, match="Image a has no labels"):
        write_coco_panoptic(Unlabeled(), tmp_path, "test")
    assert not (tmp_path / "annotations" / "panoptic_test.json").exists()


def test_unmerged_table_reads_its_own_ids():
    merged = CategoryTable.load("coco27")
    plain = unmerged(merged)
    assert plain.train_id_by_dataset_id == merged.train_id_by_category_id


def panopticapi_sample(shared_folder, tmp_path) -> CocoPanopticSource:
    """The fixture in the layout of a set; links, as nothing of it is copied."""
    sample = shared_folder / "fixtures" / "panopticapi_sample" / "sample_data"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "panoptic_two.json").symlink_to(sample / "panoptic_examples.json")
    (tmp_path / "annotations" / "panoptic_two").symlink_to(sample / "panoptic_examples")
    (tmp_path / "two").symlink_to(sample / "input_images")
    return CocoPanopticSource(tmp_path, "two", COCO)


def test_panopticapi_sample_round_trip(shared_folder, tmp_path):
    source = panopticapi_sample(shared_folder, tmp_path)
    assert list(source.image_ids) == ["142238", "439180"]
    write_coco_panoptic(source, tmp_path / "again", "two")
    again = CocoPanopticSource(tmp_path / "again", "two", COCO)
    for index in range(2):
        assert_equal_samples(again[index], source[index])
    official = json.loads((tmp_path / "annotations" / "panoptic_two.json").read_text())
    written = json.loads((tmp_path / "again" / "annotations" / "panoptic_two.json").read_text())
    for a, b in zip(official["annotations"], written["annotations"], strict=True):
        assert a["image_id"] == b["image_id"]
        assert a["segments_info"] == b["segments_info"]  # areas, boxes, ids, crowd and order as COCO wrote them


def two_channel_labels(path) -> tuple[np.ndarray, list[Segment]]:
    """Labels in the two-channel format: red is the category, green the number of the instance, 255 = crowd."""
    raw_map = rgb_to_id(read_rgb_label(path))
    numbers = [number for number in np.unique(raw_map).tolist() if number]
    segments = [RawSegment(number, number & 255, number >> 8 == 255) for number in numbers]
    return translate_labels(raw_map, segments, categories=COCO, where=str(path))


def test_panopticapi_two_channel_format_is_the_same_truth(shared_folder, tmp_path):
    source = panopticapi_sample(shared_folder, tmp_path)
    folder = shared_folder / "fixtures" / "panopticapi_sample" / "sample_data" / "panoptic_examples_2ch_format"
    for sample in (source[i] for i in range(2)):
        path = folder / f"{int(sample.image_id):012d}.png"
        panoptic_map, info = two_channel_labels(path)
        pairs = np.unique(np.stack([panoptic_map.ravel(), sample.panoptic_map.ravel()]), axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]  # ids differ, regions do not
        id_of = dict(pairs.T.tolist())
        official = {s.id: s for s in sample.segments_info}
        assert len(info) == len(official)
        for segment in info:
            other = official[id_of[segment.id]]
            assert (segment.category_id, segment.iscrowd, segment.area, segment.bbox) == (
                other.category_id,
                other.iscrowd,
                other.area,
                other.bbox,
            )
        assert read_upright_image(tmp_path / "two" / f"{int(sample.image_id):012d}.jpg").shape[:2] == panoptic_map.shape


class Named:
    """One synthetic scene under several ids."""

    def __init__(self, *image_ids: str) -> None:
        self.image_ids = image_ids
        self.scene = SyntheticSource(1, size=(32, 32))
        self.categories = self.scene.categories

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.scene[0], image_id=self.image_ids[index])


@pytest.mark.parametrize(
    "image_id", ["../../x", "/tmp/x", "cam/1", "a\\b", "a\0b", "a\nb", "x" * 300, "x" * 252, "..", ""]
)
def test_ids_that_are_no_names_are_refused_before_anything_is_written(tmp_path, image_id):
    with pytest.raises(DatasetError, match=r"The id of image .* names a file .*Expected a plain name"):
        write_coco_panoptic(Named("a", image_id), tmp_path / "deep" / "out", "val")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pair", [("A", "a"), ("a", "a."), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301"), ("a", "a")]
)
def test_ids_that_would_name_one_file_are_refused_before_anything_is_written(tmp_path, pair):
    with pytest.raises(DatasetError, match=r"The image ids .* would name the same file"):
        write_coco_panoptic(Named(*pair), tmp_path / "out", "val")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["../val", "/val", "a/b", ""])
def test_the_name_of_the_split_is_a_name(tmp_path, split):
    with pytest.raises(DatasetError, match=r"The name of the split names a file"):
        write_coco_panoptic(Named("a"), tmp_path / "out", split)
    assert not list(tmp_path.iterdir())


def test_unusual_names_are_kept(tmp_path):
    source = Named("2024-01-01 10:00:00", "001", "1", "-1", "\u9053\u8def", "a.b", "1000000000000000000000000000000")
    write_coco_panoptic(source, tmp_path, "val")
    again = CocoPanopticSource(tmp_path, "val", source.categories)
    assert tuple(again.image_ids) == source.image_ids
    for index in range(len(source)):
        assert_equal_samples(again[index], source[index])


def test_files_of_more_than_eight_bits_are_copied(tmp_path):
    root = tmp_path / "set"
    for name in ("images", "instances"):
        (root / name).mkdir(parents=True)
    pixels = {"a": np.arange(12, dtype=np.uint16).reshape(3, 4) * 300, "b": np.linspace(-3, 900, 12).reshape(3, 4)}
    Image.fromarray(pixels["a"]).save(root / "images" / "a.png")
    Image.fromarray(pixels["b"].astype(np.float32)).save(root / "images" / "b.tif")
    for name in "ab":
        Image.fromarray(np.ones((3, 4), np.uint8)).save(root / "instances" / f"{name}.png")
    (root / "train.txt").write_text("a\nb\n")
    source = FolderSource(root, "train", CategoryTable.load("nuclei"))
    write_coco_panoptic(source, tmp_path / "coco", "train")
    again = CocoPanopticSource(tmp_path / "coco", "train", CategoryTable.load(tmp_path / "coco" / "categories.json"))
    for index in range(2):
        assert np.array_equal(again[index].pixels, source[index].pixels)
    with pytest.raises(DatasetError, match=r"Image a holds more than 8 bits a color.*Leave `jpeg_quality` out"):
        write_coco_panoptic(source, tmp_path / "jpeg", "train", jpeg_quality=90)
