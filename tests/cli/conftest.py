"""A saved (random) model, a small data set on disk, and the command line in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.cli import main
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import save_config
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one command in this process; what it wrote and its exit code."""

    def run_command(*arguments: object) -> Outcome:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_command


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    save_pretrained(folder, model, config=tiny_config, categories=categories)
    return folder


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_config: Config) -> Path:
    path = tmp_path / "tiny.yaml"
    save_config(tiny_config, path)
    return path


@pytest.fixture(scope="session")
def coco_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in COCO panoptic format with the splits `train` and `val`."""
    root = tmp_path_factory.mktemp("set")
    write_coco_panoptic(SyntheticSource(2, seed=1, size=(48, 64)), root, "train")
    write_coco_panoptic(SyntheticSource(1, seed=2, size=(48, 64)), root, "val")
    return root


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(SyntheticSource(1, seed=3, size=(50, 70))[0].image).save(path)
    return path
