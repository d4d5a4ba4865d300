import re
import time

import pytest
import torch

from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import TrainingError
from panoptic_deeplab.training.losses import LossTerms
from panoptic_deeplab.training.meter import Meter


def _terms(semantic: float, center: float, offset: float) -> LossTerms:
    values = (semantic + center + offset, semantic, center, offset)
    return LossTerms(*(torch.tensor(v) for v in values))


def test_summary_is_the_mean_over_steps() -> None:
    meter = Meter(Process(), batch_size=4)
    meter.add(1, _terms(1.0, 2.0, 3.0), ["a"])
    meter.check()
    meter.add(2, _terms(3.0, 2.0, 1.0), ["b"])
    meter.check()
    summary = meter.summary()
    assert {name: summary[name] for name in ("loss", "loss_semantic", "loss_center", "loss_offset")} == {
        "loss": 6.0,
        "loss_semantic": 2.0,
        "loss_center": 2.0,
        "loss_offset": 2.0,
    }


def test_restart_forgets() -> None:
    meter = Meter(Process(), batch_size=4)
    meter.add(1, _terms(100.0, 0.0, 0.0), ["a"])
    meter.check()
    meter.restart()
    meter.add(2, _terms(1.0, 0.0, 0.0), ["a"])
    meter.check()
    assert meter.summary()["loss"] == 1.0


def test_waiting_for_data_is_a_share_of_the_time() -> None:
    meter = Meter(Process(), batch_size=4)
    with meter.waiting_for_data():
        time.sleep(0.05)
    time.sleep(0.05)
    meter.add(1, _terms(1.0, 1.0, 1.0), ["a"])
    meter.check()
    summary = meter.summary()
    assert 0.1 < summary["data_wait_share"] < 0.9
    assert 0 < summary["images_per_second"] < 4 / 0.1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_term_step_and_images(bad: float) -> None:
    meter = Meter(Process(), batch_size=2)
    meter.add(6, _terms(1.0, 1.0, 1.0), ["good"])
    meter.add(7, _terms(1.0, bad, 1.0), ["street_1", "street_2"])
    meter.add(8, _terms(bad, bad, bad), ["later"])
    with pytest.raises(TrainingError, match=re.escape("The center loss of step 7 is not finite")) as caught:
        meter.check()
    assert "street_1, street_2" in str(caught.value)
    assert "later" not in str(caught.value)
    assert "train.learning_rate" in str(caught.value)
