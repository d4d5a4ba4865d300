"""Post-processing equals its naive form, on any maps, and does not depend on how the work is cut into pieces."""

import runpy
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps, upsample, upsample_offset
from panoptic_deeplab.postprocess import pipeline, pixels
from panoptic_deeplab.postprocess.centers import find_centers
from panoptic_deeplab.postprocess.grouping import group_pixels
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor, panoptic_tensors
from panoptic_deeplab.postprocess.pixels import make_grid, maps_of_image, resize
from panoptic_deeplab.postprocess.shortcut import undecided
from panoptic_deeplab.postprocess.shortcut.candidates import nearest_centers
from panoptic_deeplab.postprocess.shortcut.cells import make_cells
from panoptic_deeplab.postprocess.shortcut.peaks import centers_of_list

naive = SimpleNamespace(**runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "naive.py")))
seeds = st.integers(0, 2**32 - 1)
few_examples = settings(max_examples=25, derandomize=True)


def random_table(generator, num_classes):
    things = torch.rand(num_classes, generator=generator) < 0.5
    return CategoryTable(
        name="random",
        categories=tuple(
            Category(id=3 * i + 2, name=f"class {i}", isthing=bool(things[i]), color=(0, 0, i))
            for i in range(num_classes)
        ),
    )


def random_maps(generator, batch_size, num_classes, size, *, eighths, smooth):
    """Maps full of instances. With `eighths`, values are coarse, so ties of all kinds abound; with `smooth`, neighbors
    resemble each other, so that many cells are decided from their corners."""
    height, width = size

    def draw(channels, scale):
        values = torch.randn(batch_size, channels, height, width, generator=generator)
        if smooth:
            values = torch.nn.functional.avg_pool2d(values, 5, stride=1, padding=2) * 5
        values = values * scale
        return (values * 8).round() / 8 if eighths else values

    return RawMaps(semantic_logits=draw(num_classes, 2.0), center_heatmap=draw(1, 0.5), offset=draw(2, max(size) / 4))


@st.composite
def plans(draw):
    """The numbers of a case: what `build` makes of them is checked for types, which draws random numbers itself."""
    align_corners = draw(st.booleans())
    small = draw(st.integers(1, 12)), draw(st.integers(1, 14))
    exact = draw(st.booleans())
    if exact:
        input_size = tuple(4 * n - 3 if align_corners else 4 * n for n in small)
    else:
        input_size = tuple(n * 3 + draw(st.integers(-2, 5)) for n in small)
    batch_size = draw(st.integers(1, 3))
    return SimpleNamespace(
        seed=draw(seeds),
        align_corners=align_corners,
        small=small,
        exact=exact,
        smooth=draw(st.booleans()),
        input_size=input_size,
        num_classes=draw(st.integers(1, 5)),
        content_sizes=[tuple(draw(st.integers(1, n)) for n in input_size) for _ in range(batch_size)],
        config={
            "center_threshold": draw(st.sampled_from([-0.5, 0.0, 0.1, 0.5, 9.0])),
            "nms_kernel": draw(st.sampled_from([1, 3, 7])),
            "top_k": draw(st.sampled_from([1, 3, 200])),
            "stuff_area_limit": draw(st.sampled_from([0, 20, 100])),
            "instance_area_limit": draw(st.sampled_from([0, 0, 5, 30])),
            "join_border_fraction": draw(st.sampled_from([None, 1e-3, 0.2, 0.3, 0.5, 1.0])),
        },
    )


def build(plan):
    """Raw maps with sizes: exactly 4 times larger by either convention, or any ratio."""
    generator = torch.Generator().manual_seed(plan.seed)
    batch_size = len(plan.content_sizes)
    return SimpleNamespace(
        raw_maps=random_maps(
            generator, batch_size, plan.num_classes, plan.small, eighths=plan.exact, smooth=plan.smooth
        ),
        categories=random_table(generator, plan.num_classes),
        config=PostprocessConfig(**plan.config),
        align_corners=plan.align_corners,
        small=plan.small,
        input_size=plan.input_size,
        content_sizes=plan.content_sizes,
        exact=plan.exact,
    )


def upsampled(case, index):
    """Whole maps of one image, without padding."""
    maps = RawMaps(*(map_[index : index + 1] for map_ in case.raw_maps))
    height, width = case.content_sizes[index]
    if case.exact:  # every value is a binary fraction: F.interpolate is exact, whatever the order of its operations
        logits = upsample(maps.semantic_logits, case.input_size, align_corners=case.align_corners)[0]
        heatmap = upsample(maps.center_heatmap, case.input_size, align_corners=case.align_corners)[0]
        offset = upsample_offset(maps.offset, case.input_size, align_corners=case.align_corners)[0]
    else:  # equal up to rounding only, which decides a tie now and then; test_pixels holds them together
        one = maps_of_image(maps, 0, case.input_size, align_corners=case.align_corners)
        grid = make_grid(
            case.small, case.input_size, (height, width), align_corners=case.align_corners, device=torch.device("cpu")
        )
        logits, heatmap, offset = (resize(map_, grid) for map_ in (one.logits, one.heatmap[None], one.offset))
    return (map_[..., :height, :width].numpy() for map_ in (logits, heatmap[0], offset))


@contextmanager
def without_the_shortcut():
    """The method alone, as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "quick_answer", lambda *_, **__: None)
        yield


def assert_same(one, other):
    assert np.array_equal(one.panoptic_map, other.panoptic_map)
    assert np.array_equal(one.semantic_map, other.semantic_map)
    for segment, same in zip(one.segments_info, other.segments_info, strict=True):
        # Two ways to the probability of a pixel, and vectors of other lengths, may differ in the last bit.
        assert segment.ranking_score == pytest.approx(same.ranking_score, abs=1e-6)
        assert replace(segment, score=None, objectness_score=None) == replace(same, score=None, objectness_score=None)


@pytest.mark.parametrize("way", [nullcontext, without_the_shortcut])
@few_examples
@given(plans())
def test_equals_the_naive_form(way, plan):
    case = build(plan)
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
    with way():
        results = postprocessor(case.raw_maps, case.input_size, case.content_sizes)
    for index, result in enumerate(results):
        panoptic_map, semantic_map, rows = naive.postprocess(
            *upsampled(case, index), thing_mask=case.categories.thing_mask, config=case.config
        )
        assert result.size == case.content_sizes[index]
        assert np.array_equal(result.semantic_map, semantic_map)
        assert np.array_equal(result.panoptic_map, panoptic_map)
        assert len(result.segments_info) == len(rows)
        for segment, row in zip(result.segments_info, rows, strict=True):
            category = case.categories[int(row["train_id"])]
            assert (segment.id, segment.area, segment.bbox) == (row["id"], row["area"], row["bbox"])
            assert (segment.category_id, segment.isthing) == (category.id, category.isthing)
            assert np.isclose(segment.ranking_score, row["score"], rtol=1e-4, atol=1e-6)


@few_examples
@given(plans(), st.sampled_from([1, 500, 10**7]))
def test_the_shortcut_changes_nothing(plan, block_elements):
    """Corners of cells or every pixel, in blocks or at once."""
    case = build(plan)

    def run():
        return panoptic_tensors(
            case.raw_maps,
            0,
            case.input_size,
            case.content_sizes[0],
            thing_mask=torch.from_numpy(case.categories.thing_mask),
            config=case.config,
            align_corners=case.align_corners,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undecided, "_BLOCK_ELEMENTS", block_elements)
        quick = run()
    with without_the_shortcut(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_BLOCK_ELEMENTS", block_elements)
        plain = run()
    assert torch.equal(quick.panoptic_map, plain.panoptic_map)
    assert torch.equal(quick.semantic_map, plain.semantic_map)
    for one, other in zip(quick.table, plain.table, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(quick.scores, plain.scores, rtol=0, atol=1e-6)


@few_examples
@given(plans(), st.sampled_from([60.0, 150.0, 1000.0]))
def test_class_scores_of_any_size(plan, scale):
    """Exponentials neither overflow nor get lost."""
    case = build(plan)
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
    case.raw_maps = case.raw_maps._replace(semantic_logits=case.raw_maps.semantic_logits * scale)
    (result, *_) = postprocessor(case.raw_maps, case.input_size, case.content_sizes)
    panoptic_map, _, rows = naive.postprocess(
        *upsampled(case, 0), thing_mask=case.categories.thing_mask, config=case.config
    )
    assert np.array_equal(result.panoptic_map, panoptic_map)
    assert np.allclose(
        [s.ranking_score for s in result.segments_info], [row["score"] for row in rows], rtol=1e-3, atol=1e-6
    )


@few_examples
@given(plans())
def test_does_not_depend_on_the_batch(plan):
    case = build(plan)
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
    together = postprocessor(case.raw_maps, case.input_size, case.content_sizes)
    for index, result in enumerate(together):
        alone = RawMaps(*(map_[index : index + 1].clone() for map_ in case.raw_maps))
        assert_same(result, postprocessor(alone, case.input_size, case.content_sizes[index : index + 1])[0])


@few_examples
@given(plans())
def test_does_not_depend_on_the_memory_format(plan):
    case = build(plan)
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
    channels_last = RawMaps(*(map_.contiguous(memory_format=torch.channels_last) for map_ in case.raw_maps))
    for one, other in zip(
        postprocessor(case.raw_maps, case.input_size, case.content_sizes),
        postprocessor(channels_last, case.input_size, case.content_sizes),
        strict=True,
    ):
        assert_same(one, other)


@few_examples
@given(plans())
def test_does_not_depend_on_the_padding(plan):
    """At equal resolution nothing is interpolated, so padding must not matter at all."""
    case = build(plan)
    height, width = case.raw_maps.offset.shape[-2:]
    content = [(max(height - 1, 1), max(width - 2, 1))] * len(case.raw_maps.offset)
    disturbed = RawMaps(*(map_.clone() for map_ in case.raw_maps))
    for map_ in disturbed:
        map_[..., content[0][0] :, :] = 77.0
        map_[..., content[0][1] :] = 77.0
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
    for one, other in zip(
        postprocessor(case.raw_maps, (height, width), content),
        postprocessor(disturbed, (height, width), content),
        strict=True,
    ):
        assert_same(one, other)


@few_examples
@given(seeds, st.integers(1, 60), st.integers(1, 90), st.integers(1, 40), st.sampled_from([0.5, 5.0, 500.0]))
def test_pruned_grouping_equals_the_full_comparison(seed, num_groups, num_points, num_centers, reach):
    """Groups close together and wide; whole numbers make equal distances common."""
    generator = torch.Generator().manual_seed(seed)
    centers = some_centers(generator, num_centers)
    target = (50 * torch.rand(2, num_groups, 1, generator=generator)).round()
    target = target + torch.round(reach * torch.randn(2, num_groups, num_points, generator=generator))
    inside = torch.rand(num_groups, num_points, generator=generator) < 0.6
    pruned, full = nearest_centers(target, inside, centers), group_pixels(target, inside, centers)
    assert torch.equal(pruned.nearest[inside], full[inside])


def some_centers(generator, top_k):
    heatmap = torch.rand(50, 50, generator=generator).mul(20).round()
    return find_centers(heatmap, PostprocessConfig(center_threshold=0.0, nms_kernel=3, top_k=top_k))


@few_examples
@given(seeds, st.integers(1, 15), st.integers(1, 15), st.sampled_from([1, 3, 5, 7, 41]), st.integers(1, 30))
def test_centers_equal_the_naive_form(seed, height, width, nms_kernel, top_k):
    """Four values only: plateaus and ties everywhere."""
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.randint(0, 4, (height, width), generator=generator) / 4
    expected = naive.find_centers(heatmap.numpy(), threshold=0.25, nms_kernel=nms_kernel, top_k=top_k)
    config = PostprocessConfig(center_threshold=0.25, nms_kernel=nms_kernel, top_k=top_k)
    size = (height, width)
    cells = make_cells(size, size, size, align_corners=True)
    for centers in (find_centers(heatmap, config), centers_of_list(heatmap, cells, config)):
        found = torch.cat([centers.scores[:, None], centers.points], dim=1)[centers.valid]
        assert found.tolist() == [list(map(float, row)) for row in expected]


@few_examples
@given(plans())
def test_a_list_of_pixels_gives_the_centers_of_the_whole_map(plan):
    """It looks up the pixels of resized heatmaps one by one."""
    case = build(plan)
    sizes = case.small, case.input_size, case.content_sizes[0]
    grid = make_grid(*sizes, align_corners=case.align_corners, device=torch.device("cpu"))
    heatmap = case.raw_maps.center_heatmap[0, 0]
    config = replace(case.config, center_threshold=0.0)
    listed = centers_of_list(heatmap, make_cells(*sizes, align_corners=case.align_corners), config)
    for field, other in zip(listed, find_centers(resize(heatmap[None], grid)[0], config), strict=True):
        assert torch.equal(field, other)


@few_examples
@given(seeds, st.integers(1, 20), st.integers(1, 20))
def test_grouping_equals_the_naive_form_in_float32(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    centers = some_centers(generator, 10)
    offset = 4 * torch.randn(2, height, width, generator=generator)
    is_thing = torch.rand(height, width, generator=generator) < 0.7
    expected = naive.group_pixels(offset.numpy(), is_thing.numpy(), centers.points[centers.valid].numpy())
    target = offset + torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    found = group_pixels(target, is_thing, centers)
    assert np.array_equal(found[is_thing].numpy(), expected[is_thing.numpy()])


@pytest.mark.parametrize("fraction", [None, 0.2])
def test_shapes_do_not_depend_on_the_data_off_the_cpu(fraction):
    """Tensors without data would fail at the first look at a value, for which a GPU would have to be waited for."""
    maps = RawMaps(*(torch.zeros(1, n, 9, 13, device="meta") for n in (5, 1, 2)))
    tensors = panoptic_tensors(
        maps,
        0,
        (33, 49),
        (31, 49),
        thing_mask=torch.zeros(5, dtype=torch.bool, device="meta"),
        config=PostprocessConfig(join_border_fraction=fraction),
        align_corners=True,
    )
    assert tensors.panoptic_map.shape == tensors.semantic_map.shape == (31, 49)
    assert tensors.scores.shape == (205,)
