"""A model on disk, and collections of images with all that goes wrong in them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a network with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    categories = CategoryTable.load("synthetic")
    network = PanopticDeepLab(tiny_config.model, num_classes=len(categories))
    torch.nn.init.normal_(network.semantic_head.predict.weight)
    save_pretrained(folder, network, config=tiny_config, categories=categories)
    return folder


@pytest.fixture(scope="module")
def make_collection(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a folder of tiny images: so many that are sound, so many that have a name twice, and some bad files."""

    def make(*, single: int, double: int, more: tuple[str, ...] = ()) -> Path:
        folder, rng = tmp_path_factory.mktemp("collection"), np.random.default_rng(0)

        def write(name: str) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3)
            Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(path)

        for i in range(single):
            write(f"{i:03d}.png")
        for i in range(double):
            write(f"a/{i:03d}.png")  # names that are there twice
            write(f"b/{i:03d}.jpg")
        for name in ("наклон 図.png", "line\nbreak.png", *more):
            write(name)
        (folder / "empty.png").touch()
        (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
        whole = (folder / "000.png").read_bytes()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
        (folder / "link.png").symlink_to("nowhere.png")
        if sys.platform == "linux":
            (folder / os.fsdecode(b"bytes\xff.png")).write_bytes(whole)
        return folder

    return make
