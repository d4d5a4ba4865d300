"""`evaluate` with predictors that know the truth, on sources in memory."""

import dataclasses
import json
import logging
import pickle
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from panoptic_deeplab import distributed
from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.sample import PanopticSource, Sample
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError, ConfigError, DatasetError, MissingDependencyError
from panoptic_deeplab.evaluation.evaluate import EvaluationReport, check_same_categories, evaluate
from panoptic_deeplab.evaluation.part import Part, Picture
from panoptic_deeplab.metrics import standard
from panoptic_deeplab.metrics.metric import Metric, MetricReport
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment


def table(*rows: tuple[int, str, bool], name: str = "test") -> CategoryTable:
    return CategoryTable(
        name=name, categories=tuple(Category(id=i, name=n, isthing=t, color=(i, i, i)) for i, n, t in rows)
    )


CATEGORIES = table((7, "road", False), (8, "sky", False), (24, "person", True), (26, "car", True))
CONFIG = EvaluationConfig(num_pictures=2)


class MemorySource:
    """Image n is filled with the value n: a road below, and n things (cars, then a person) above."""

    def __init__(self, num_images: int, categories: CategoryTable = CATEGORIES, labeled: bool = True) -> None:
        self.categories = categories
        self.image_ids: Sequence[str] = [f"street_{n}" for n in range(num_images)]
        self.labeled = labeled

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        panoptic_map = np.zeros((12, 20), np.int32)
        classes: dict[int, Category] = {}
        stuff = [c for c in self.categories.categories if not c.isthing]
        things = [c for c in self.categories.categories if c.isthing]
        if stuff:
            panoptic_map[6:] = 1
            classes[1] = stuff[0]
        for n in range(index % 4 if things else 0):
            panoptic_map[:5, 5 * n : 5 * n + 4] = n + 2
            classes[n + 2] = things[n % len(things)]
        segments = [
            Segment(
                id=i,
                category_id=c.id,
                name=c.name,
                isthing=c.isthing,
                area=int((panoptic_map == i).sum()),
                bbox=(0, 0, 1, 1),
            )
            for i, c in classes.items()
        ]
        return Sample(
            image_id=self.image_ids[index],
            image=np.full((12, 20, 3), index, np.uint8),
            panoptic_map=panoptic_map if self.labeled else None,
            segments_info=segments if self.labeled else [],
        )


class Oracle:
    """Finds the label of an image by its gray value; `spoil` changes it."""

    def __init__(self, source: MemorySource, spoil=lambda result: result) -> None:
        self.source, self.categories, self.spoil = source, source.categories, spoil

    def predict(self, image: np.ndarray) -> PanopticResult:
        truth = self.source[int(image[0, 0, 0])].truth(self.categories)
        scored = [dataclasses.replace(s, score=0.9) for s in truth.segments_info]
        return self.spoil(dataclasses.replace(truth, segments_info=scored))


def without_things(result: PanopticResult) -> PanopticResult:
    """What a semantic-only model gives: its semantic map, and the stuff segments."""
    stuff = [s for s in result.segments_info if not s.isthing]
    kept = np.where(np.isin(result.panoptic_map, [s.id for s in stuff]), result.panoptic_map, 0)
    return dataclasses.replace(result, panoptic_map=kept.astype(np.int32), segments_info=stuff)


def test_a_perfect_predictor() -> None:
    source = MemorySource(4)
    assert isinstance(source, PanopticSource)
    seen = []
    report = evaluate(Oracle(source), source, config=CONFIG, on_image=lambda done, total: seen.append((done, total)))
    assert [report.metric(name) for name in ("PQ", "mIoU", "AP")] == pytest.approx([1, 1, 1])
    assert report.to_json()["panoptic"]["all"]["num_classes"] == 3
    assert report.to_json()["panoptic"]["not_counted"] == ["sky"]
    assert report.num_images == 4
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(report.seconds) == {"reading", "prediction", "metrics"}
    assert min(report.seconds.values()) > 0
    assert [picture.image_id for picture in report.pictures] == ["street_0", "street_1"]
    assert (report.pictures[1].image == 1).all()
    assert report.pictures[1].truth.size == report.pictures[1].prediction.size == (12, 20)


def test_json_is_complete_plain_data() -> None:
    source = MemorySource(2)
    data = json.loads(json.dumps(evaluate(Oracle(source), source, config=CONFIG).to_json(), allow_nan=False))
    assert data["panoptic"]["all"] == {"pq": 1, "sq": 1, "rq": 1, "num_classes": 2}
    assert data["panoptic"]["per_class"][0]["true_positives"] == 2
    assert data["semantic"]["miou"] == 1
    assert data["instances"]["max_detections"] == 100
    assert data["num_images"] == 2
    assert data["provenance"]["data"] == "test"
    assert {"torch", "numpy", "pycocotools"} <= set(data["provenance"]["versions"])
    assert any("panopticapi" in note for note in data["provenance"]["notes"])
    assert "pictures" not in data


def test_provenance_of_the_caller_is_kept() -> None:
    source = MemorySource(1)
    report = evaluate(Oracle(source), source, config=CONFIG, provenance={"split": "val", "model": {"folder": "a"}})
    assert report.to_json()["provenance"] == {
        **evaluate(Oracle(source), source, config=CONFIG).provenance, "split": "val", "model": {"folder": "a"}
    }  # fmt: skip


def test_table() -> None:
    source = MemorySource(2)
    report = evaluate(Oracle(source, without_things), source, config=CONFIG)
    lines = [line.split() for line in report.table().splitlines()]
    assert ["PQ", "SQ", "RQ", "N"] in lines
    assert ["All", "50.00", "50.00", "50.00", "2"] in lines
    assert ["Things", "0.00", "0.00", "0.00", "1"] in lines
    assert ["Stuff", "100.00", "100.00", "100.00", "1"] in lines
    assert ["Pixels", "100.00", "100.00"] in lines
    assert ["Masks", "0.00", "0.00", "0.00", "0.00", "-", "-"] in lines
    assert "so not counted in PQ: sky, car" in report.table()
    rows = [line.split() for line in report.table(per_class=True).splitlines()]
    assert ["PQ", "SQ", "RQ", "IoU", "AP", "(COCO)", "TP", "FP", "FN"] in rows
    assert ["road", "100.00", "100.00", "100.00", "100.00", "-", "2", "0", "0"] in rows
    assert ["person", "0.00", "0.00", "0.00", "100.00", "0.00", "0", "0", "1"] in rows
    assert ["sky", "-", "-", "-", "-", "-", "0", "0", "0"] in rows


@pytest.mark.parametrize(
    ("categories", "empty", "full"),
    [
        (table((1, "background", False), (2, "sky", False)), "Things", "Stuff"),
        (table((1, "nucleus", True)), "Stuff", "Things"),
    ],
)
def test_tables_without_things_or_without_stuff(categories: CategoryTable, empty: str, full: str) -> None:
    source = MemorySource(4, categories)
    report = evaluate(Oracle(source), source, config=CONFIG)
    lines = [line.split() for line in report.table(per_class=True).splitlines()]
    assert [empty, "-", "-", "-", "0"] in lines
    assert [full, "100.00", "100.00", "100.00", "1"] in lines
    assert json.dumps(report.to_json(), allow_nan=False)
    if empty == "Things":
        assert report.to_json()["instances"]["per_class"] == []
        with pytest.raises(ConfigError, match=r"is AP, but the 4 evaluated images .*'RQ_stuff', 'mIoU', 'accuracy'\]"):
            report.metric("AP")


def test_unknown_metric() -> None:
    source = MemorySource(1)
    with pytest.raises(ConfigError, match="must be one of PQ, SQ, RQ, PQ_thing, SQ_thing, RQ_thing, PQ_stuff"):
        evaluate(Oracle(source), source, config=CONFIG).metric("F1")


def test_images_come_with_their_own_pq_and_the_worst_first() -> None:
    source = MemorySource(7)
    predictor = Oracle(source, lambda result: without_things(result) if len(result.segments_info) == 3 else result)
    report = evaluate(predictor, source, config=CONFIG)
    assert [image.image_id for image in report.images[:2]] == ["street_2", "street_6"]
    assert sorted(image.image_id for image in report.images) == sorted(source.image_ids)
    worst = report.images[0]
    assert (worst.true_positives, worst.missed, worst.false) == (1, (2, 3), ())
    alone = PanopticQuality(CATEGORIES)
    sample = source[2]
    alone.update(predictor.predict(sample.image), sample.truth(CATEGORIES), "street_2")
    assert worst.pq == alone.compute().all_classes.pq == pytest.approx(1 / 3)
    assert [image.pq for image in report.images[2:]] == [1.0] * 5
    assert [picture.image_id for picture in report.worst] == ["street_2", "street_6"]


def test_pictures_of_the_worst_are_reduced() -> None:
    picture = Picture(
        "a",
        np.zeros((400, 2000, 3), np.uint8),
        *(PanopticResult.from_maps(np.ones((400, 2000), np.int32), {1: 7}, CATEGORIES) for _ in range(2)),
    )
    small = picture.reduced()
    assert small.image.shape == (128, 640, 3)
    assert small.truth.size == small.prediction.size == (128, 640)


def test_processes_share_the_images(monkeypatch) -> None:
    """Three processes take turns in this one; what they give to one another is played back."""
    source = MemorySource(7)
    # One image is spoilt, so that the shares have different numbers.
    predictor = Oracle(source, lambda result: without_things(result) if len(result.segments_info) == 3 else result)
    config = EvaluationConfig(num_pictures=5)
    whole = evaluate(predictor, source, config=config)

    processes = [Process(rank=rank, world_size=3) for rank in range(3)]
    given: list[Part] = []

    def record(found):
        given.append(pickle.loads(pickle.dumps(found)))
        return [found]

    monkeypatch.setattr(distributed, "gather_objects", record)
    images = []
    for process in processes:
        report = evaluate(predictor, source, config=config, process=process)
        images.append([picture.image_id for picture in report.pictures])
    assert images == [["street_0", "street_3"], ["street_1", "street_4"], ["street_2"]]

    monkeypatch.setattr(distributed, "gather_objects", lambda _: given)
    together = evaluate(predictor, source, config=config, process=processes[1])
    assert together.measured == whole.measured
    assert set(whole.measured) == {"panoptic", "semantic", "instances"}
    assert together.num_images == whole.num_images
    assert 0 < whole.metric("PQ") < 1
    assert [p.image_id for p in together.pictures] == [f"street_{n}" for n in range(5)]
    assert together.provenance["processes"] == 3


def test_images_without_label() -> None:
    source = MemorySource(1)
    with pytest.raises(DatasetError, match=r"street_0 has no label.*panoptic-deeplab predict"):
        evaluate(Oracle(source), MemorySource(1, labeled=False), config=CONFIG)


def test_an_empty_set() -> None:
    source = MemorySource(0)
    with pytest.raises(DatasetError, match="no images"):
        evaluate(Oracle(source), source, config=CONFIG)


def test_predictions_of_another_size_name_the_image() -> None:
    source = MemorySource(1)

    def shrink(result: PanopticResult) -> PanopticResult:
        assert result.semantic_map is not None
        return dataclasses.replace(result, panoptic_map=result.panoptic_map[::2], semantic_map=result.semantic_map[::2])

    with pytest.raises(DatasetError, match="Image street_0"):
        evaluate(Oracle(source, shrink), source, config=CONFIG)


ROWS = [(c.id, c.name, c.isthing) for c in CATEGORIES.categories]


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (table(*ROWS[:3], name="small"), r"3 classes \(small\), the data set has 4 \(test\).*number"),
        (table(*ROWS, (30, "bus", True)), "5 classes .*number"),
        (table(ROWS[1], ROWS[0], *ROWS[2:]), "class 0 is 'sky' .* in the model and 'road'"),
        (table(*ROWS[:3], (26, "truck", True)), "class 3 is 'truck' .*'car'"),
        (table(*ROWS[:3], (99, "car", True)), r"'car' \(id 99, thing\) in the model and 'car' \(id 26, thing\)"),
        (table(*ROWS[:3], (26, "car", False)), r"\(id 26, stuff\) in the model"),
    ],
)
def test_other_categories(predicted: CategoryTable, message: str) -> None:
    source = MemorySource(1)
    predictor = Oracle(source)
    predictor.categories = predicted
    with pytest.raises(CheckpointError, match=message):
        evaluate(predictor, source, config=CONFIG)


def test_colors_and_table_name_may_differ() -> None:
    repainted = [dataclasses.replace(c, color=(1, 2, 3)) for c in CATEGORIES.categories]
    check_same_categories(CategoryTable(name="other", categories=tuple(repainted)), CATEGORIES)


def test_without_pycocotools_ap_is_left_out_and_said_so(monkeypatch, caplog) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("Measuring AP needs the package pycocotools.")

    monkeypatch.setattr(standard, "InstanceAP", missing)
    source = MemorySource(2)
    with caplog.at_level(logging.WARNING):
        report: EvaluationReport = evaluate(Oracle(source), source, config=CONFIG)
    assert "AP is left out" in caplog.text
    assert set(report.measured) == {"panoptic", "semantic"}
    assert report.to_json()["instances"] is None
    assert "AP50" not in report.table()
    assert report.table(per_class=True)
    assert any("AP was left out" in note for note in report.provenance["notes"])
    assert report.metric("PQ") == 1
    with pytest.raises(MissingDependencyError):
        evaluate(Oracle(source), source, config=dataclasses.replace(CONFIG, metric="AP"))


@dataclasses.dataclass(frozen=True)
class VoidPixels:
    category_id: int
    pixels: int
    share: float


@dataclasses.dataclass(frozen=True)
class VoidReport(MetricReport):
    numbers: ClassVar = {"void": "void_share"}
    class_numbers: ClassVar = {"n": "pixels", "share": "share"}
    void_share: float
    per_class: tuple[VoidPixels, ...]

    def remark(self) -> str:
        return "Void is void."


class VoidShare(Metric):
    name = "void"
    note = "Void: counted."
    packages = ("pillow",)

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}

    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        self.shares[image_id] = float((prediction.panoptic_map == 0).mean())

    def counted(self) -> dict[str, float]:
        return self.shares

    def merge(self, parts: Sequence[dict[str, float]]) -> None:
        self.shares = {name: share for part in parts for name, share in part.items()}

    def compute(self) -> VoidReport:
        share = sum(self.shares.values()) / len(self.shares)
        return VoidReport(share, (VoidPixels(7, 5, share),))


def test_a_metric_of_ones_own_is_in_json_tables_and_values() -> None:
    source = MemorySource(2)
    report = evaluate(Oracle(source), source, config=CONFIG, metrics=[VoidShare()])
    share = report.metric("void")
    assert share == pytest.approx((0.5 + 0.5 - 20 / 240) / 2)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(data) == [
        "panoptic", "semantic", "instances", "cityscapes", "void", "num_images", "seconds", "provenance"
    ]  # fmt: skip
    assert data["void"] == {"void_share": share, "per_class": [{"category_id": 7, "pixels": 5, "share": share}]}
    assert data["cityscapes"] is None
    assert data["provenance"]["notes"][-1] == "Void: counted."
    assert "pillow" in data["provenance"]["versions"]
    table = report.table()
    assert "Void is void." in table
    rows = [line.split() for line in report.table(per_class=True).splitlines()]
    assert ["PQ", "SQ", "RQ", "IoU", "AP", "(COCO)", "share", "TP", "FP", "FN", "n"] in rows
    assert ["road", "100.00", "100.00", "100.00", "100.00", "-", f"{100 * share:.2f}", "2", "0", "0", "5"] in rows
    assert "Void is void." not in report.table(per_class=True)


@pytest.mark.parametrize("name", ["panoptic", "num_images"])
def test_two_metrics_of_one_name_are_refused_before_the_first_image(name: str) -> None:
    metric = VoidShare()
    metric.name = name  # type: ignore[misc]
    with pytest.raises(ConfigError, match=f"needs a name of its own.*Got panoptic, .*{name}"):
        evaluate(Oracle(MemorySource(1)), MemorySource(1), config=CONFIG, metrics=[metric])


def test_two_numbers_of_one_name_are_refused() -> None:
    class Again(VoidShare):
        name = "again"

    source = MemorySource(1)
    report = evaluate(Oracle(source), source, config=CONFIG, metrics=[VoidShare(), Again()])
    with pytest.raises(ConfigError, match="Two metrics call a number 'void'"):
        report.values()


def test_the_whole_table() -> None:
    source = MemorySource(2)
    report = evaluate(Oracle(source, without_things), source, config=CONFIG)
    assert report.table() == (
        "            PQ      SQ      RQ       N\n"
        "All      50.00   50.00   50.00       2\n"
        "Things    0.00    0.00    0.00       1\n"
        "Stuff   100.00  100.00  100.00       1\n"
        "\n"
        "          mIoU  accuracy\n"
        "Pixels  100.00    100.00\n"
        "\n"
        "       AP (COCO)    AP50    AP75     APs     APm     APl\n"
        "Masks       0.00    0.00    0.00    0.00       -       -\n"
        "\n"
        "Neither in the labels nor predicted, so not counted in PQ: sky, car\n"
        "\n"
        "2 images, percent\n"
    )
