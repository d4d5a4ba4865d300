"""Lengths of objects by hand, and which images have an up."""

from pathlib import Path

import numpy as np

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.object_sizes import Measures
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.results.panoptic_result import PanopticResult

TABLE = CategoryTable.load("nuclei")


def sample_of(panoptic_map: np.ndarray, things: set[int], image: np.ndarray | None = None) -> Sample:
    size = panoptic_map.shape
    classes = {int(i): 1 if int(i) in things else 2 for i in np.unique(panoptic_map) if i}
    result = PanopticResult.from_maps(panoptic_map.astype(np.int32), classes, TABLE)
    return Sample(
        image_id="a",
        image=np.zeros((*size, 3), np.uint8) if image is None else image,
        panoptic_map=result.panoptic_map,
        segments_info=result.segments_info,
        image_path=Path("a.png"),
    )


def test_sizes_and_distances_by_hand() -> None:
    drawn = np.full((20, 40), 9)
    drawn[0:4, 0:4] = 1  # center (2, 2)
    drawn[0:2, 10:18] = 2  # center (1, 14)
    drawn[10:13, 0:3] = 3  # center (11.5, 1.5)
    measures = Measures()
    measures.add(sample_of(drawn, {1, 2, 3}))
    assert measures.image_sizes == [(20, 40)]
    assert sorted(measures.object_sizes[0].tolist()) == [3, 4, 4]
    assert sorted(measures.distances[0].tolist()) == [9.5, 9.5, 12]
    assert measures.stuff_areas == [[20 * 40 - 41]]
    assert (measures.most_objects, measures.most_of_a_class) == (3, 3)


def test_borders_by_hand() -> None:
    drawn = np.full((12, 12), 9)
    drawn[2:6, 2:4], drawn[2:6, 4:8] = 1, 2  # 4 of the 12 and 16 edges of their outlines
    drawn[8:10, 2:4], drawn[8:10, 5:7] = 3, 4  # apart
    measures = Measures()
    measures.add(sample_of(drawn, {1, 2, 3, 4}))
    measures.add(sample_of(np.ones((4, 4)), {1}))
    assert measures.border_fractions[0].tolist() == [4 / 12, 4 / 12, 0, 0]
    assert measures.border_fractions[1].tolist() == [0]


def test_an_object_alone_is_as_far_away_as_the_image_is_long() -> None:
    measures = Measures()
    measures.add(sample_of(np.ones((5, 30)), {1}))
    assert measures.distances[0].tolist() == [30]


def test_images_with_a_sky_have_an_up_and_symmetric_ones_have_none() -> None:
    rng = np.random.default_rng(0)
    streets, cells, few = Measures(), Measures(), Measures()
    for index in range(60):
        noise = rng.integers(0, 200, (16, 16, 3), np.uint8)
        bright_above = noise.copy()
        bright_above[:8] += 40
        drawn = rng.integers(1, 3, (16, 16))
        streets.add(sample_of(drawn, {1}, bright_above))
        cells.add(sample_of(drawn, {1}, noise))
        if index < 10:
            few.add(sample_of(drawn, {1}, noise))
    assert not streets.has_no_up()
    assert cells.has_no_up()
    assert not few.has_no_up()  # nobody can know


def test_a_class_that_lies_below_tells_the_up() -> None:
    rng = np.random.default_rng(0)
    measures = Measures()
    for _ in range(60):
        drawn = np.where(np.arange(16)[:, None] + rng.integers(-6, 7) < 10, 1, 2) * np.ones((16, 16), np.int64)
        measures.add(sample_of(drawn, {1}))
    assert not measures.has_no_up()
