"""Validations during training."""

from dataclasses import replace

import pytest

from panoptic_deeplab.config import TestTimeAugmentationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.validation import validate


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
