"""Submission files, read back by the benchmarks' own tools, or after the description of the format."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.cityscapes import CityscapesSource
from panoptic_deeplab.errors import DatasetError, OutputError
from panoptic_deeplab.evaluation.cityscapes_scripts import cityscapes_scores
from panoptic_deeplab.evaluation.submission import Benchmark, SubmissionWriter
from panoptic_deeplab.metrics.cityscapes_ap import CityscapesAP, cityscapes_label_files
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.metrics.semantic_iou import SemanticIoU
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

SIZE = (48, 64)


def blocks(rng: np.random.Generator, values: list[int]) -> np.ndarray:
    """A map of 8 x 8 pixel blocks, large enough that predictions can match."""
    return np.kron(rng.choice(values, size=(SIZE[0] // 8, SIZE[1] // 8)), np.ones((8, 8), np.int64))


def prediction_of(label: np.ndarray, categories: CategoryTable, *, divisor: int = 1000) -> PanopticResult:
    """`label` = category id, or category id * divisor + instance; 0 = void."""
    ids = np.zeros(label.shape, np.int32)
    semantic = np.zeros(label.shape, np.uint8)
    segments = []
    for number, value in enumerate(np.unique(label[label > 0]).tolist(), start=1):
        mask = label == value
        category_id = value // divisor if value >= divisor else value
        train_id = categories.train_id_by_category_id[category_id]
        ids[mask], semantic[mask] = number, train_id
        rows, columns = np.nonzero(mask)
        box = (int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        category = categories[train_id]
        segments.append(
            Segment(
                id=number,
                category_id=category_id,
                name=category.name,
                isthing=category.isthing,
                area=int(mask.sum()),
                bbox=box,
                score=0.5 + number / 100,
            )
        )
    return PanopticResult(panoptic_map=ids, segments_info=segments, categories=categories, semantic_map=semantic)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Two labeled images, with void, a group of cars, and a class that is not evaluated."""
    root, rng = tmp_path / "cityscapes", np.random.default_rng(0)
    for frame in range(2):
        label = blocks(rng, [0, 7, 11, 23, 26, 26000, 26001, 24000, 29000])
        plain = np.where(label >= 1000, label // 1000, label)
        for top, tail, values in (
            ("gtFine", "gtFine_instanceIds", label.astype(np.uint16)),
            ("gtFine", "gtFine_labelIds", plain.astype(np.uint8)),
            ("leftImg8bit", "leftImg8bit", np.zeros((*SIZE, 3), np.uint8)),
        ):
            folder = root / top / "val" / "aachen"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / f"aachen_000000_00000{frame}_{tail}.png")
    return root


def write_cityscapes(root: Path, folder: Path, *, wrong: bool) -> tuple[PanopticQuality, SemanticIoU, CityscapesAP]:
    """Hand in the truth, or the truth with some blocks changed; also measured by our own metrics."""
    categories = CategoryTable.load("cityscapes")
    source, rng = CityscapesSource(root, "val", categories), np.random.default_rng(1)
    writer = SubmissionWriter(folder, "cityscapes", split="val", categories=categories)
    quality, iou = PanopticQuality(categories), SemanticIoU(categories)
    average_precision = CityscapesAP(categories, cityscapes_label_files(root, "val"))
    for index in range(len(source)):
        sample = source[index]
        path = root / "gtFine" / "val" / "aachen" / f"{sample.image_id}_gtFine_instanceIds.png"
        label = np.array(Image.open(path)).astype(np.int64)
        label[label == 29000] = 7  # a caravan, void in the evaluation, is called road
        label[label == 26] = 26002
        if wrong:
            label = np.where(blocks(rng, [0, 0, 0, 1]) == 1, blocks(rng, [7, 11, 26001, 24000, 33000]), label)
        prediction, truth = prediction_of(label, categories), sample.truth(categories)
        writer.add(sample.image_id, prediction)
        quality.update(prediction, truth, sample.image_id)
        average_precision.update(prediction, truth, sample.image_id)
        iou.update(prediction, truth, sample.image_id)
    writer.finish()
    return quality, iou, average_precision


def test_cityscapes_scripts_read_the_files_and_agree(cityscapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("cityscapesscripts")
    quality, iou, average_precision = write_cityscapes(cityscapes, tmp_path / "handed_in", wrong=True)
    official = cityscapes_scores(cityscapes, "val", tmp_path / "handed_in")
    ours = quality.compute()
    assert official.pq == pytest.approx(ours.all_classes.pq, abs=1e-12)
    assert official.sq == pytest.approx(ours.all_classes.sq, abs=1e-12)
    assert official.rq == pytest.approx(ours.all_classes.rq, abs=1e-12)
    assert official.pq_things == pytest.approx(ours.things.pq, abs=1e-12)
    assert official.pq_stuff == pytest.approx(ours.stuff.pq, abs=1e-12)
    assert 0.1 < official.pq < 0.9
    assert official.miou == pytest.approx(iou.compute().miou, abs=1e-12)
    assert official.ap is not None
    assert 0 < official.ap < 1
    assert official.ap <= official.ap50
    assert average_precision.compute().ap == pytest.approx(official.ap, abs=1e-12)
    assert average_precision.compute().ap50 == pytest.approx(official.ap50, abs=1e-12)


def test_cityscapes_scripts_give_a_perfect_answer_full_marks(cityscapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("cityscapesscripts")
    write_cityscapes(cityscapes, tmp_path / "handed_in", wrong=False)
    official = cityscapes_scores(cityscapes, "val", tmp_path / "handed_in")
    assert (official.pq, official.miou, official.ap, official.ap50) == (1, 1, 1, 1)


def test_missing_prediction_is_told_in_the_words_of_the_scripts(cityscapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("cityscapesscripts")
    write_cityscapes(cityscapes, tmp_path / "handed_in", wrong=False)
    next((tmp_path / "handed_in" / "semantic").iterdir()).unlink()
    with pytest.raises(DatasetError, match="Found no prediction for ground truth"):
        cityscapes_scores(cityscapes, "val", tmp_path / "handed_in")


def test_coco_files_are_read_by_hotcoco_and_pycocotools(tmp_path: Path) -> None:
    mask_api = pytest.importorskip("pycocotools.mask")
    categories, rng = CategoryTable.load("coco"), np.random.default_rng(2)
    writer = SubmissionWriter(tmp_path, "coco", split="test-dev2017", categories=categories, name="ours")
    results = {}
    for image_id in ("42", "7"):
        results[image_id] = prediction_of(blocks(rng, [0, 149, 187, 1001, 1002, 3001]), categories)
        writer.add(image_id, results[image_id])
    files = writer.finish()
    assert files == [tmp_path / "panoptic", tmp_path / "detections_test-dev2017_ours_results.json"]

    listed = json.loads((tmp_path / "panoptic" / "panoptic_test-dev2017_ours_results.json").read_text())
    assert [row["image_id"] for row in listed["annotations"]] == [42, 7]
    rows = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in categories.categories]
    images = [{"id": 42, "file_name": "42.jpg"}, {"id": 7, "file_name": "7.jpg"}]
    (tmp_path / "truth.json").write_text(json.dumps({**listed, "categories": rows, "images": images}))
    pngs = str(tmp_path / "panoptic" / "panoptic_test-dev2017_ours_results")
    read = pq_compute(
        str(tmp_path / "truth.json"),
        str(tmp_path / "panoptic" / "panoptic_test-dev2017_ours_results.json"),
        gt_folder=pngs,
        pred_folder=pngs,
    )
    assert read["All"]["pq"] == 1

    detections = json.loads(files[1].read_text())
    for image_id, result in results.items():
        of_image = [row for row in detections if row["image_id"] == int(image_id)]
        with warnings.catch_warnings():  # pycocotools does not know numpy 2's copy keyword
            warnings.simplefilter("ignore", DeprecationWarning)
            masks = np.sum([mask_api.decode(row["segmentation"]) for row in of_image], axis=0)
        things = np.isin(result.panoptic_map, [segment.id for segment in result.instances()])
        np.testing.assert_array_equal(masks, things)
    with pytest.raises(DatasetError, match="numbers as image ids"):
        writer.add("photo", results["7"])


def test_an_id_that_is_no_file_name_and_a_full_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    categories = CategoryTable.load("mapillary_vistas_v1.2")
    writer = SubmissionWriter(tmp_path / "out", "mapillary_vistas", split="testing", categories=categories)
    result = prediction_of(np.full(SIZE, categories.categories[0].id, np.int64), categories)
    for image_id in ("../key", "a/b", "", "a\0"):
        with pytest.raises(DatasetError, match="The data set names a file"):
            writer.add(image_id, result)
    assert not (tmp_path / "out").exists()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"key\.png cannot be written: No space left"):
        writer.add("key", result)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_mapillary_files_follow_the_description(tmp_path: Path) -> None:
    categories = CategoryTable.load("mapillary_vistas_v1.2")
    writer = SubmissionWriter(tmp_path, "mapillary_vistas", split="testing", categories=categories)
    car, road = (next(c for c in categories.categories if c.name == name) for name in ("Car", "Road"))
    rng = np.random.default_rng(3)
    result = prediction_of(blocks(rng, [road.id, car.id * 1000, car.id * 1000 + 1]), categories)
    writer.add("some-key", result)
    writer.add("nothing", prediction_of(np.full(SIZE, road.id, np.int64), categories))
    writer.finish()

    # labels/*.png of the data set hold the place in its list of classes, which is the category id - 1.
    semantic = np.array(Image.open(tmp_path / "semantic" / "some-key.png"))
    expected = np.array([c.id - 1 for c in categories.categories])[result.semantic_map]
    np.testing.assert_array_equal(semantic, expected)

    painted = np.zeros(SIZE, int)
    for line in (tmp_path / "instance" / "some-key.txt").read_text().splitlines():
        mask_path, label, confidence = line.split(" ")
        painted += np.array(Image.open(tmp_path / "instance" / mask_path)) != 0
        assert int(label) == car.id - 1
        assert 0 < float(confidence) <= 1
    np.testing.assert_array_equal(painted, semantic == car.id - 1)
    assert (tmp_path / "instance" / "nothing.txt").read_text() == ""

    annotation = json.loads((tmp_path / "panoptic" / "panoptic_testing.json").read_text())["annotations"][0]
    ids = rgb_to_id(np.array(Image.open(tmp_path / "panoptic" / "panoptic_testing" / annotation["file_name"])))
    np.testing.assert_array_equal(ids, result.panoptic_map)


@pytest.mark.parametrize(
    ("benchmark", "table", "message"),
    [
        ("coco", "coco27", r"'coco27' joins several classes into one .* on the classes of coco\."),
        ("cityscapes", "coco27", r"'coco27' joins several classes into one .* on the classes of cityscapes\."),
        ("cityscapes", "coco", r"'coco' has '1 person', which is no class of cityscapes\."),
        # Its ids skip the labels that are not evaluated, so they do not give the places in its list of labels.
        (
            "mapillary_vistas",
            "mapillary_vistas_v2.0",
            r"has '3 Concrete Block', which is no class of mapillary_vistas_v1",
        ),
    ],
)
def test_classes_of_another_table_cannot_be_handed_in(
    tmp_path: Path, benchmark: Benchmark, table: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        SubmissionWriter(tmp_path, benchmark, split="test", categories=CategoryTable.load(table))


def test_a_model_of_some_of_the_classes_can_be_handed_in(tmp_path: Path) -> None:
    cars = tuple(c for c in CategoryTable.load("cityscapes").categories if c.name == "car")
    categories = CategoryTable(name="cars", categories=cars)
    writer = SubmissionWriter(tmp_path, "cityscapes", split="test", categories=categories)
    writer.add("ulm_000000_000019", prediction_of(np.full(SIZE, 26_001, np.int64), categories))
    assert (np.array(Image.open(tmp_path / "semantic" / "ulm_000000_000019_labelIds.png")) == 26).all()
