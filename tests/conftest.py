"""Fixtures for all tests."""

from pathlib import Path

import pytest
import torch

SHARED_FOLDER = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared_folder() -> Path:
    """The folder with real images and fixtures beside the project; the test is skipped where it is absent."""
    if not SHARED_FOLDER.is_dir():
        pytest.skip("needs the folder ../shared beside the project (real images and recorded fixtures)")
    return SHARED_FOLDER


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
