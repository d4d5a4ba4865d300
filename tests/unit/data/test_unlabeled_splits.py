"""Test splits have images and no labels: they can be predicted end to end, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, DataConfig, EvaluationConfig
from panoptic_deeplab.data.check import check_source
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps


def cityscapes(root: Path) -> DataConfig:
    for city, frame in (("berlin", 19), ("bonn", 20)):
        name = f"{city}_000000_{frame:06d}"
        for folder, tail in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_instanceIds")):
            (root / folder / "test" / city).mkdir(parents=True)
            mode = "RGB" if folder == "leftImg8bit" else "L"  # the download brings dummies as labels
            Image.new(mode, (40, 24)).save(root / folder / "test" / city / f"{name}_{tail}.png")
    return DataConfig(format="cityscapes", root=str(root), categories="cityscapes")


def mapillary(root: Path) -> DataConfig:
    (root / "testing" / "images").mkdir(parents=True)
    for name in ("-0aBc", "Zx_9"):
        Image.new("RGB", (40, 24)).save(root / "testing" / "images" / f"{name}.jpg")
    return DataConfig(format="mapillary_vistas", root=str(root), categories="mapillary_vistas_v1.2")


def coco(root: Path) -> DataConfig:
    (root / "test2017").mkdir(parents=True)
    images = []
    for number in (16, 7):
        Image.new("L", (40, 24)).save(root / "test2017" / f"{number:012d}.jpg")
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": 24, "width": 40})
    (root / "annotations").mkdir()
    info = {"images": images, "categories": [{"id": 1, "name": "person", "supercategory": "person"}]}
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(info))
    return DataConfig(format="coco_panoptic", root=str(root), categories="coco")


def folder(root: Path) -> DataConfig:
    (root / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 24)).save(root / "images" / f"{name}.png")
    (root / "test.txt").write_text("b\na\n")
    return DataConfig(format="folder", root=str(root), categories="nuclei")


CASES = [
    (cityscapes, "test", ["berlin_000000_000019", "bonn_000000_000020"]),
    (mapillary, "test", ["-0aBc", "Zx_9"]),
    (coco, "test-dev2017", ["16", "7"]),
    (folder, "test", ["b", "a"]),
]


class PredictsTheFirstClass:
    """A model of the right shape."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def __call__(self, images: torch.Tensor) -> RawMaps:
        count, height, width = images.shape[0], -(-images.shape[2] // 4), -(-images.shape[3] // 4)
        logits = torch.zeros(count, self.num_classes, height, width)
        logits[:, 0] = 1
        return RawMaps(logits, torch.zeros(count, 1, height, width), torch.zeros(count, 2, height, width))


@pytest.fixture(params=CASES, ids=lambda case: case[0].__name__)
def unlabeled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PanopticSource, list[str]]:
    make, split, image_ids = request.param
    return open_source(make(tmp_path), split), image_ids


def test_images_and_ids_without_labels(unlabeled: tuple[PanopticSource, list[str]]) -> None:
    source, image_ids = unlabeled
    assert list(source.image_ids) == image_ids
    for index, image_id in enumerate(image_ids):
        sample = source[index]
        assert sample.image_id == image_id
        assert sample.image.shape == (24, 40, 3)
        assert sample.image.dtype == np.uint8
        assert (sample.panoptic_map, sample.segments_info) == (None, [])


def predictor(categories: CategoryTable) -> PanopticPredictor:
    return PanopticPredictor.from_network(PredictsTheFirstClass(len(categories)), categories, Config(), device="cpu")


def test_they_can_be_predicted(unlabeled: tuple[PanopticSource, list[str]]) -> None:
    source, image_ids = unlabeled
    images = (source[index].image for index in range(len(source)))
    results = list(predictor(source.categories).predict_iter(images))
    assert [result.size for result in results] == [(24, 40)] * len(image_ids)


def test_they_can_be_checked_but_not_evaluated(unlabeled: tuple[PanopticSource, list[str]]) -> None:
    source, _ = unlabeled
    report = check_source(source, labels_needed=False, instances_needed=False, top_k=200, max_detections=100)
    assert report.ok
    assert [finding.message for finding in report.findings] == [
        "No image has labels; such a split can only be predicted."
    ]
    report = check_source(source, labels_needed=True, instances_needed=True, top_k=200, max_detections=100)
    assert not report.ok
    assert "No image has labels, but training and validation need them." in report.findings[0].message
    with pytest.raises(DatasetError, match=r"has no label, so it cannot be evaluated.*predict"):
        evaluate(predictor(source.categories), source, config=EvaluationConfig())
