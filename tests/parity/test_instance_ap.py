"""AP equals pycocotools' recorded numbers on 100 COCO images."""

import json
from pathlib import Path

import pytest

from panoptic_deeplab.metrics.instance_ap import coco_average_precision


@pytest.mark.parametrize(
    ("iou_type", "results"),
    [
        ("segm", "instances_val2014_fakesegm100_results.json"),
        ("bbox", "instances_val2014_fakebbox100_results.json"),
    ],
)
def test_recorded_numbers_of_pycocotools(shared_folder: Path, iou_type: str, results: str) -> None:
    folder = shared_folder / "fixtures" / "cocoapi_ap100"
    truth = json.loads((folder / "data" / "instances_val2014_100.json").read_text())
    detections = json.loads((folder / "data" / results).read_text())
    expected = json.loads((folder / "expected.json").read_text())
    names = expected["stats_order"].split()
    report = coco_average_precision(truth, detections, iou_type=iou_type)
    fields = {
        "AP": report.ap,
        "AP50": report.ap50,
        "AP75": report.ap75,
        "APs": report.ap_small,
        "APm": report.ap_medium,
        "APl": report.ap_large,
    }
    recorded = dict(zip(names, expected[iou_type], strict=True))
    for name, value in fields.items():
        assert value == pytest.approx(recorded[name], rel=1e-12), name
    of_classes = [row.ap for row in report.per_class if row.ap is not None]
    assert sum(of_classes) / len(of_classes) == pytest.approx(report.ap, rel=1e-12)
