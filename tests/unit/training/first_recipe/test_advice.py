"""What follows from sizes, by hand, and that advice repeats what the measured recipes say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.config import Config, InputConfig
from panoptic_deeplab.config.io import config_from_dict, load_config
from panoptic_deeplab.data.object_sizes import Measures, measured
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.training.first_recipe.advice import (
    crop_advice,
    input_advice,
    joining_advice,
    nested,
    object_advice,
    objections,
    range_advice,
    setting_of,
    training_advice,
)


def of_objects(size: float, *, images: int = 4, count: int = 10, side: int = 1000, apart: float = 50) -> Measures:
    return Measures(
        image_sizes=[(side, side)] * images,
        object_sizes=[np.full(count, float(size))] * images,
        distances=[np.full(count, float(apart))] * images,
        stuff_areas=[[100, 400_000]] * images,
        most_of_a_class=count,
    )


def test_by_hand() -> None:
    measures = of_objects(72)
    (advice,) = input_advice(measures)
    assert (advice.setting, advice.value) == ("input.longest_side", 513)  # half, in steps of 64, plus 1
    input_config = InputConfig(longest_side=500)
    found = {item.setting: item.value for item in object_advice(measures, input_config)}
    assert found == {
        "postprocess.stuff_area_limit": 32,  # 15 % have less than 25 pixels
        "target.sigma": 6,
        "target.small_instance_area": 36**2,
        "postprocess.nms_kernel": 7,  # a fifth of 36
        "postprocess.top_k": 200,
        "evaluation.max_detections": 100,
    }
    assert crop_advice(measures, input_config).value == [321, 321]  # 0.6 of the image, or more
    assert crop_advice(measures, InputConfig(longest_side=900)).value == [513, 513]
    assert crop_advice(measures, InputConfig(longest_side=900), largest=321).value == [321, 321]
    assert crop_advice(of_objects(72, side=200), InputConfig()).value == [193, 193]


def test_pieces_are_joined_where_no_objects_lie_against_each_other() -> None:
    apart, close = of_objects(72), of_objects(72)
    assert joining_advice(apart) == []  # nothing is known of borders
    apart.border_fractions = [np.array([0.1] * 99 + [0.2])] * 4
    close.border_fractions = [np.array([0.1] * 9 + [0.2])] * 4
    assert [item.value for item in joining_advice(apart)] == [0.15]
    assert joining_advice(close) == []
    joining = config_from_dict(nested([*object_advice(close, InputConfig()), *joining_advice(apart)]), where="test")
    assert objections(apart, joining) == []
    ((value, objection),) = objections(close, joining)
    assert (value, objection.setting, objection.value) == (0.15, "postprocess.join_border_fraction", None)
    assert objection.reason.startswith("10% of the objects")


def test_crowded_images_need_small_windows_and_high_limits() -> None:
    found = {i.setting: i.value for i in object_advice(of_objects(100, count=430, apart=3), InputConfig())}
    assert found["postprocess.nms_kernel"] == 7
    assert (found["postprocess.top_k"], found["evaluation.max_detections"]) == (900, 900)


def test_small_objects_are_enlarged() -> None:
    (advice,) = input_advice(of_objects(12, side=256))
    assert (advice.setting, advice.value) == ("input.longest_side", 769)


def test_a_set_without_things_gets_no_advice_about_them() -> None:
    measures = Measures(image_sizes=[(100, 100)], object_sizes=[np.zeros(0)], distances=[np.zeros(0)])
    measures.stuff_areas = [[9000, 1000]]
    assert [item.setting for item in input_advice(measures)] == ["input.longest_side"]
    assert [item.setting for item in object_advice(measures, InputConfig())] == ["postprocess.stuff_area_limit"]
    assert objections(Measures(), Config()) == []


def test_objections_name_what_is_far_off() -> None:
    """The case of 15-pixel objects on 256-pixel images with the paper's defaults."""
    measures = of_objects(15, side=256, apart=20)
    found = {item.setting: (value, item.value) for value, item in objections(measures, Config())}
    assert found["target.sigma"] == (8.0, 2.0)
    assert found["postprocess.stuff_area_limit"] == (2048, 128)
    assert found["input.longest_side"] == (None, 641)
    assert "postprocess.top_k" not in found
    better = config_from_dict(nested(input_advice(measures)))
    better = config_from_dict(nested([*input_advice(measures), *object_advice(measures, better.input)]))
    assert objections(measures, better) == []


def test_few_images_keep_the_backbone() -> None:
    few = {
        item.setting: item.value for item in training_advice(of_objects(30, images=50), num_images=50, num_classes=9)
    }
    many = {
        item.setting: item.value for item in training_advice(of_objects(30, images=50), num_images=300, num_classes=2)
    }
    assert few["train.batch_norm"] == "frozen_backbone"
    assert "train.batch_norm" not in many  # however few of them were measured
    assert many["target.small_instance_weight"] == 1


@pytest.mark.parametrize(
    ("recipe", "folder"), [("nuclei_lite0", "dsb2018_nuclei"), ("coco27_lite0", "coco128_panoptic")]
)
def test_measured_recipes_agree(shared_folder: Path, recipe: str, folder: str) -> None:
    """Their values were found by trying; advice finds them within a factor of 2, from the images of `dev`.

    The window of `coco27_lite0` is wider, on purpose: it is there for the large objects.
    """
    config = load_config(recipe, {"data.root": str(shared_folder / "data" / folder)})
    measures = measured(open_source(config.data, "dev"))
    assert {advice.setting for _, advice in objections(measures, config)} <= {"postprocess.nms_kernel"}
    (size,) = input_advice(measures)
    value = getattr(config.input, size.setting.removeprefix("input."))
    assert 2 / 3 < size.value / value < 3 / 2
    crop = crop_advice(measures, config.input).value
    assert 2 / 3 < crop[0] / config.data.crop_size[0] < 3 / 2
    assert replace(config.data, rotate90=measures.has_no_up()) == config.data


def test_advice_is_about_settings_that_exist() -> None:
    measures = of_objects(30)
    for item in (*training_advice(measures, num_images=300, num_classes=2), *object_advice(measures, InputConfig())):
        setting_of(Config(), item.setting)


def with_images(*images: np.ndarray) -> Measures:
    measures = of_objects(36)
    for image in images:
        measures.levels.add(image)
    return measures


def test_black_and_white_of_the_set_where_the_type_does_not_say_them() -> None:
    image = np.linspace(100, 3000, 1200).reshape(20, 20, 3)
    assert range_advice(with_images((image / 3000 * 255).astype(np.uint8))) == []
    (advice,) = range_advice(with_images(image.astype(np.uint16), (image * 1.2).astype(np.uint16)))
    low, high = advice.value
    assert (advice.setting, 100 <= low < 110, 3550 < high <= 3600) == ("input.range", True, True)
    config = config_from_dict(nested([advice]))
    assert config.input.range == (low, high)
    (advice,) = range_advice(with_images(image.astype(np.uint16), (image / 10).astype(np.uint16)))
    assert advice.value == "percentile"
    assert "the contrast of dark ones" in advice.reason
