"""What a file gives is held against what it says of itself, before anything is made of it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.exported.model_file import Kind, ModelFileInfo
from panoptic_deeplab.inference.exported.runtimes import ExportedNetwork, ExportedPipeline

PATH = Path("street.onnx")
CATEGORIES = CategoryTable.load("synthetic")
OTHER = r"street\.onnx gives other outputs than its description says"


def info(config: Config, kind: Kind) -> ModelFileInfo:
    return ModelFileInfo(kind=kind, config=config, categories=CATEGORIES, version="0", commit=None)


@pytest.mark.parametrize(
    "shapes",
    [
        [],
        [(1, 10, 2, 2)],
        [(1, 10, 2, 2), (1, 1, 2, 2), (1, 1, 2, 2)],
        [(1, 10, 2, 2), (1, 1, 3, 3), (1, 2, 3, 3)],
        [(2, 10, 2, 2), (2, 1, 2, 2), (2, 2, 2, 2)],
        [(10,), (1,), (2,)],
    ],
)
def test_other_maps(tiny_config: Config, shapes: list[tuple[int, ...]]) -> None:
    network = ExportedNetwork(PATH, info(tiny_config, "network"), lambda images: [torch.zeros(s) for s in shapes])
    with pytest.raises(CheckpointError, match=OTHER):
        network(torch.zeros(1, 3, 8, 8))


def table(*, count: int = 1, id_: int = 1, category: int | None = None, side: int = 8, value: int = 1) -> list[Tensor]:
    category = CATEGORIES.categories[0].id if category is None else category
    maps = [torch.full((1, side, side), value, dtype=torch.int32), torch.zeros(1, side, side, dtype=torch.uint8)]
    row = [torch.full((1, 3), number, dtype=torch.int32) for number in (id_, category)]
    numbers = [torch.ones(1, 3), torch.ones(1, 3, dtype=torch.int32), torch.ones(1, 3, 4, dtype=torch.int32)]
    return [*maps, *row, *numbers, torch.tensor([count], dtype=torch.int32)]


@pytest.mark.parametrize(
    "outputs",
    [
        table(category=9999),
        table(count=2),
        table(count=-1),
        table(count=500),
        table(side=5),
        table(id_=7),
        table(value=7),
        table(value=-7),
        table()[:3],
        table()[::-1],
    ],
)
def test_other_tables(tiny_config: Config, outputs: list[Tensor]) -> None:
    assert ExportedPipeline(PATH, info(tiny_config, "panoptic"), lambda images: table())(
        torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    )
    pipeline = ExportedPipeline(PATH, info(tiny_config, "panoptic"), lambda images: outputs)
    with pytest.raises(CheckpointError, match=OTHER):
        pipeline(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def test_what_a_runtime_says_is_one_error(tiny_config: Config) -> None:
    def run(images: Tensor) -> list[Tensor]:
        raise RuntimeError("INVALID_ARGUMENT: Unexpected input data type")

    network = ExportedNetwork(PATH, info(tiny_config, "network"), run)
    with pytest.raises(CheckpointError, match=r"street\.onnx cannot be run .*Unexpected input data type"):
        network(torch.zeros(1, 3, 8, 8))
