"""A small table, and results written as arrays."""

from collections.abc import Callable

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

MakeResult = Callable[..., PanopticResult]


@pytest.fixture
def categories() -> CategoryTable:
    """Two stuff and two thing classes; category ids differ from train ids, and id 0 is a class."""
    rows = ((0, "road", False), (4, "sky", False), (7, "car", True), (9, "person", True))
    return CategoryTable(
        name="four",
        categories=tuple(Category(id=i, name=name, isthing=thing, color=(i, i, i)) for i, name, thing in rows),
    )


@pytest.fixture
def make_result(categories: CategoryTable) -> MakeResult:
    """`make_result(map, {segment_id: category_id}, crowd=ids, scores={id: score})`."""

    def make(
        panoptic_map: np.ndarray | list,
        classes: dict[int, int],
        *,
        crowd: tuple[int, ...] = (),
        scores: dict[int, float] | None = None,
        semantic_map: np.ndarray | None = None,
    ) -> PanopticResult:
        map_ = np.asarray(panoptic_map, np.int32)
        by_id = {c.id: c for c in categories.categories}
        segments = [
            Segment(
                id=segment_id,
                category_id=category_id,
                name=by_id[category_id].name if category_id in by_id else "unknown",
                isthing=category_id in by_id and by_id[category_id].isthing,
                area=int((map_ == segment_id).sum()),
                bbox=(0, 0, 1, 1),
                iscrowd=segment_id in crowd,
                score=None if scores is None else scores.get(segment_id),
            )
            for segment_id, category_id in classes.items()
        ]
        return PanopticResult(
            panoptic_map=map_, segments_info=segments, categories=categories, semantic_map=semantic_map
        )

    return make
