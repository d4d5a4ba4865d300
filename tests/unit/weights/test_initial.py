"""Fine-tuning starts from exactly the weights that were asked for, or says why not."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import CompatConfig, Config, InputConfig, ModelConfig
from panoptic_deeplab.errors import CheckpointError, ConfigError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained
from panoptic_deeplab.weights.initial import load_initial_weights

CONFIG = Config(model=ModelConfig(backbone="test_efficientnet", aspp_channels=8, instance_aspp_channels=8))


def table(name: str, *classes: str, things: tuple[str, ...] = ("car",)) -> CategoryTable:
    categories = (
        Category(id=10 + i, name=class_, isthing=class_ in things, color=(i, 0, 0)) for i, class_ in enumerate(classes)
    )
    return CategoryTable(name=name, categories=tuple(categories))


STREET = table("street", "road", "car")


@pytest.fixture
def trained(tmp_path: Path) -> PanopticDeepLab:
    model = PanopticDeepLab(CONFIG.model, 2)
    save_pretrained(tmp_path / "best", model, config=CONFIG, categories=STREET)
    return model


def start(folder: Path, categories: CategoryTable, *, config: Config = CONFIG, reset: bool = False) -> PanopticDeepLab:
    config = replace(config, model=replace(config.model, weights=str(folder / "best"), reset_heads=reset))
    model = PanopticDeepLab(config.model, categories.num_classes)
    load_initial_weights(model, config, categories)
    return model


def test_same_classes_take_every_weight(
    trained: PanopticDeepLab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own_ids = CategoryTable(name="mine", categories=tuple(replace(c, id=c.id + 50) for c in STREET.categories))
    state = start(tmp_path, own_ids).state_dict()
    assert all(torch.equal(state[name], value) for name, value in trained.state_dict().items())
    assert "Starting from the weights of" in caplog.text
    assert "other settings" not in caplog.text


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (table("mine", "road", "car", "tree"), r"the checkpoint has 2 classes \(street\), the dataset has 3 \(mine\)"),
        (table("mine", "road", "bus"), r"class 1 of the checkpoint \(street\) is 'car' \(thing\), of the dataset"),
        (table("mine", "road", "car", things=()), r"is 'car' \(thing\), of the dataset \(mine\) 'car' \(stuff\)"),
    ],
    ids=["number", "names", "things"],
)
def test_other_classes_need_the_option(
    trained: PanopticDeepLab, tmp_path: Path, categories: CategoryTable, message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"{message}.*Pass --model\.reset-heads to fine-tune\."):
        start(tmp_path, categories)


def test_the_option_resets_the_last_layer_only(
    trained: PanopticDeepLab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    state = start(tmp_path, table("mine", "road", "car", "tree"), reset=True).state_dict()
    last = {"semantic_head.predict.weight", "semantic_head.predict.bias"}
    before = trained.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items() if name not in last)
    assert state["semantic_head.predict.weight"].shape[0] == 3
    assert "2 classes, street" in caplog.text
    assert "at random, with 3 classes (mine)" in caplog.text


def test_the_option_resets_equal_classes_too(trained: PanopticDeepLab, tmp_path: Path) -> None:
    weight = start(tmp_path, STREET, reset=True).state_dict()["semantic_head.predict.weight"]
    assert not torch.equal(weight, trained.state_dict()["semantic_head.predict.weight"])


def test_another_network_is_an_error(trained: PanopticDeepLab, tmp_path: Path) -> None:
    other = replace(CONFIG, model=replace(CONFIG.model, aspp_channels=16))
    with pytest.raises(CheckpointError, match="of another shape"):
        start(tmp_path, STREET, config=other)


def test_settings_that_no_shape_shows_are_named(
    trained: PanopticDeepLab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(
        CONFIG,
        model=replace(CONFIG.model, align_corners=False, aspp_dropout=0.5, compat=CompatConfig(norm_eps=1e-3)),
        input=InputConfig(pixel_mean=(0.5, 0.5, 0.5), longest_side=640),
    )
    start(tmp_path, STREET, config=other)
    assert "model.align_corners True before, False now" in caplog.text
    assert "input.pixel_mean (0.485, 0.456, 0.406) before, (0.5, 0.5, 0.5) now" in caplog.text
    assert "model.compat.norm_eps 1e-05 before, 0.001 now" in caplog.text
    assert "concat_order" not in caplog.text
    assert "aspp_dropout" not in caplog.text
    assert "longest_side" not in caplog.text


def test_nothing_to_reset() -> None:
    with pytest.raises(ConfigError, match=r"`model\.reset_heads` must be false when model\.weights is null"):
        ModelConfig(reset_heads=True)
