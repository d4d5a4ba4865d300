"""Validations during training."""

from dataclasses import replace

import pytest
import torch

from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.checkpoints.model_card import training_card
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.validation import validate
from panoptic_deeplab.weights.folder import save_pretrained


@pytest.mark.parametrize("instance_branch", [True, False])
def test_images_are_predicted_at_one_scale_whatever_the_recipe_asks_for_at_the_end(
    tmp_path, tiny_config, instance_branch
):
    augmentation = TestTimeAugmentationConfig(scales=(0.5, 1.0), flip=True)
    config = replace(
        tiny_config,
        model=replace(tiny_config.model, instance_branch=instance_branch),
        evaluation=replace(tiny_config.evaluation, metric="mIoU", num_pictures=0),
        test_time_augmentation=augmentation,
    )
    source = SyntheticSource(2, seed=1, size=(48, 64))
    model = PanopticDeepLab(config.model, len(source.categories))
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=None)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    done = []
    validation = validate(
        state, source, config=config, run_folder=tmp_path, process=Process(), on_image=lambda *n: done.append(n)
    )
    assert done == [(1, 2), (2, 2)]
    assert len(calls) == 2
    assert 0 <= validation.metrics["mIoU"] <= 1


def test_a_checkpoint_has_one_quality_whatever_the_training_computes_in(tmp_path, tiny_config):
    """`evaluate` computes in float32 unless told otherwise."""
    config = replace(tiny_config, train=replace(tiny_config.train, precision="bfloat16"))
    source = SyntheticSource(2, seed=1, size=(48, 64))
    model = PanopticDeepLab(config.model, len(source.categories))
    torch.nn.init.normal_(model.semantic_head.predict.weight)
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=None)
    types = []
    model.register_forward_hook(lambda _, __, maps: types.append(maps.semantic_logits.dtype))
    found = validate(state, source, config=config, run_folder=tmp_path, process=Process(), on_image=lambda *_: None)
    assert types == [torch.float32] * 2
    assert found.report.provenance["precision"] == "float32"
    save_pretrained(tmp_path / "best", model, config=config, categories=source.categories)
    predictor = PanopticPredictor.from_pretrained(tmp_path / "best", device="cpu")
    again = evaluate(predictor, source, config=config.evaluation).values()
    assert {name: again[name] for name in found.metrics} == pytest.approx(found.metrics)
    assert found.metrics["mIoU"] > 0
    card = training_card(config, source.categories, step=1, metrics=found.metrics)
    assert "in float32, at one scale, by" in card
