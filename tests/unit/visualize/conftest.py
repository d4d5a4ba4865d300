"""One small scene for all pictures."""

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=7, name="road", isthing=False, color=(128, 64, 128)),
        Category(id=26, name="car", isthing=True, color=(0, 0, 142)),
        Category(id=24, name="person", isthing=True, color=(220, 20, 60)),
    ),
)


@pytest.fixture
def image() -> np.ndarray:
    return np.full((120, 160, 3), 100, np.uint8)


@pytest.fixture
def scene() -> PanopticResult:
    """Void on top, road below, two cars and a group of people."""
    panoptic_map = np.zeros((120, 160), np.int32)
    panoptic_map[60:] = 5
    panoptic_map[40:80, 10:50] = 3
    panoptic_map[40:80, 100:150] = 90
    panoptic_map[85:115, 60:90] = 8
    rows = [
        (3, 26, "car", True, False, (10, 40, 40, 40), 0.91),
        (90, 26, "car", True, False, (100, 40, 50, 40), 0.5),
        (5, 7, "road", False, False, (0, 60, 160, 60), None),
        (8, 24, "person", True, True, (60, 85, 30, 30), None),
    ]
    segments = [
        Segment(
            id=id_, category_id=category, name=name, isthing=thing, iscrowd=crowd, bbox=bbox, score=score,
            area=int((panoptic_map == id_).sum()),
        )
        for id_, category, name, thing, crowd, bbox, score in rows
    ]  # fmt: skip
    result = PanopticResult(panoptic_map=panoptic_map, segments_info=segments, categories=CATEGORIES)
    return PanopticResult(
        panoptic_map=panoptic_map,
        segments_info=segments,
        categories=CATEGORIES,
        semantic_map=result.train_id_map(),
    )


@pytest.fixture
def empty() -> PanopticResult:
    return PanopticResult(panoptic_map=np.zeros((120, 160), np.int32), segments_info=[], categories=CATEGORIES)
