import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.loader import Batch
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.maps import RawMaps, Targets
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.training.ema import ExponentialMovingAverage
from panoptic_deeplab.training.losses import PanopticDeepLabLoss
from panoptic_deeplab.training.optimizer import build_optimizer
from panoptic_deeplab.training.state import TrainingState
from panoptic_deeplab.training.step import (
    accumulate_gradients,
    batch_to_device,
    optimization_step,
    set_training_mode,
    step_seed,
)

NUM_CLASSES = 5


def _batch(num_images: int = 4) -> Batch:
    size = (num_images, 33, 65)
    semantic = torch.randint(0, NUM_CLASSES, size, dtype=torch.uint8)
    semantic[0] = 255  # an image without a label, so that the parts of the batch have unequal normalizers
    semantic[1, :20] = 255
    targets = Targets(
        semantic=semantic,
        center_heatmap=torch.rand(size),
        offset=10 * torch.randn(num_images, 2, 33, 65),
        semantic_weight=1.0 + 2 * torch.randint(0, 2, size),
        center_weight=torch.rand(size).round(),
        offset_weight=(torch.rand(size) * torch.tensor([0.0, 0.6, 1.0, 1.5])[:num_images, None, None]).round(),
    )
    return Batch(images=torch.randn(num_images, 3, 33, 65), targets=targets, image_ids=[*"abcd"[:num_images]])


def _train(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=4, **changes))


def _model(config: Config) -> PanopticDeepLab:
    torch.manual_seed(3)
    return PanopticDeepLab(config.model, NUM_CLASSES)


def _loss(config: Config) -> PanopticDeepLabLoss:
    return PanopticDeepLabLoss(config.loss, align_corners=config.model.align_corners)


def _gradients(config: Config) -> tuple[Tensor, list[Tensor]]:
    model = _model(config).eval()  # batch normalization by stored statistics: images do not see each other
    torch.manual_seed(4)
    terms = accumulate_gradients(model, _loss(config), _batch(), config=config.train, process=Process())
    return torch.stack(terms), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("images_at_once", "expected_passes"), [(2, [2, 2]), (1, [1] * 4), (3, [2, 2]), (9, [4])])
def test_few_images_at_once_give_loss_and_gradient_of_the_whole_batch(
    tiny_config: Config, images_at_once: int, expected_passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_terms, whole = _gradients(_train(tiny_config))
    passes = []
    forward = PanopticDeepLab.forward

    def count(self: PanopticDeepLab, images: Tensor) -> RawMaps:
        passes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(PanopticDeepLab, "forward", count)
    split_terms, split = _gradients(_train(tiny_config, images_at_once=images_at_once))
    assert passes == expected_passes
    torch.testing.assert_close(split_terms, whole_terms)
    assert len(whole) == len(split) > 0
    for expected, actual in zip(whole, split, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_bfloat16_gives_nearly_the_gradient_of_float32(tiny_config: Config) -> None:
    whole_terms, whole = _gradients(_train(tiny_config))
    terms, gradients = _gradients(_train(tiny_config, precision="bfloat16"))
    assert {g.dtype for g in gradients} == {torch.float32}
    assert not torch.equal(terms, whole_terms)
    torch.testing.assert_close(terms, whole_terms, rtol=0.02, atol=0.01)
    exact, rounded = (torch.cat([g.flatten() for g in group]) for group in (whole, gradients))
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > 0.99


def _norm_names(model: PanopticDeepLab) -> set[str]:
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for name in module.state_dict()
    }


def _changed_by_a_step(config: Config) -> tuple[set[str], set[str]]:
    """Names of the weights that a step changes, and of all weights of batch normalization."""
    model = _model(config)
    set_training_mode(model, config.train)
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimization_step(model, _loss(config), state, _batch(), config=config.train, process=Process())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    return changed, _norm_names(model)


def test_frozen_batch_norm_of_the_backbone_stays_while_the_rest_learns(tiny_config: Config) -> None:
    changed, norms = _changed_by_a_step(_train(tiny_config, batch_norm="frozen_backbone"))
    of_backbone = {name for name in norms if name.startswith("backbone.")}
    assert of_backbone
    assert not of_backbone & changed
    assert any(name.startswith("backbone.") for name in changed)
    assert any("running_mean" in name for name in changed)  # of decoders and heads
    assert any(name.endswith("weight") for name in (norms - of_backbone) & changed)


def test_frozen_batch_norm_stays_everywhere_while_the_rest_learns(tiny_config: Config) -> None:
    changed, norms = _changed_by_a_step(_train(tiny_config, batch_norm="frozen"))
    assert any(not name.startswith("backbone.") for name in norms)
    assert not norms & changed
    assert any(name.startswith("backbone.") for name in changed)
    assert any(name.startswith("semantic_head.") for name in changed)


def test_a_backbone_without_learning_rate_stays_as_it_is(tiny_config: Config) -> None:
    config = _train(tiny_config, batch_norm="frozen_backbone", backbone_learning_rate_factor=0.0)
    changed, _ = _changed_by_a_step(config)
    assert not any(name.startswith("backbone.") for name in changed)
    assert any(name.startswith("semantic_head.") for name in changed)
    model = _model(config)
    set_training_mode(model, config.train)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_batch_norm_of_the_backbone_learns_otherwise(tiny_config: Config) -> None:
    """Scale and shift by their gradients (at first, those that no residual branch of factor 0 cuts off), statistics by
    the batch."""
    changed, norms = _changed_by_a_step(_train(tiny_config))
    of_backbone = {name for name in norms if name.startswith("backbone.")}
    assert {name for name in of_backbone if "running" in name} <= changed
    assert {name.rpartition(".")[2] for name in of_backbone & changed} >= {"weight", "bias", "running_mean"}


def test_step_is_a_function_of_state_and_batch_even_with_dropout(tiny_config: Config) -> None:
    config = dataclasses.replace(
        _train(tiny_config, ema_decay=0.9), model=dataclasses.replace(tiny_config.model, aspp_dropout=0.5)
    )
    batch = _batch()
    outcomes = []
    for _ in range(2):
        torch.rand(17)  # whatever happened to the global generator before does not matter
        model = _model(config)
        ema = ExponentialMovingAverage(model, decay=0.9)
        state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=ema, step=3)
        torch.rand(len(outcomes))
        optimization_step(model, _loss(config), state, batch, config=config.train, process=Process())
        assert state.step == 4
        outcomes.append({**model.state_dict(), **{f"ema.{k}": v for k, v in ema.model.state_dict().items()}})
    assert all(torch.equal(value, outcomes[1][name]) for name, value in outcomes[0].items())


def test_clipping_limits_the_gradient(tiny_config: Config) -> None:
    """With SGD from rest, a step is learning rate times gradient, so its length shows the limit."""
    config = _train(tiny_config, optimizer="sgd", learning_rate=1.0, clip_gradient_norm=0.5)
    model = _model(config)
    state = TrainingState(model=model, optimizer=build_optimizer(model, config.train), ema=None)
    before = [p.detach().clone() for p in model.parameters()]
    optimization_step(model, _loss(config), state, _batch(), config=config.train, process=Process())
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-3)


def test_seeds_of_steps_and_processes_differ() -> None:
    seeds = [step_seed(seed, step, rank) for seed in (0, 1) for step in range(100) for rank in range(8)]
    assert len(set(seeds)) == len(seeds)
    torch.manual_seed(step_seed(2**62, 10**9, 4095))  # within torch's limits


def test_batch_keeps_values_in_the_other_memory_format() -> None:
    batch = _batch()
    moved = batch_to_device(batch, device="cpu", channels_last=True)
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.images, batch.images)
    assert moved.image_ids == batch.image_ids


class DoubleWatcher(TorchDispatchMode):
    """Counts the results in float64, which Apple's GPUs lack."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        outcome = operator(*arguments, **(keywords or {}))
        for value in outcome if isinstance(outcome, (list, tuple)) else (outcome,):
            self.count += isinstance(value, Tensor) and value.dtype == torch.float64
        return outcome


def test_float64_is_why_apples_gpus_are_not_offered(tiny_config: Config) -> None:
    """Where this fails, the sentence of `resolve_device` has lost a reason."""
    config = _train(tiny_config)
    model = _model(config)
    with DoubleWatcher() as watcher:
        accumulate_gradients(model, _loss(config), _batch(), config=config.train, process=Process())
    assert watcher.count > 0
