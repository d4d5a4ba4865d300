"""Labels -> targets -> post-processing -> PQ: perfect maps give 100, and what is lost where the method has a limit.

The stuff filter must be off for 100 PQ, crowd is left out as void, and centers must be further apart than the window of
the non-maximum suppression. Each condition has a test that shows what happens without it.
"""

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import IGNORE_INDEX, Category, CategoryTable
from panoptic_deeplab.config import PostprocessConfig, TargetConfig
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.metrics.panoptic_quality import PanopticQuality
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

TABLE = CategoryTable(
    name="test",
    categories=(
        Category(id=7, name="cat", isthing=True, color=(1, 0, 0)),  # class 0 is a thing: it must not meet void's id 0
        Category(id=1, name="wall", isthing=False, color=(2, 0, 0)),
        Category(id=3, name="dog", isthing=True, color=(3, 0, 0)),
        Category(id=9, name="sky", isthing=False, color=(4, 0, 0)),
    ),
)


def truth_of(panoptic_map, category_ids, *, categories=TABLE, crowd_ids=()):
    """A label from a map and the category of each id; ids that are not in the map are left out."""
    segments = []
    for segment_id, category_id in category_ids.items():
        ys, xs = np.nonzero(panoptic_map == segment_id)
        if len(ys):
            category = categories[categories.train_id_by_category_id[category_id]]
            segments.append(
                Segment(
                    id=segment_id,
                    category_id=category_id,
                    name=category.name,
                    isthing=category.isthing,
                    area=len(ys),
                    bbox=(int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1),
                    iscrowd=segment_id in crowd_ids,
                )
            )
    return PanopticResult(panoptic_map=panoptic_map.astype(np.int32), segments_info=segments, categories=categories)


def perfect_maps(truth):
    """What a network without any error would give, at the resolution of the input; void looks like stuff."""
    targets = make_targets(truth.panoptic_map, truth.segments_info, categories=truth.categories, config=TargetConfig())
    first_stuff = int(np.flatnonzero(~truth.categories.thing_mask)[0])
    classes = torch.where(targets.semantic == IGNORE_INDEX, first_stuff, targets.semantic.long())
    logits = 20 * torch.nn.functional.one_hot(classes, truth.categories.num_classes).movedim(-1, 0).float()
    return RawMaps(
        semantic_logits=logits[None],
        center_heatmap=targets.center_heatmap[None, None],
        offset=targets.offset[None],
    )


def predict(truth, maps=None, **settings):
    postprocessor = PanopticPostprocessor(
        truth.categories, PostprocessConfig(**{"stuff_area_limit": 0, **settings}), align_corners=True
    )
    return postprocessor(perfect_maps(truth) if maps is None else maps, truth.size)[0]


def quality(truth, prediction):
    """PQ with crowd as void: else the segments that lie on crowd (nothing says which) lose IoU."""
    crowd_ids = [s.id for s in truth.segments_info if s.iscrowd]
    truth = PanopticResult(
        panoptic_map=np.where(np.isin(truth.panoptic_map, crowd_ids), 0, truth.panoptic_map).astype(np.int32),
        segments_info=[s for s in truth.segments_info if not s.iscrowd],
        categories=truth.categories,
    )
    metric = PanopticQuality(truth.categories)
    metric.update(prediction, truth, "image")
    return metric.compute()


def counts(truth, prediction):
    """(true positives, false positives, false negatives) over all classes."""
    rows = quality(truth, prediction).per_class
    return tuple(
        sum(getattr(row, name) for row in rows) for name in ("true_positives", "false_positives", "false_negatives")
    )


def centers_are_apart(truth, *, nms_kernel=7):
    """No two instances have their (rounded) centers within one window."""
    centers = np.array(
        [
            np.rint(np.argwhere(truth.panoptic_map == s.id).mean(0))
            for s in truth.segments_info
            if s.isthing and not s.iscrowd
        ]
    ).reshape(-1, 2)
    distance = np.abs(centers[:, None] - centers).max(-1)
    return (distance[np.triu_indices(len(centers), 1)] > nms_kernel // 2).all()


def random_truth(seed):
    """Overlapping ellipses of all sizes, cut by the border, over two kinds of stuff; void, crowd, single pixels."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(40, 100, 2)
    y, x = np.mgrid[:height, :width]
    panoptic_map = np.where(y < height // 3, 101, 102)
    category_ids = {101: 9, 102: 1, 103: 3, **{i: int(generator.choice([3, 7])) for i in range(1, 15)}}
    panoptic_map[:, : width // 8] = 0
    panoptic_map[-height // 5 :, -width // 4 :] = 103
    for segment_id in range(1, 15):
        center, radii = generator.uniform(0, (height, width)), generator.uniform(0.5, 12, 2)
        inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 <= 1
        panoptic_map[inside] = segment_id
    for segment_id, point in zip(
        (12, 13, 14), [(0, 0), (height - 1, width // 2), (height // 2, width - 1)], strict=True
    ):
        panoptic_map[panoptic_map == segment_id] = 102
        panoptic_map[point] = segment_id  # a single pixel at the border
    return truth_of(panoptic_map, category_ids, crowd_ids=(103,))


def test_random_labels_give_100():
    tried = 0
    for seed in range(40):
        truth = random_truth(seed)
        if centers_are_apart(truth):
            tried += 1
            report = quality(truth, predict(truth))
            assert (report.all_classes.pq, report.things.pq, report.stuff.pq) == (1.0, 1.0, 1.0), f"seed {seed}"
    assert tried >= 10


def test_synthetic_scenes_give_100():
    source = SyntheticSource(12, seed=0, size=(96, 128))
    tried = 0
    for index in range(len(source)):
        sample = source[index]
        truth = sample.truth(source.categories)
        if centers_are_apart(truth):
            tried += 1
            assert quality(truth, predict(truth)).all_classes.pq == 1.0, sample.image_id
    assert tried >= 4


def test_photographs_give_100(shared_folder):
    """Labels of COCO at a quarter of their resolution, which keeps 133 classes small."""
    source = CocoPanopticSource(shared_folder / "data" / "coco128_panoptic", "dev", CategoryTable.load("coco"))
    tried = 0
    for index in range(0, len(source), 3):
        sample = source[index]
        quarter = sample.panoptic_map[::4, ::4]
        truth = truth_of(
            quarter,
            {s.id: s.category_id for s in sample.segments_info},
            categories=source.categories,
            crowd_ids={s.id for s in sample.segments_info if s.iscrowd},
        )
        if centers_are_apart(truth):
            tried += 1
            assert quality(truth, predict(truth)).all_classes.pq == 1.0, sample.image_id
    assert tried >= 5


def squares(*corners, side=6, size=(60, 80)):
    """Squares of category 7 on a wall."""
    panoptic_map = np.full(size, 100)
    for segment_id, (y, x) in enumerate(corners, start=1):
        panoptic_map[y : y + side, x : x + side] = segment_id
    return truth_of(panoptic_map, {100: 1, **dict.fromkeys(range(1, len(corners) + 1), 7)})


@pytest.mark.parametrize(("distance", "expected"), [(4, (4, 0, 0)), (3, (2, 1, 2))])
def test_two_centers_within_one_window_are_one_instance(distance, expected):
    truth = squares((10, 10), (10, 10 + distance), (40, 60), side=distance)
    assert counts(truth, predict(truth)) == expected


def test_a_smaller_window_separates_them():
    truth = squares((10, 10), (10, 13), (40, 60), side=3)
    assert counts(truth, predict(truth, nms_kernel=5)) == (4, 0, 0)


def test_of_more_instances_than_top_k_the_weakest_are_lost():
    truth = squares(*[(y, x) for y in (5, 25, 45) for x in (5, 25, 45, 65)])
    maps = perfect_maps(truth)
    maps.center_heatmap[0, 0, 20:40, 20:40] *= 0.5
    assert counts(truth, predict(truth, maps, top_k=12)) == (13, 0, 0)
    # the sixth square has no center of its own; its pixels join one neighbor, which is then too large to match
    prediction = predict(truth, maps, top_k=11)
    assert len(prediction.instances()) == 11
    assert counts(truth, prediction) == (11, 1, 2)


def test_the_stuff_filter_removes_small_stuff():
    panoptic_map = np.full((60, 80), 100)
    panoptic_map[:4, :10] = 101
    truth = truth_of(panoptic_map, {100: 1, 101: 9})
    assert counts(truth, predict(truth)) == (2, 0, 0)
    assert counts(truth, predict(truth, stuff_area_limit=40)) == (2, 0, 0)
    filtered = predict(truth, stuff_area_limit=41)
    assert counts(truth, filtered) == (1, 0, 1)
    assert (filtered.panoptic_map[:4, :10] == 0).all()


def test_concentric_objects_are_one_instance():
    """The representation, one center of mass an object, cannot tell a ring from the disc within."""
    y, x = np.mgrid[:61, :81]
    radius = np.hypot(y - 30, x - 40)
    panoptic_map = np.select([radius < 8, radius < 20], [1, 2], 100)
    truth = truth_of(panoptic_map, {100: 1, 1: 7, 2: 7})
    prediction = predict(truth)
    assert len(prediction.instances()) == 1
    assert prediction.instances()[0].area == (radius < 20).sum()
    assert counts(truth, prediction) == (2, 0, 1)  # the ring has most pixels of the union


def test_void_that_looks_like_a_thing_joins_the_nearest_instance():
    """Nothing supervises a network in void, and the nearest center is taken however far it is."""
    panoptic_map = np.full((60, 80), 100)
    panoptic_map[10:20, 10:20] = 1
    panoptic_map[40:] = 0
    truth = truth_of(panoptic_map, {100: 1, 1: 7})
    maps = perfect_maps(truth)
    maps.semantic_logits[0, 0, 40:] = 30.0
    prediction = predict(truth, maps)
    assert prediction.instances()[0].area == 100 + 20 * 80
    assert counts(truth, prediction) == (2, 0, 0)  # PQ does not count void
