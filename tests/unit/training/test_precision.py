"""`train.precision: auto` becomes what the device has instructions for."""

from dataclasses import replace

import pytest
import torch

from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.training.precision import with_resolved_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")],
)
def test_auto_asks_the_processor(capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    config = replace(Config(), train=TrainConfig(precision="auto"))
    assert with_resolved_precision(config, "cpu").train.precision == expected


def test_an_older_torch_that_does_not_know_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    config = replace(Config(), train=TrainConfig(precision="auto"))
    assert with_resolved_precision(config, "cpu").train.precision == "float32"


def test_what_was_chosen_stays() -> None:
    config = replace(Config(), train=TrainConfig(precision="bfloat16"))
    assert with_resolved_precision(config, "cpu") is config
