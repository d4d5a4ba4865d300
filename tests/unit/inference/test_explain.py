"""`explain` gives the result of `predict`, and what is missing from it."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.profiling.scenes import draw_raw_maps, make_categories

CATEGORIES = make_categories(7, 3)
PICTURE = np.zeros((129, 193, 3), np.uint8)


def drawn(images: Tensor) -> RawMaps:
    """The maps of a scene for an input of 129 x 193 pixels, whatever the image shows."""
    assert images.shape == (1, 3, 129, 193)
    return draw_raw_maps((33, 49), thing_mask=CATEGORIES.thing_mask, num_centers=9)


def predictor_with(**settings: object) -> PanopticPredictor:
    config = Config(input=InputConfig(), postprocess=replace(PostprocessConfig(stuff_area_limit=0), **settings))
    return PanopticPredictor.from_network(drawn, CATEGORIES, config, device="cpu")


def names_of(result: object) -> set[str]:
    return {segment.name for segment in result.segments_info}


def test_the_result_is_that_of_predict() -> None:
    for settings in ({}, {"stuff_area_limit": 3000, "top_k": 4}):
        predictor = predictor_with(**settings)
        result, _ = predictor.explain(PICTURE)
        expected = predictor.predict(PICTURE)
        assert np.array_equal(result.panoptic_map, expected.panoptic_map)
        assert result.segments_info == expected.segments_info


def test_a_class_that_a_limit_drops_is_named() -> None:
    everything, _ = predictor_with().explain(PICTURE)
    stuff = {segment.name: segment.area for segment in everything.segments_info if not segment.isthing}
    limit = max(stuff.values())
    result, dropped = predictor_with(stuff_area_limit=limit).explain(PICTURE)
    assert {lost.name: lost.area for lost in dropped.small_stuff} == {
        name: area for name, area in stuff.items() if area < limit
    }
    assert names_of(everything) - names_of(result) == {lost.name for lost in dropped.small_stuff} != set()
    assert dropped.settings.stuff_area_limit == limit
    assert dropped.lines()[0].startswith(f"stuff classes below stuff_area_limit {limit}: ")


def test_objects_beyond_top_k_are_counted() -> None:
    everything, _ = predictor_with().explain(PICTURE)
    _, dropped = predictor_with(top_k=1).explain(PICTURE)
    assert dropped.centers_beyond_top_k.count >= len(everything.instances()) - 1 > 1


def test_what_only_the_size_of_the_image_hides_is_named() -> None:
    """A tiny image that is enlarged for the network: its result is smaller than the map of the network's input."""
    predictor = predictor_with()
    predictor.engine.config = replace(predictor.config, input=InputConfig(scale=21.4))
    result, dropped = predictor.explain(PICTURE[:6, :9])
    assert dropped.size == (128, 193)
    assert result.size == (6, 9)
    assert dropped.lost_in_resizing != ()
    assert not {segment.id for segment in dropped.lost_in_resizing} & {segment.id for segment in result.segments_info}


def test_an_ensemble_explains_its_average() -> None:
    member = predictor_with(stuff_area_limit=3000)
    (one, dropped), (other, same) = (
        member.explain(PICTURE),
        PanopticPredictor.ensemble([member, member]).explain(PICTURE),
    )
    assert torch.equal(torch.from_numpy(one.panoptic_map), torch.from_numpy(other.panoptic_map))
    assert dropped.small_stuff == same.small_stuff
