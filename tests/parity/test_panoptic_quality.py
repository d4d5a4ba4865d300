"""PQ equals panopticapi: its recorded numbers on four photographs, and an independent implementation on random maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panoptic_deeplab.results.ids import id_to_rgb, rgb_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

DIGITS_12 = {"rel": 1e-12, "abs": 1e-12}


def table_of(rows: list[dict]) -> CategoryTable:
    return CategoryTable(
        name="parity",
        categories=tuple(
            Category(id=row["id"], name=row["name"], isthing=bool(row["isthing"]), color=(0, 0, 0)) for row in rows
        ),
    )


def result_of(panoptic_map: np.ndarray, segments_info: list[dict], categories: CategoryTable) -> PanopticResult:
    segments = [
        Segment(
            id=row["id"],
            category_id=row["category_id"],
            name=str(row["category_id"]),
            isthing=True,  # the table decides, not this field
            area=row["area"],
            bbox=(0, 0, 1, 1),
            iscrowd=bool(row.get("iscrowd", 0)),
        )
        for row in segments_info
    ]
    return PanopticResult(panoptic_map=panoptic_map.astype(np.int32), segments_info=segments, categories=categories)


def compare(report: PanopticQualityReport, expected: dict) -> None:
    for name, group in (("All", report.all_classes), ("Things", report.things), ("Stuff", report.stuff)):
        assert group.num_classes == expected[name]["n"]
        for metric in ("pq", "sq", "rq"):
            assert (getattr(group, metric) or 0) == pytest.approx(max(expected[name][metric], 0), **DIGITS_12), name
    for row in report.per_class:
        recorded = expected["per_class"][str(row.category_id)]
        for metric in ("pq", "sq", "rq"):
            # For a class that does not occur panopticapi writes 0, hotcoco -1, we None.
            assert (getattr(row, metric) or 0) == pytest.approx(max(recorded[metric], 0), **DIGITS_12), row.name


def test_recorded_numbers_of_panopticapi(shared_folder: Path) -> None:
    folder = shared_folder / "fixtures" / "deeplab_pq"
    truth, prediction = (json.loads((folder / f"{kind}.json").read_text()) for kind in ("coco_gt", "coco_pred"))
    categories = table_of(truth["categories"])
    quality = PanopticQuality(categories)
    by_image = {row["image_id"]: row for row in prediction["annotations"]}
    for true_row in truth["annotations"]:
        results = []
        for kind, row in (("coco_pred", by_image[true_row["image_id"]]), ("coco_gt", true_row)):
            map_ = rgb_to_id(np.asarray(Image.open(folder / kind / row["file_name"]).convert("RGB")))
            listed = row["segments_info"]
            if any(segment["id"] == 0 for segment in listed):  # one prediction uses id 0, which is void for us
                map_ = np.where(map_ == 0, 7, map_)
                listed = [{**segment, "id": segment["id"] or 7} for segment in listed]
            results.append(result_of(map_, listed, categories))
        quality.update(results[0], results[1], str(true_row["image_id"]))
    compare(quality.compute(), json.loads((folder / "expected.json").read_text()))


CATEGORIES = [  # id 0 is a class of its own, not void
    {"id": 0, "name": "road", "isthing": 0},
    {"id": 1, "name": "sky", "isthing": 0},
    {"id": 5, "name": "car", "isthing": 1},
    {"id": 9, "name": "person", "isthing": 1},
    {"id": 12, "name": "boat", "isthing": 1},
]


def random_map(rng: np.random.Generator, base: np.ndarray | None) -> np.ndarray:
    """Rectangles on void; a prediction starts from the truth, so that some segments match."""
    map_ = np.zeros((20, 26), np.int64) if base is None else base.copy()
    for _ in range(rng.integers(0, 12)):
        y, x, height, width = rng.integers(0, 20), rng.integers(0, 26), *rng.integers(1, 12, 2)
        map_[y : y + height, x : x + width] = rng.integers(0, 9)
    return map_


def random_row(rng: np.random.Generator, map_: np.ndarray, classes: np.ndarray, *, truth: bool) -> tuple:
    """Scatter the ids over the whole RGB range and list the segments in random order."""
    scattered = np.concatenate([[0], rng.choice(2**24 - 1, 9, replace=False) + 1])
    segments = []
    for segment in rng.permutation([i for i in np.unique(map_) if i]):
        category = CATEGORIES[classes[segment]]
        segments.append(
            {
                "id": int(scattered[segment]),
                "category_id": category["id"],
                "area": int((map_ == segment).sum()),
                "iscrowd": int(truth and category["isthing"] and rng.random() < 0.4),
                "bbox": [0, 0, 1, 1],
            }
        )
    return scattered[map_], segments


@pytest.mark.parametrize("seed", range(25))
def test_random_maps_with_void_and_crowd(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    categories = table_of(CATEGORIES)
    quality = PanopticQuality(categories)
    documents = {kind: {"images": [], "annotations": [], "categories": CATEGORIES} for kind in ("truth", "prediction")}
    for number in range(6):
        classes = rng.integers(0, len(CATEGORIES), 10)
        true_map = random_map(rng, None)
        true_map[0, 0] = 1  # at least one segment, so that no group of the reference divides by zero
        maps = {"prediction": random_map(rng, true_map), "truth": true_map}
        results = []
        for kind, map_ in maps.items():
            if kind == "prediction" and rng.random() < 0.3:
                classes = rng.integers(0, len(CATEGORIES), 10)
            ids, segments = random_row(rng, map_, classes, truth=kind == "truth")
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(id_to_rgb(ids)).save(tmp_path / kind / f"{number}.png")
            image = {"id": number, "file_name": f"{number}.jpg", "height": 20, "width": 26}
            row = {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
            documents[kind]["images"].append(image)
            documents[kind]["annotations"].append(row)
            results.append(result_of(ids, segments, categories))
        quality.update(results[0], results[1], str(number))
    for kind, document in documents.items():
        (tmp_path / f"{kind}.json").write_text(json.dumps(document))
    expected = pq_compute(tmp_path / "truth.json", tmp_path / "prediction.json")
    expected["per_class"] = {str(key): value for key, value in expected["per_class"].items()}
    compare(quality.compute(), expected)
