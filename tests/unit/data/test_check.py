"""`check_source`: all findings at once, and statistics."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.check import check_source
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource

LIMITS = {"labels_needed": True, "instances_needed": True, "top_k": 200, "max_detections": 100}
SYNTHETIC = SyntheticSource(5, seed=1, size=(48, 64))


def written(tmp_path) -> CocoPanopticSource:
    write_coco_panoptic(SYNTHETIC, tmp_path, "val")
    return CocoPanopticSource(tmp_path, "val", SYNTHETIC.categories)


def test_a_sound_set_has_no_errors_and_exact_statistics(tmp_path):
    report = check_source(written(tmp_path), **LIMITS)
    assert report.ok
    assert all(f.severity == "warning" and f.image_id is None for f in report.findings)
    samples = [SYNTHETIC[i] for i in range(5)]
    segments = [s for sample in samples for s in sample.segments_info]
    statistics = report.statistics
    assert (statistics.images, statistics.labeled_images) == (5, 5)
    assert statistics.smallest_size == statistics.largest_size == (48, 64)
    assert statistics.instances == sum(s.isthing and not s.iscrowd for s in segments)
    assert statistics.void_share == sum((sample.panoptic_map == 0).sum() for sample in samples) / (5 * 48 * 64)
    areas = [s.area for s in segments if s.isthing and not s.iscrowd]
    assert statistics.instance_area_quantiles["50%"] == np.median(areas)
    assert statistics.instance_area_quantiles["100%"] == max(areas)
    road = next(c for c in statistics.classes if c.name == "road")
    assert (road.images, road.segments) == (5, 5)
    assert np.isclose(sum(c.pixel_share for c in statistics.classes) + statistics.void_share, 1)


def test_a_set_without_images_is_an_error(tmp_path):
    path = written(tmp_path).index.path
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": [], "annotations": []}))
    report = check_source(CocoPanopticSource(tmp_path, "val", SYNTHETIC.categories), **LIMITS)
    assert "The set lists no image. Check data.root and the split." in [
        f.message for f in report.findings if f.severity == "error"
    ]


def test_every_broken_image_is_listed_and_the_rest_is_counted(tmp_path):
    source = written(tmp_path)
    labels = tmp_path / "annotations" / "panoptic_val"
    ids = source.image_ids
    (tmp_path / "val" / f"{ids[0]}.png").unlink()
    (labels / f"{ids[1]}.png").write_bytes(b"no image")
    Image.new("RGB", (64, 48), (255, 255, 0)).save(labels / f"{ids[2]}.png")
    Image.new("RGB", (10, 10)).save(labels / f"{ids[3]}.png")
    report = check_source(source, **LIMITS)
    errors = [f for f in report.findings if f.severity == "error"]
    assert [f.image_id for f in errors] == list(ids[:4])
    for finding, part in zip(errors, ("does not exist", "is corrupt", "has id 65535", "has the size"), strict=True):
        assert part in finding.message
    assert not report.ok
    assert report.statistics.images == 1


def test_what_repeats_is_told_once_with_a_count(tmp_path):
    source = written(tmp_path)
    labels = tmp_path / "annotations" / "panoptic_val"
    for image_id in source.image_ids[:3]:
        Image.new("RGB", (64, 48), (255, 255, 0)).save(labels / f"{image_id}.png")
    (labels / f"{source.image_ids[4]}.png").write_bytes(b"no image")
    report = check_source(source, **LIMITS)
    errors = [line for line in report.table().splitlines() if line.startswith("error")]
    assert len([f for f in report.findings if f.severity == "error"]) == 4
    assert "4 errors" in report.table()
    assert len(errors) == 2
    first, second, third = source.image_ids[:3]
    assert errors[0].startswith(f"error [{first}]: ")
    assert errors[0].endswith(f"The same in 2 others: {second}, {third}.")
    assert "is corrupt" in errors[1]


def test_areas_of_the_json_are_compared(tmp_path):
    written(tmp_path)
    path = tmp_path / "annotations" / "panoptic_val.json"
    data = json.loads(path.read_text())
    things = [s for s in data["annotations"][2]["segments_info"] if s["category_id"] >= 7]
    things[0]["area"] += 1
    path.write_text(json.dumps(data))
    report = check_source(CocoPanopticSource(tmp_path, "val", SYNTHETIC.categories), **LIMITS)
    assert report.ok
    (finding,) = [f for f in report.findings if f.image_id is not None]
    assert f"first id {things[0]['id']}: {things[0]['area']} and {things[0]['area'] - 1} pixels" in finding.message


def test_many_instances_void_and_absent_classes_are_warnings(tmp_path):
    for folder in ("images", "instances"):
        (tmp_path / folder).mkdir()
    instances = np.zeros((30, 40), np.uint16)
    numbers = np.arange(1, 251, dtype=np.uint16)
    grid = np.zeros((15, 20), np.uint16)
    grid.reshape(-1)[:250] = numbers
    instances[::2, ::2] = grid
    Image.fromarray(instances).save(tmp_path / "instances" / "a.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    (tmp_path / "all.txt").write_text("a")
    table = CategoryTable(name="dots", categories=(Category(id=1, name="dot", isthing=True, color=(9, 9, 9)),))
    source = FolderSource(tmp_path, "all", table)
    report = check_source(source, **LIMITS)
    assert report.ok
    messages = [f.message for f in report.findings]
    assert "79% of the pixels are void" in messages[0]
    assert "250 instances" in messages[1]
    assert "postprocess.top_k = 200" in messages[1]
    assert "evaluation.max_detections = 100" in messages[2]
    assert "a limit for each class and image" in messages[2]
    assert report.statistics.max_instances == 250
    for top_k, max_detections, count in ((250, 249, 2), (249, 250, 2), (250, 250, 1)):
        report = check_source(
            source, labels_needed=True, instances_needed=True, top_k=top_k, max_detections=max_detections
        )
        assert len(report.findings) == count


def test_detections_are_limited_for_each_class(tmp_path):
    for folder in ("images", "instances", "semantic"):
        (tmp_path / folder / "all").mkdir(parents=True)
    instances = np.arange(1, 6, dtype=np.uint8).reshape(1, 5)
    Image.fromarray(instances).save(tmp_path / "instances" / "all" / "a.png")
    Image.fromarray(np.where(instances > 3, 2, 1).astype(np.uint8)).save(tmp_path / "semantic" / "all" / "a.png")
    Image.new("RGB", (5, 1)).save(tmp_path / "images" / "all" / "a.png")
    categories = tuple(Category(id=i, name=f"kind {i}", isthing=True, color=(i, 0, 0)) for i in (1, 2))
    source = FolderSource(tmp_path, "all", CategoryTable(name="kinds", categories=categories))
    assert check_source(source, **LIMITS | {"top_k": 5, "max_detections": 3}).findings == []
    (finding,) = check_source(source, **LIMITS | {"top_k": 5, "max_detections": 2}).findings
    assert "There are 3 instances of class 'kind 1' in image a." in finding.message
    (finding,) = check_source(source, **LIMITS | {"top_k": 4, "max_detections": 3}).findings
    assert "Image a has 5 instances. With postprocess.top_k = 4, a limit for each image" in finding.message


def cells(root: Path, names: str, *, crowd: bool = False, value: int = 60000) -> FolderSource:
    """A set of 16-bit images with one thing each, or with one crowd each."""
    for folder in ("images", "semantic", *(() if crowd else ("instances",))):
        (root / folder / "train").mkdir(parents=True)
        for name in names:
            array = np.full((2, 3), value, np.uint16) if folder == "images" else np.ones((2, 3), np.uint8)
            Image.fromarray(array).save(root / folder / "train" / f"{name}.png")
    table = CategoryTable(name="dots", categories=(Category(id=1, name="dot", isthing=True, color=(9, 9, 9)),))
    return FolderSource(root, "train", table)


def test_sixteen_bit_images_of_fewer_bits_are_one_warning(tmp_path):
    assert check_source(cells(tmp_path / "bright", "ab"), **LIMITS).findings == []
    (finding,) = check_source(cells(tmp_path / "one", "a", value=4095), **LIMITS).findings
    assert (finding.severity, finding.image_id) == ("warning", "a")
    assert "set `input.range` to 0 4095" in finding.message
    (finding,) = check_source(cells(tmp_path / "many", "abcdefgh", value=4095), **LIMITS).findings
    assert (finding.severity, finding.image_id) == ("warning", None)
    assert "a.png has 16 bits" in finding.message
    assert finding.message.endswith("The same is true of b, c, d, e and 3 more.")


def test_a_set_without_a_single_instance_is_an_error_where_instances_are_needed(tmp_path):
    assert check_source(cells(tmp_path / "things", "ab"), **LIMITS).ok
    source = cells(tmp_path / "crowds", "ab", crowd=True)
    report = check_source(source, **LIMITS)
    (finding,) = [f for f in report.findings if f.severity == "error"]
    assert finding.message.startswith("None of the 2 labeled images has an instance: all things of table 'dots'")
    assert check_source(source, **LIMITS | {"instances_needed": False}).ok
    assert check_source(source, limit=1, **LIMITS).ok  # the other image may have one


def test_split_without_labels(tmp_path):
    (tmp_path / "images" / "test").mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "test" / "a.png")
    source = FolderSource(tmp_path, "test", SYNTHETIC.categories)
    report = check_source(source, **LIMITS | {"labels_needed": False})
    assert report.ok
    assert [f.message for f in report.findings] == ["No image has labels; such a split can only be predicted."]
    assert report.statistics.smallest_size == (3, 4)
    assert "1 read, 0 with labels" in report.table()


@pytest.mark.parametrize("layout", ["list", "folders"])
def test_labels_that_are_not_where_they_belong(tmp_path, layout):
    split = Path("train") if layout == "folders" else Path()
    for folder in ("images", "labels"):  # the right name would be `semantic`
        (tmp_path / folder / split).mkdir(parents=True)
        Image.new("L", (4, 3)).save(tmp_path / folder / split / "a.png")
    if layout == "list":
        (tmp_path / "train.txt").write_text("a")
    report = check_source(FolderSource(tmp_path, "train", SYNTHETIC.categories), **LIMITS)
    assert not report.ok
    (finding,) = report.findings
    instances, semantic = (tmp_path / kind / split / "a.png" for kind in ("instances", "semantic"))
    assert finding.message == (
        f"No image has labels, but training and validation need them. Expected {instances} or {semantic}, or both, for"
        " image a."
    )


def test_limit_and_progress():
    calls: list[tuple[int, int]] = []
    report = check_source(SYNTHETIC, limit=2, progress=lambda done, total: calls.append((done, total)), **LIMITS)
    assert calls == [(1, 2), (2, 2)]
    assert report.statistics.images == 2


def test_json_and_table(tmp_path):
    source = written(tmp_path)
    (tmp_path / "val" / f"{source.image_ids[0]}.png").unlink()
    report = check_source(source, **LIMITS)
    data = json.loads(json.dumps(report.to_json()))
    assert data["ok"] is False
    assert data["statistics"]["images"] == 4
    assert data["findings"][0]["image_id"] == source.image_ids[0]
    table = report.table()
    assert f"error [{source.image_ids[0]}]: The image" in table
    assert "sidewalk" in table


def test_real_sets_have_no_errors(shared_folder):
    root = shared_folder / "data"
    coco = CocoPanopticSource(root / "coco128_panoptic", "dev", CategoryTable.load("coco"))
    report = check_source(coco, limit=10, **LIMITS)
    assert report.ok
    assert not [f for f in report.findings if "another area" in f.message]
    nuclei = FolderSource(root / "dsb2018_nuclei", "dev", CategoryTable.load("nuclei"))
    report = check_source(nuclei, limit=20, **LIMITS)
    assert report.ok
    assert report.statistics.void_share == 0
