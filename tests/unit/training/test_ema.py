import torch
from torch import nn

from panoptic_deeplab.training.ema import ExponentialMovingAverage


def _set(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.fill_(value)


def test_average_follows_the_formula_in_weights_and_statistics() -> None:
    model = nn.BatchNorm2d(2)
    _set(model, 1.0)
    ema = ExponentialMovingAverage(model, decay=0.5)
    expected = 1.0
    for step, value in ((100, 3.0), (101, 7.0)):  # late steps: the decay is no longer limited
        _set(model, value)
        ema.update(model, step)
        expected = 0.5 * expected + 0.5 * value
    for tensor in (ema.model.weight, ema.model.running_mean, ema.model.running_var):
        torch.testing.assert_close(tensor, torch.full((2,), expected))


def test_integers_are_copied() -> None:
    model = nn.BatchNorm2d(2)
    ema = ExponentialMovingAverage(model, decay=0.5)
    model.num_batches_tracked.fill_(7)
    ema.update(model, 100)
    assert int(ema.model.num_batches_tracked) == 7


def test_early_updates_forget_faster() -> None:
    model = nn.Linear(1, 1, bias=False)
    _set(model, 0.0)
    ema = ExponentialMovingAverage(model, decay=0.999)
    _set(model, 1.0)
    ema.update(model, 1)
    torch.testing.assert_close(ema.model.weight, torch.tensor([[1 - 2 / 11]]))


def test_averaged_model_is_separate_and_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    ema = ExponentialMovingAverage(model, decay=0.9)
    _set(model, 5.0)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert not torch.equal(ema.model[0].weight, model[0].weight)
    assert list(ema.model.state_dict()) == list(model.state_dict())
