"""Drawn scenes have what they say."""

import numpy as np
import pytest
import torch
from torch import nn

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.profiling.scenes import DrawnMaps, draw_labels, draw_raw_maps, make_categories, shifted
from panoptic_deeplab.results.places import check_consistency

CATEGORIES = make_categories(6, 2)


@pytest.mark.parametrize(("share", "centers"), [(0.4, 12), (1.0, 9), (0.0, 5)])
def test_post_processing_finds_the_instances(share, centers):
    maps = draw_raw_maps((65, 97), thing_mask=CATEGORIES.thing_mask, num_centers=centers, thing_share=share)
    (result,) = PanopticPostprocessor(CATEGORIES, PostprocessConfig(), align_corners=True)(maps, (257, 385))
    assert len(result.instances()) == (centers if share else 0)
    assert np.isin(result.semantic_map, np.flatnonzero(CATEGORIES.thing_mask)).mean() == pytest.approx(share, abs=0.02)


def test_same_seed_same_scene():
    one, same, other = (
        draw_raw_maps((17, 33), thing_mask=CATEGORIES.thing_mask, num_centers=4, seed=seed) for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.offset, other.offset)


def test_classes_of_one_kind():
    for num_things in (0, 3):
        maps = draw_raw_maps((17, 33), thing_mask=make_categories(3, num_things).thing_mask, num_centers=4)
        assert maps.semantic_logits.shape == (1, 3, 17, 33)
        assert torch.isfinite(maps.semantic_logits).all()
        assert (maps.center_heatmap.max() > 0.5) == (num_things > 0)


@pytest.mark.parametrize("instances", [True, False])
def test_a_network_answers_with_a_scene(instances):
    class Network(nn.Module):
        def forward(self, images):
            shape = (len(images), -1, 9, 17)
            maps = [torch.zeros(1, n, 1, 1, dtype=torch.bfloat16).expand(*shape).clone() for n in (6, 1, 2)]
            return RawMaps(*maps) if instances else RawMaps(maps[0], None, None)

    drawn = DrawnMaps(Network(), CATEGORIES.thing_mask)
    maps = drawn(torch.zeros(2, 3, 33, 65))
    assert maps.semantic_logits.shape == (2, 6, 9, 17)
    assert maps.semantic_logits.dtype == torch.bfloat16
    assert maps.semantic_logits.max() == 8
    assert (maps.offset is not None) == instances
    assert drawn(torch.zeros(2, 3, 33, 65)) is maps


def test_labels_are_consistent():
    truth = draw_labels((60, 90), CATEGORIES, num_instances=8)
    check_consistency(truth.panoptic_map, [s.id for s in truth.segments_info], where="scene")
    assert sum(s.isthing for s in truth.segments_info) > 1
    assert shifted(truth, 3).panoptic_map[0, 3] == truth.panoptic_map[0, 0]
