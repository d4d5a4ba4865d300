"""Conversions account for every entry."""

import pytest
import torch
from torch import Tensor

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters import FAMILIES, convert_checkpoint
from panoptic_deeplab.weights.converters.renaming import rename
from panoptic_deeplab.weights.zoo_list import zoo_models

OWN = {"head.0.weight": torch.zeros(2, 3), "head.1.bias": torch.zeros(2), "head.1.num_batches_tracked": torch.tensor(0)}
THEIRS = {
    "top.head.0.weight": torch.ones(2, 3),
    "top.head.1.bias": torch.ones(2),
    "top.head.1.num_batches_tracked": torch.tensor(9),
}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return rename(state, OWN, lambda module: f"top.{module}", where="file.pth")


def test_all_entries() -> None:
    converted = convert(THEIRS)
    assert converted.keys() == OWN.keys()
    assert all(torch.equal(converted[name], THEIRS[f"top.{name}"]) for name in OWN)


def test_missing_counters_are_no_error() -> None:
    converted = convert({name: value for name, value in THEIRS.items() if "tracked" not in name})
    assert int(converted["head.1.num_batches_tracked"]) == 0


def test_every_problem_is_listed() -> None:
    state = {"top.head.0.weight": torch.ones(3, 2), "stranger.a": torch.ones(1), "stranger.b": torch.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        convert(state)
    assert str(caught.value) == (
        "file.pth does not fit the model: 1 missing: top.head.1.bias; 2 unexpected: stranger.a, stranger.b; 1 of"
        " another shape: top.head.0.weight (3, 2) instead of (2, 3). Name the model that the file does hold."
    )
    assert not hasattr(caught.value, "__notes__")


def test_of_many_problems_the_message_has_some_and_the_traceback_all() -> None:
    strangers = [f"stranger.{index}" for index in range(200)]
    with pytest.raises(CheckpointError) as caught:
        convert({**THEIRS, **{name: torch.ones(1) for name in strangers}})
    message = str(caught.value)
    assert "200 unexpected: stranger.0, stranger.1, stranger.2, stranger.3, stranger.4, ...; see them all" in message
    assert "stranger.5" not in message
    (note,) = caught.value.__notes__
    assert note == "200 unexpected:\n    " + "\n    ".join(strangers)


def test_older_detectron2_files_hold_mean_and_deviation() -> None:
    config = zoo_models()["detectron2/R52_os16_dsconv"].config
    with torch.device("meta"):
        model = PanopticDeepLab(config.model, 19)
    pixels = {
        "pixel_mean": torch.tensor([123.675, 116.280, 103.530]).view(3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.120, 57.375]).view(3, 1, 1),
    }

    def unexpected(state: dict[str, Tensor]) -> str:
        with pytest.raises(CheckpointError) as caught:
            FAMILIES["detectron2"].convert(state, model, config, "file.pkl")
        return str(caught.value)

    assert "pixel_mean" not in unexpected(pixels)  # only the weights are missing
    wrong = {**pixels, "pixel_mean": torch.tensor([103.530, 116.280, 123.675]).view(3, 1, 1)}
    assert "was trained with pixel_mean [103.53, 116.28, 123.675]" in unexpected(wrong)


@pytest.mark.parametrize("name", ["bowenc0221/R51", "R50_os32_cityscapes", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(CheckpointError, match="There is no converter"):
        convert_checkpoint("file.pth", name)
