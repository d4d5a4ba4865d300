"""Does it learn? The losses of the first steps are what they always were, and four images can be learned by heart."""

import dataclasses

import pytest
import torch

from panoptic_deeplab.config import Config, InputConfig, LossConfig, PostprocessConfig, TargetConfig, TrainConfig
from panoptic_deeplab.data.loader import training_batches
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.losses import PanopticDeepLabLoss
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.step import optimization_step

FIRST_LOSSES = [
    [4.431293, 6.794192, 0.08783732],
    [5.012249, 21.92242, 0.05224616],
    [5.193261, 15.43300, 0.07153078],
]
"""Semantic, center and offset loss of the first three steps of `tiny_config`. They change with the synthetic scenes,
the augmentation, the initialization, the network and the losses: when one of these is changed on purpose, and only
then, replace them by what the failing test says it got."""


def _train(config: Config, *, num_steps: int, one_batch: bool = False) -> tuple[PanopticDeepLab, list[list[float]]]:
    """The model, and the semantic, center and offset loss of each step."""
    source = open_source(config.data, config.data.train_split)
    torch.manual_seed(config.train.seed)
    model = PanopticDeepLab(config.model, source.categories.num_classes)
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=None)
    loss = PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)
    batches = training_batches(source, config, rank=0, world_size=1)
    batch = next(batches)
    losses = []
    for step in range(num_steps):
        if step > 0 and not one_batch:
            batch = next(batches)
        terms = optimization_step(model, loss, state, batch, config=config.train, process=Process())
        losses.append([float(terms.semantic), float(terms.center), float(terms.offset)])
    return model, losses


def test_first_losses_are_the_stored_ones(tiny_config: Config) -> None:
    _, losses = _train(tiny_config, num_steps=3)
    for expected, actual in zip(FIRST_LOSSES, losses, strict=True):
        assert actual == pytest.approx(expected, rel=1e-3), f"all losses: {losses}"


def test_four_images_are_learned_by_heart(tiny_config: Config) -> None:
    config = dataclasses.replace(
        tiny_config,
        # Whole images of 64 x 128 pixels, without augmentation: the four that are predicted afterwards.
        data=dataclasses.replace(tiny_config.data, min_scale=1.0, max_scale=1.0, flip_probability=0.0),
        input=InputConfig(scale=0.5),
        model=dataclasses.replace(
            tiny_config.model,
            projections=(32, 32),
            instance_projections=(32, 32),
            decoder_channels=32,
            instance_decoder_channels=32,
            head_channels=32,
            instance_head_channels=32,
        ),
        target=TargetConfig(sigma=4.0),
        loss=LossConfig(top_k_fraction=1.0),
        postprocess=PostprocessConfig(nms_kernel=5, stuff_area_limit=0),
        train=TrainConfig(max_steps=70, batch_size=4, learning_rate=1e-2),
    )
    model, losses = _train(config, num_steps=70, one_batch=True)
    source = open_source(config.data, config.data.train_split)
    report = evaluate(
        PanopticPredictor.from_network(model, source.categories, config), source, config=config.evaluation
    )
    assert sum(losses[-1]) < sum(losses[0]) / 10
    assert losses[-1][2] < losses[0][2] / 3
    assert report.metric("PQ") > 0.3
    assert report.metric("PQ_stuff") > 0.6
