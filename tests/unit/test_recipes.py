"""The packaged recipes are the protocols that they name: the paper's, and those of public implementations."""

import dataclasses
import json
import re
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import panoptic_deeplab
from panoptic_deeplab import cli
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.cli.evaluate import Evaluate
from panoptic_deeplab.config import Config, TestTimeAugmentationConfig, TrainConfig
from panoptic_deeplab.config_io import config_to_dict, load_config, recipe_names
from panoptic_deeplab.model.paper import PAPER_ROWS
from panoptic_deeplab.model.zoo_list import ZooModel, zoo_models

SEVEN_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
FIVE_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)

OF_TABLE_1 = {"+ C_Sem = 256": "cityscapes_xception71"}
OF_TABLE_5 = {
    "Xception-65": "mapillary_xception65",
    "Xception-71": "mapillary_xception71",
    "HRNet-W48": "mapillary_hrnet_w48",
    "HRNet-W48+": "mapillary_hrnet_w48_plus",
    "HRNet-W48+ (Atrous)": "mapillary_hrnet_w48_plus_atrous",
    "HRNet-Wider+": "mapillary_hrnet_wider_plus",
    "HRNet-Wider+ (Atrous)": "mapillary_hrnet_wider_plus_atrous",
    "Auto-DeepLab-L+": "mapillary_auto_deeplab_l_plus",
    "Auto-DeepLab-XL+": "mapillary_auto_deeplab_xl_plus",
    "Auto-DeepLab-XL++": "mapillary_auto_deeplab_xl_plus_plus",
}
OF_TABLE_9 = {
    "Cityscapes, MNV3": "cityscapes_mobilenet_v3",
    "Cityscapes, ResNet-50": "cityscapes_resnet50",
    "Cityscapes, Xception-71": "cityscapes_xception71",
    "Mapillary Vistas, MNV3": "mapillary_mobilenet_v3",
    "Mapillary Vistas, ResNet-50": "mapillary_resnet50",
    "Mapillary Vistas, Xception-71": "mapillary_xception71",
    "COCO, MNV3": "coco_mobilenet_v3",
    "COCO, ResNet-50": "coco_resnet50",
    "COCO, Xception-71 at 641": "coco_xception71_641",
    "COCO, Xception-71 at 1025": "coco_xception71",
}
RECIPE_OF_ROW = {(1, row): recipe for row, recipe in OF_TABLE_1.items()}
RECIPE_OF_ROW |= {(5, row): recipe for row, recipe in OF_TABLE_5.items()}
RECIPE_OF_ROW |= {(9, row): recipe for row, recipe in OF_TABLE_9.items()}
OF_THE_PAPER = sorted(set(RECIPE_OF_ROW.values()))
MULTI_SCALE = {"cityscapes_xception71", "coco_xception71", *OF_TABLE_5.values()}
"""Those for which the paper prints a number with several scales."""

OF_PUBLIC_MODELS = sorted(model.recipe for model in zoo_models().values())

PROTOCOL_OF_DATA_SET: dict[str, dict[str, Any]] = {
    "cityscapes": {
        "data.format": "cityscapes",
        "data.crop_size": (1025, 2049),
        "data.max_scale": 2.0,
        "input.longest_side": None,
        "postprocess.stuff_area_limit": 2048,
        "train.batch_size": 32,
        "train.max_steps": 60_000,
    },
    "mapillary": {
        "data.format": "mapillary_vistas",
        "data.crop_size": (1025, 1025),
        "data.max_scale": 2.0,
        "input.longest_side": 2177,
        "input.pad_to": (2177, 2177),
        "postprocess.stuff_area_limit": 4096,
        "train.batch_size": 64,
        "train.max_steps": 150_000,
    },
    "coco": {
        "data.format": "coco_panoptic",
        "data.max_scale": 1.5,
        "postprocess.stuff_area_limit": 4096,
        "train.batch_size": 64,
        "train.max_steps": 200_000,
    },
}
"""Section 4, "Experimental setup"."""

PROTOCOL: dict[str, Any] = {
    "data.min_scale": 0.5,
    "target.sigma": 8.0,
    "target.small_instance_area": 64 * 64,
    "target.small_instance_weight": 3.0,
    "loss.heatmap_lambda": 200.0,
    "loss.offset_lambda": 0.01,
    "postprocess.center_threshold": 0.1,
    "postprocess.nms_kernel": 7,
    "postprocess.top_k": 200,
    "train.optimizer": "adam",
    "train.learning_rate": 1e-3,
    "train.weight_decay": 0.0,
    "train.poly_power": 0.9,
    "train.warmup_steps": 0,
    "train.batch_norm": "sync",
}


@cache
def config_of(recipe: str) -> Config:
    return load_config(recipe)


def value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def text(recipe: str) -> str:
    return (Path(panoptic_deeplab.__file__).parent / "recipes" / f"{recipe}.yaml").read_text("utf-8")


@pytest.mark.parametrize("recipe", recipe_names())
def test_header_has_what_a_reader_needs_to_judge_the_numbers(recipe: str) -> None:
    header = list(takewhile(lambda line: line.startswith("#"), text(recipe).splitlines()))
    first_words = [line.split()[1] for line in header if len(line.split()) > 1 and not line.startswith("#  ")]
    for word in ("Run", "Hardware", "Expected", "Measured"):
        assert first_words.count(word) == 1, f"the header of {recipe} has no line {word!r}, or several"
    assert f" {'demo' if recipe == 'demo' else f'train {recipe}'}" in "\n".join(header)
    assert max(map(len, text(recipe).splitlines())) <= 120


def test_extra_data_of_tables_2_and_3_is_another_start() -> None:
    config, base = config_of("cityscapes_xception71_from_mapillary"), config_of("cityscapes_xception71")
    assert config.model.weights == "runs/mapillary_xception71/best"  # where `train mapillary_xception71` writes
    assert config.model.reset_heads
    assert dataclasses.replace(config, model=base.model) == base


def test_each_row_of_the_tables_has_a_recipe() -> None:
    rows = {(row.table, row.row) for row in PAPER_ROWS if row.table in (5, 9)}
    assert rows == {key for key in RECIPE_OF_ROW if key[0] in (5, 9)}


@pytest.mark.parametrize("key", RECIPE_OF_ROW, ids=lambda key: f"table {key[0]}, {key[1]}")
def test_network_is_that_of_the_table(key: tuple[int, str]) -> None:
    row = next(row for row in PAPER_ROWS if (row.table, row.row) == key)
    config = config_of(RECIPE_OF_ROW[key])
    assert dataclasses.replace(config.model, backbone_weights=None) == row.model
    assert len(CategoryTable.load(config.data.categories)) == row.num_classes
    if config.data.format != "cityscapes":  # all of its images have one size
        assert config.input.pad_to == row.paper_size
        assert config.input.longest_side == row.paper_size[0]


@pytest.mark.parametrize("recipe", OF_THE_PAPER)
def test_protocol_is_that_of_section_4(recipe: str) -> None:
    config = config_of(recipe)
    expected = PROTOCOL | PROTOCOL_OF_DATA_SET[recipe.partition("_")[0]]
    assert {key: value(config, key) for key in expected} == expected
    assert config.model.image_pool_size == config.data.crop_size
    augmentation = config.test_time_augmentation
    if recipe in MULTI_SCALE:
        assert augmentation.scales == (FIVE_SCALES if recipe.startswith("coco") else SEVEN_SCALES)
        assert augmentation.flip
        assert not augmentation.enabled
    else:
        assert (augmentation.scales, augmentation.flip) == ((1.0,), False)


def test_scales_are_used_with_the_option_in_the_headers(tmp_path: Path) -> None:
    lines = {line for recipe in OF_THE_PAPER for line in text(recipe).splitlines() if "--test-time" in line}
    (options,) = (line.lstrip("# ").split() for line in lines)
    (tmp_path / "config.json").write_text(json.dumps(config_to_dict(config_of("cityscapes_xception71"))))
    for given in ([], options):
        verb = cli._parse(["evaluate", "--model", str(tmp_path), *given])
        assert isinstance(verb, Evaluate)
        assert verb.test_time_augmentation == TestTimeAugmentationConfig(
            enabled=bool(given), scales=SEVEN_SCALES, flip=True
        )


@pytest.mark.parametrize("model", zoo_models().values(), ids=lambda model: model.name)
def test_numbers_of_a_public_implementation_are_those_of_the_zoo(model: ZooModel) -> None:
    """The header and the list say the same of the same weights."""
    header = " ".join(takewhile(lambda line: line.startswith("#"), text(model.recipe).splitlines()))
    assert f"`{model.name}`" in header
    printed = {metric: float(value) / 100 for metric, value in re.findall(r"\b(PQ|SQ|RQ|AP|mIoU) (\d\d\.\d)", header)}
    assert bool(printed) == bool(model.reported)
    assert printed == pytest.approx({metric: model.reported[metric] for metric in printed}, abs=5.1e-4)  # as rounded


@pytest.mark.parametrize(
    ("recipe", "learning_rate", "batch_size", "steps", "warmup"),
    [  # FACTS of each repository's configuration files
        ("cityscapes_bowenc0221_resnet50", 5e-5, 8, 90_000, 0),
        ("cityscapes_bowenc0221_resnet101", 5e-5, 8, 90_000, 0),
        ("cityscapes_bowenc0221_resnext101", 5e-5, 8, 90_000, 0),
        ("cityscapes_bowenc0221_hrnet_w48", 5e-5, 8, 90_000, 0),
        ("cityscapes_bowenc0221_mobilenet_v2", 1e-4, 16, 90_000, 0),
        ("cityscapes_bowenc0221_xception65", 5e-4, 8, 90_000, 0),
        ("cityscapes_detectron2_resnet52", 1e-3, 32, 90_000, 1000),
        ("cityscapes_detectron2_resnet52_dense", 1e-3, 32, 90_000, 1000),
        ("coco_detectron2_resnet52", 5e-4, 64, 200_000, 1000),
        *((f"cityscapes_detectron2_{name}", 1e-3, 32, 90_000, 1000) for name in ("xception65", "hrnet_w48_dense")),
        *((f"coco_detectron2_{name}", 5e-4, 64, 200_000, 1000) for name in ("xception65", "hrnet_w48")),
        ("cityscapes_deeplab2_resnet50", 2.5e-4, 8, 60_000, 0),
        ("cityscapes_deeplab2_resnet50_beta", 2.5e-4, 32, 60_000, 0),
        ("cityscapes_deeplab2_mobilenet_v3_large", 1e-3, 64, 60_000, 500),
        ("cityscapes_deeplab2_mobilenet_v3_small", 1e-3, 64, 60_000, 500),
        *((f"cityscapes_deeplab2_mobilenet_v3_{size}_os32", 4e-4, 64, 30_000, 0) for size in ("small", "large")),
        *((f"coco_deeplab2_{name}", 5e-4, 64, 200_000, 2000) for name in ("resnet50", "resnet50_beta_os16")),
    ],
)
def test_schedule_of_a_public_implementation(
    recipe: str, learning_rate: float, batch_size: int, steps: int, warmup: int
) -> None:
    train: TrainConfig = config_of(recipe).train
    assert (train.learning_rate, train.batch_size, train.max_steps, train.warmup_steps) == (
        learning_rate,
        batch_size,
        steps,
        warmup,
    )
    assert (train.optimizer, train.weight_decay, train.poly_power) == ("adam", 0.0, 0.9)


def test_every_recipe_is_tested_here() -> None:
    own = {"coco27_lite0", "demo", "nuclei_lite0"}  # measured by us; their numbers are in their headers
    further = {"cityscapes_xception71_from_mapillary"}
    assert set(recipe_names()) == {*OF_THE_PAPER, *further, *OF_PUBLIC_MODELS, *own}
