"""Ids survive every encoding, and translation keeps what it promises."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, VOID_ID, id_to_rgb, rgb_to_id
from panoptic_deeplab.results.places import check_consistency

TABLE = CategoryTable(
    name="small",
    categories=(
        Category(id=1, name="ground", isthing=False, color=(1, 1, 1), dataset_ids=(10, 11)),
        Category(id=2, name="sky", isthing=False, color=(2, 2, 2)),
        Category(id=3, name="animal", isthing=True, color=(3, 3, 3), dataset_ids=(20, 21)),
    ),
    void_ids=(0,),
)
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=7)


@given(arrays(np.int32, SHAPES, elements=st.integers(0, MAX_SEGMENT_ID)))
def test_rgb_round_trip(panoptic_map):
    assert (rgb_to_id(id_to_rgb(panoptic_map)) == panoptic_map).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_id_round_trip(rgb):
    assert (id_to_rgb(rgb_to_id(rgb)) == rgb).all()


@settings(max_examples=60)
@given(arrays(np.int32, SHAPES, elements=st.integers(0, 6)), st.data())
def test_translation_keeps_classes_instances_and_areas(raw_map, data):
    raw_segments = [
        RawSegment(i, data.draw(st.sampled_from([0, 2, 10, 11, 20, 21])), data.draw(st.booleans()))
        for i in data.draw(st.permutations(sorted(set(raw_map.ravel().tolist()) - {VOID_ID})))
    ]
    panoptic_map, info = translate_labels(raw_map, raw_segments, categories=TABLE, where="drawn")
    check_consistency(panoptic_map, [s.id for s in info], where="drawn")
    segment_by_id = {s.id: s for s in info}
    raw_by_id = {s.id: s for s in raw_segments}
    for raw_id, new_id in zip(raw_map.ravel().tolist(), panoptic_map.ravel().tolist(), strict=True):
        if raw_id == VOID_ID or raw_by_id[raw_id].dataset_id == 0:
            assert new_id == VOID_ID
            continue
        segment, raw = segment_by_id[new_id], raw_by_id[raw_id]
        category = TABLE[TABLE.train_id_by_dataset_id[raw.dataset_id]]
        assert (segment.category_id, segment.iscrowd) == (category.id, raw.iscrowd)
        if category.isthing:
            assert new_id == raw_id
    stuff = [(s.category_id, s.iscrowd) for s in info if not s.isthing]
    assert len(stuff) == len(set(stuff))
    for segment in info:
        y, x = np.nonzero(panoptic_map == segment.id)
        assert segment.area == len(y)
        assert segment.bbox == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
