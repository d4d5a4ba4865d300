"""The whole post-processing on maps written by hand: edge cases, sizes, scores, errors."""

import numpy as np
import pytest
import torch

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.results.places import check_consistency

TABLE = CategoryTable(
    name="test",
    categories=(
        Category(id=10, name="wall", isthing=False, color=(0, 0, 0)),
        Category(id=20, name="cat", isthing=True, color=(1, 1, 1)),
        Category(id=30, name="dog", isthing=True, color=(2, 2, 2)),
        Category(id=40, name="sky", isthing=False, color=(3, 3, 3)),
    ),
)
WALL, CAT, DOG, SKY = range(4)


def run(maps, input_size=None, content_sizes=None, *, align_corners=True, **settings):
    """Results of maps that are already at the resolution of the input, unless `input_size` says otherwise."""
    config = PostprocessConfig(**{"stuff_area_limit": 0, **settings})
    size = input_size or tuple(maps.semantic_logits.shape[-2:])
    results = PanopticPostprocessor(TABLE, config, align_corners=align_corners)(maps, size, content_sizes)
    for result in results:
        check_consistency(result.panoptic_map, [s.id for s in result.segments_info], where="result")
        assert result.panoptic_map.dtype == np.int32
        assert result.semantic_map.dtype == np.uint8
        for segment in result.segments_info:
            ys, xs = np.nonzero(result.panoptic_map == segment.id)
            assert segment.area == len(ys)
            assert segment.bbox == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
            assert segment.isthing == TABLE[TABLE.train_id_by_category_id[segment.category_id]].isthing
    return results


def perfect_maps(semantic, centers):
    """Maps of one image: sure classes; each pixel points to the nearest of the centers `(y, x, score)`."""
    semantic = torch.as_tensor(semantic)
    height, width = semantic.shape
    logits = 20.0 * torch.nn.functional.one_hot(semantic.long(), len(TABLE)).movedim(-1, 0)
    heatmap = torch.zeros(1, height, width)
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    offset = torch.zeros(2, height, width)
    if centers:
        points = torch.tensor([c[:2] for c in centers]).float()
        nearest = ((grid[:, None] - points.T[:, :, None, None]) ** 2).sum(0).argmin(0)
        offset = points[nearest].movedim(-1, 0) - grid
    for y, x, score in centers:
        heatmap[0, y, x] = score
    return RawMaps(semantic_logits=logits[None], center_heatmap=heatmap[None], offset=offset[None])


def two_cats():
    semantic = torch.full((20, 30), WALL)
    semantic[5:15, 2:10] = CAT
    semantic[5:15, 18:28] = CAT
    semantic[:3] = SKY
    return semantic


def test_two_instances_and_two_kinds_of_stuff():
    (result,) = run(perfect_maps(two_cats(), [(9, 5, 0.7), (9, 22, 0.9)]))
    names = [(s.id, s.category_id, s.name, s.area) for s in result.segments_info]
    assert names == [(1, 20, "cat", 100), (2, 20, "cat", 80), (3, 10, "wall", 330), (4, 40, "sky", 90)]
    assert result.segments_info[0].bbox == (18, 5, 10, 10)
    assert result.segments_info[0].ranking_score == pytest.approx(0.9, abs=1e-6)
    assert result.segments_info[2].ranking_score == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(result.semantic_map, two_cats().numpy())
    assert [s.id for s in result.instances()] == [1, 2]


def test_no_things():
    (result,) = run(perfect_maps(torch.full((9, 9), WALL), [(4, 4, 0.9)]))
    assert [(s.name, s.area) for s in result.segments_info] == [("wall", 81)]  # a center without pixels is no segment


def test_no_centers_leaves_things_void():
    (result,) = run(perfect_maps(two_cats(), []))
    assert [s.name for s in result.segments_info] == ["wall", "sky"]
    assert (result.panoptic_map[two_cats() == CAT] == 0).all()
    assert (result.semantic_map == CAT).sum() == 180


def test_no_stuff():
    (result,) = run(perfect_maps(torch.full((9, 9), DOG), [(4, 4, 0.9)]))
    assert [(s.name, s.area) for s in result.segments_info] == [("dog", 81)]


def test_all_void():
    semantic = torch.full((9, 9), WALL)
    semantic[3] = CAT
    (result,) = run(perfect_maps(semantic, []), stuff_area_limit=1000)
    assert result.segments_info == []
    assert not result.panoptic_map.any()
    assert result.masks().shape == (0, 9, 9)


def test_semantic_only_model_has_stuff_and_void():
    logits = perfect_maps(two_cats(), []).semantic_logits
    (result,) = run(RawMaps(semantic_logits=logits, center_heatmap=None, offset=None))
    assert [s.name for s in result.segments_info] == ["wall", "sky"]
    assert np.array_equal(result.semantic_map, two_cats().numpy())


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1)])
def test_image_smaller_than_everything(size):
    (result,) = run(perfect_maps(torch.full(size, CAT), [(0, 0, 0.9)]))
    assert [(s.name, s.area, s.bbox) for s in result.segments_info] == [("cat", size[0] * size[1], (0, 0, *size[::-1]))]


@pytest.mark.parametrize("corner", [(0, 0), (0, 29), (19, 0), (19, 29)])
def test_one_pixel_instance_in_a_corner(corner):
    semantic = torch.full((20, 30), WALL)
    semantic[8:12, 12:18] = CAT
    semantic[corner] = DOG
    (result,) = run(perfect_maps(semantic, [(9, 14, 0.9), (*corner, 0.5)]))
    dogs = [s for s in result.segments_info if s.name == "dog"]
    assert [(s.area, s.bbox) for s in dogs] == [(1, (corner[1], corner[0], 1, 1))]


def test_minority_class_inside_an_instance_is_outvoted():
    semantic = two_cats()
    semantic[6, 3:6] = DOG
    (result,) = run(perfect_maps(semantic, [(9, 5, 0.7), (9, 22, 0.9)]))
    assert [(s.name, s.area) for s in result.segments_info[:2]] == [("cat", 100), ("cat", 80)]
    assert (result.semantic_map == DOG).sum() == 3  # before merging
    assert result.segments_info[1].ranking_score == pytest.approx(0.7 * 77 / 80, abs=1e-6)


def test_equal_class_scores_go_to_the_lower_train_id():
    maps = perfect_maps(torch.full((4, 4), WALL), [])
    (result,) = run(maps._replace(semantic_logits=torch.zeros_like(maps.semantic_logits)))
    assert (result.semantic_map == 0).all()


def test_score_uses_the_heatmap_at_the_center_not_at_the_centroid():
    """A ring: the centroid of the mask lies on another object."""
    semantic = torch.full((21, 21), CAT)
    semantic[6:15, 6:15] = WALL
    maps = perfect_maps(semantic, [(2, 2, 0.6)])
    maps.center_heatmap[0, 0, 10, 10] = 0.05
    (result,) = run(maps)
    assert result.segments_info[0].ranking_score == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
def test_offsets_grow_by_the_ratio_of_each_axis(align_corners):
    """Height and width grow by different factors."""
    small, size = (6, 9), (11, 49) if align_corners else (12, 45)
    factor = [(b - 1) / (a - 1) if align_corners else b / a for a, b in zip(small, size, strict=True)]
    maps = perfect_maps(torch.full(small, CAT), [(1, 1, 0.9), (4, 7, 0.8)])
    left = torch.arange(small[1]) < 5
    grid = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(9), indexing="ij")).float()
    # pixels on the left belong to the center on the right, and the other way round
    target = torch.where(left, torch.tensor([4.0, 7.0])[:, None, None], torch.tensor([1.0, 1.0])[:, None, None])
    (result,) = run(maps._replace(offset=(target - grid)[None]), size, align_corners=align_corners)
    middle = round(5 * factor[1])
    first, second = result.segments_info[:2]
    assert first.ranking_score > second.ranking_score
    assert (result.panoptic_map[:, : middle - 6] == second.id).all()
    assert (result.panoptic_map[:, middle + 6 :] == first.id).all()


def test_padding_holds_neither_centers_nor_area():
    semantic = two_cats()
    semantic[:, 16:] = CAT
    maps = perfect_maps(semantic, [(9, 5, 0.5), (9, 22, 0.9)])
    (result,) = run(maps, content_sizes=[(18, 16)])
    assert result.size == (18, 16)
    assert [(s.name, s.area) for s in result.segments_info] == [("cat", 80), ("wall", 160), ("sky", 48)]


def test_images_of_a_batch_have_their_own_sizes():
    one, two = perfect_maps(two_cats(), [(9, 5, 0.5)]), perfect_maps(torch.full((20, 30), DOG), [(3, 3, 0.9)])
    batch = RawMaps(*(torch.cat(pair) for pair in zip(one, two, strict=True)))
    first, second = run(batch, content_sizes=[(20, 30), (7, 11)])
    assert (first.size, second.size) == ((20, 30), (7, 11))
    assert [(s.id, s.name, s.area) for s in second.segments_info] == [(1, "dog", 77)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_point_type(dtype):
    maps = perfect_maps(two_cats(), [(9, 5, 0.75), (9, 22, 1.0)])
    (expected,), (result,) = run(maps), run(RawMaps(*(map_.to(dtype) for map_ in maps)))
    assert np.array_equal(result.panoptic_map, expected.panoptic_map)
    assert result.segments_info == expected.segments_info


def test_maps_that_require_gradients():
    maps = perfect_maps(two_cats(), [(9, 5, 0.75)])
    assert len(run(RawMaps(*(map_.requires_grad_() for map_ in maps)))[0].segments_info) == 3


def test_wrong_number_of_classes():
    maps = perfect_maps(two_cats(), [])
    with pytest.raises(ConfigError, match="predicts 3 classes, but category table 'test' has 4"):
        run(maps._replace(semantic_logits=maps.semantic_logits[:, :3]))


@pytest.mark.parametrize(
    ("content_sizes", "message"), [([], "one size for each"), ([(21, 30)], "at most"), ([(0, 5)], "positive")]
)
def test_wrong_content_sizes(content_sizes, message):
    with pytest.raises(ValueError, match=message):
        run(perfect_maps(two_cats(), []), content_sizes=content_sizes)
