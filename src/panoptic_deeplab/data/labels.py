"""From the raw segments of a data set to the labels of a `Sample`: one translation for all formats.

Raw segments carry ids of the *data set*. In a `Sample` every `Segment.category_id` is a `Category.id` of the *table*
(they differ for merged tables), stuff segments that fall into one class are joined, void is 0, and areas and boxes are
those of the map. Two things never become one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Integer

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, VOID_ID
from panoptic_deeplab.results.panoptic_result import Segment
from panoptic_deeplab.results.places import check_consistency
from panoptic_deeplab.results.run_lengths import areas_and_boxes, find_runs


class RawSegment(NamedTuple):
    """A segment as the files of a data set describe it."""

    id: int
    """The value of its pixels in the raw map, never 0."""
    dataset_id: int
    """Category id of the data set."""
    iscrowd: bool


def translate_labels(
    raw_map: Integer[np.ndarray, "H W"], raw_segments: Sequence[RawSegment], *, categories: CategoryTable, where: str
) -> tuple[Int32[np.ndarray, "H W"], list[Segment]]:
    """Translate the labels of one image into the ids of a table.

    Segments keep their id and order. Stuff segments of one class take the id of the first of them (crowd and other
    regions stay apart, so that `iscrowd` is kept). Segments whose dataset id the table lists as void become void.

    Args:
        raw_map: segment ids, 0 = void.
        raw_segments: one entry for each non-zero id of the map.
        categories: the table to translate into.
        where: file and image, for messages.

    Returns:
        The `panoptic_map` and its `segments_info`.

    Raises:
        DatasetError: map and entries contradict each other, an id does not fit in 24 bits, or a dataset id is in no
            category of the table.
    """
    if any(segment.id == VOID_ID for segment in raw_segments):
        raise DatasetError(f"{where}: segments_info lists id {VOID_ID}, which means void. Number segments from 1.")
    runs = find_runs(raw_map)
    present, run_segment = np.unique(runs.of(raw_map), return_inverse=True)
    raw_ids = [segment.id for segment in raw_segments]
    if len(set(raw_ids)) != len(raw_ids) or set(present.tolist()) - {VOID_ID} != set(raw_ids):
        check_consistency(raw_map.astype(np.int32), raw_ids, where=where)  # slower, and finds the pixel to name
    if present.size and (present[0] < 0 or present[-1] > MAX_SEGMENT_ID):
        raise DatasetError(
            f"{where} has segment ids from {present[0]} to {present[-1]}. Expected 0 to {MAX_SEGMENT_ID}."
        )

    new_id_by_raw_id, classes = _assign_ids(raw_segments, categories=categories, where=where)
    run_segment = run_segment.reshape(-1)
    new_ids = np.array([new_id_by_raw_id.get(int(i), VOID_ID) for i in present], np.int32)
    panoptic_map = runs.spread(new_ids[run_segment])

    place_by_id = {segment_id: place for place, segment_id in enumerate([VOID_ID, *classes])}
    places = np.array([place_by_id[int(i)] for i in new_ids], np.int64)[run_segment]
    areas, boxes = areas_and_boxes(runs, places, len(classes))
    rows = zip(classes.items(), areas.tolist(), boxes.tolist(), strict=True)
    return panoptic_map, [
        Segment.of(categories[train_id], segment_id, area, box, iscrowd=iscrowd)
        for (segment_id, (train_id, iscrowd)), area, box in rows
    ]


def _assign_ids(
    raw_segments: Sequence[RawSegment], *, categories: CategoryTable, where: str
) -> tuple[dict[int, int], dict[int, tuple[int, bool]]]:
    """New id of each raw id (void left out), and `(train_id, iscrowd)` of each new id."""
    new_id_by_raw_id: dict[int, int] = {}
    classes: dict[int, tuple[int, bool]] = {}
    stuff_id: dict[tuple[int, bool], int] = {}
    for raw in raw_segments:
        train_id = categories.train_id_by_dataset_id.get(raw.dataset_id)
        if train_id is None:
            if raw.dataset_id in categories.void_ids:
                continue
            raise DatasetError(
                f"{where}: segment {raw.id} has category id {raw.dataset_id}, which the table {categories.name!r} lists"
                " neither as a category nor in `void_ids`. Choose the table of this data set, or add the id to it."
            )
        key = (train_id, raw.iscrowd)
        new_id = raw.id if categories[train_id].isthing else stuff_id.setdefault(key, raw.id)
        new_id_by_raw_id[raw.id] = new_id
        classes[new_id] = key
    return new_id_by_raw_id, classes
