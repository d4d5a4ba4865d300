"""Post-processing equals its naive form, on any maps, and does not depend on how the work is cut into pieces."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps, upsample, upsample_offset
from panoptic_deeplab.postprocess.centers import find_centers
from panoptic_deeplab.postprocess.grouping import _nearest_by_tiles, _nearest_of_all, group_pixels
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor, panoptic_tensors
from panoptic_deeplab.postprocess.row_upsampling import upsample_rows

naive = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[1] / "reference" / "naive_postprocess.py"))
)
seeds = st.integers(0, 2**32 - 1)
few_examples = settings(max_examples=25, deadline=None, derandomize=True)


def random_table(generator, num_classes):
    things = torch.rand(num_classes, generator=generator) < 0.5
    return CategoryTable(
        name="random",
        categories=tuple(
            Category(id=3 * i + 2, name=f"class {i}", isthing=bool(things[i]), color=(0, 0, i))
            for i in range(num_classes)
        ),
    )


def random_maps(generator, batch_size, num_classes, size, *, eighths):
    """Maps full of instances. With `eighths`, values are coarse, so ties of all kinds abound."""
    height, width = size

    def draw(channels, scale):
        values = scale * torch.randn(batch_size, channels, height, width, generator=generator)
        return (values * 8).round() / 8 if eighths else values

    return RawMaps(semantic_logits=draw(num_classes, 1.0), center_heatmap=draw(1, 0.5), offset=draw(2, max(size) / 4))


@st.composite
def plans(draw):
    """The numbers of a case: what `build` makes of them is checked for types, which draws random numbers itself."""
    align_corners = draw(st.booleans())
    small = draw(st.integers(1, 7)), draw(st.integers(1, 9))
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
        input_size=input_size,
        num_classes=draw(st.integers(1, 5)),
        content_sizes=[tuple(draw(st.integers(1, n)) for n in input_size) for _ in range(batch_size)],
        config={
            "center_threshold": draw(st.sampled_from([-0.5, 0.0, 0.1, 0.5, 9.0])),
            "nms_kernel": draw(st.sampled_from([1, 3, 7])),
            "top_k": draw(st.sampled_from([1, 3, 200])),
            "stuff_area_limit": draw(st.sampled_from([0, 20, 100])),
        },
    )


def build(plan):
    """Raw maps with sizes: exactly 4 times larger by either convention, or any ratio."""
    generator = torch.Generator().manual_seed(plan.seed)
    batch_size = len(plan.content_sizes)
    return SimpleNamespace(
        raw_maps=random_maps(generator, batch_size, plan.num_classes, plan.small, eighths=plan.exact),
        categories=random_table(generator, plan.num_classes),
        config=PostprocessConfig(**plan.config),
        align_corners=plan.align_corners,
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
    else:  # equal up to rounding only, which decides an argmax now and then; test_row_upsampling holds them together
        logits = upsample_rows(
            maps.semantic_logits[0],
            range(case.input_size[0]),
            size=case.input_size,
            width=case.input_size[1],
            align_corners=case.align_corners,
        )
    heatmap = upsample(maps.center_heatmap, case.input_size, align_corners=case.align_corners)[0, 0]
    offset = upsample_offset(maps.offset, case.input_size, align_corners=case.align_corners)[0]
    return (map_[..., :height, :width].numpy() for map_ in (logits, heatmap, offset))


def assert_same(one, other):
    assert np.array_equal(one.panoptic_map, other.panoptic_map)
    assert np.array_equal(one.semantic_map, other.semantic_map)
    assert one.segments_info == other.segments_info


@few_examples
@given(plans())
def test_equals_the_naive_form(plan):
    case = build(plan)
    postprocessor = PanopticPostprocessor(case.categories, case.config, align_corners=case.align_corners)
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
            assert np.isclose(segment.score, row["score"], rtol=1e-4, atol=1e-6)


@settings(few_examples, max_examples=10)
@given(plans(), st.integers(3, 40))
def test_does_not_depend_on_the_block_size(plan, block_rows):
    case = build(plan)

    def run(rows):
        return panoptic_tensors(
            RawMaps(*(map_[:1] for map_ in case.raw_maps)),
            case.input_size,
            case.content_sizes[0],
            thing_mask=torch.from_numpy(case.categories.thing_mask),
            config=case.config,
            align_corners=case.align_corners,
            block_rows=rows,
        )

    whole, blocks = run(10**6), run(block_rows)
    assert torch.equal(whole.panoptic_map, blocks.panoptic_map)
    assert torch.equal(whole.semantic_map, blocks.semantic_map)
    for one, other in zip(whole.table[:4], blocks.table[:4], strict=True):
        assert torch.equal(one, other)
    # the exponential may differ in its last bit between the body and the tail of a vector
    torch.testing.assert_close(whole.table.scores, blocks.table.scores, rtol=0, atol=1e-6)


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
def test_pruned_grouping_equals_the_full_comparison(seed, height, width, num_centers, reach):
    """Few tiles and many, centers near and far; whole numbers make equal distances common."""
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(1, height, width, generator=generator).mul(20).round()
    centers = find_centers(heatmap, threshold=0.0, nms_kernel=3, top_k=num_centers)
    centers = type(centers)(*(field[0] for field in centers))
    target = torch.stack(
        torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    ) + torch.round(reach * torch.randn(2, height, width, generator=generator))
    is_thing = torch.rand(height, width, generator=generator) < 0.6
    pruned, full = _nearest_by_tiles(target, is_thing, centers), _nearest_of_all(target, centers)
    assert torch.equal(pruned[is_thing], full[is_thing])


@few_examples
@given(seeds, st.integers(1, 15), st.integers(1, 15), st.sampled_from([1, 3, 5, 7, 41]), st.integers(1, 30))
def test_centers_equal_the_naive_form(seed, height, width, nms_kernel, top_k):
    """Four values only: plateaus and ties everywhere."""
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.randint(0, 4, (2, height, width), generator=generator) / 4
    centers = find_centers(heatmap, threshold=0.25, nms_kernel=nms_kernel, top_k=top_k)
    for index in range(2):
        expected = naive.find_centers(heatmap[index].numpy(), threshold=0.25, nms_kernel=nms_kernel, top_k=top_k)
        valid = centers.valid[index]
        found = torch.cat([centers.scores[index, :, None], centers.points[index]], dim=1)[valid]
        assert found.tolist() == [list(map(float, row)) for row in expected]


@few_examples
@given(seeds, st.integers(1, 20), st.integers(1, 20))
def test_grouping_equals_the_naive_form_in_float32(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    centers = find_centers(torch.rand(1, height, width, generator=generator), threshold=0.3, nms_kernel=3, top_k=10)
    centers = type(centers)(*(field[0] for field in centers))
    offset = 4 * torch.randn(2, height, width, generator=generator)
    is_thing = torch.rand(height, width, generator=generator) < 0.7
    points = centers.points[centers.valid].numpy()
    expected = naive.group_pixels(offset.numpy(), is_thing.numpy(), points)
    expected[expected == len(points)] = 10  # `K` means none
    for rows in (height, 3):
        found = [
            group_pixels(offset[:, y : y + rows], is_thing[y : y + rows], centers, first_row=y)
            for y in range(0, height, rows)
        ]
        assert np.array_equal(torch.cat(found).numpy(), expected)
