"""Models in the package: what lies there is listed, found by its name, and whole."""

from pathlib import Path

import pytest
import torch

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import write_json
from panoptic_deeplab.weights import bundled
from panoptic_deeplab.weights.bundled import bundled_models
from panoptic_deeplab.weights.checksums import CHECKSUMS_FILE
from panoptic_deeplab.weights.folder import MODEL_FILE, read_weights
from panoptic_deeplab.weights.locations import model_folder
from panoptic_deeplab.weights.open import open_pretrained

ABOUT = {"purpose": "Finds dots.", "measured": {"PQ": 0.5}, "measured_on": "On none.", "license": "CC0."}
MOST_BYTES = 10_000_000


@pytest.fixture
def dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one model, `dots`, started in an empty folder."""
    folder = tmp_path / "bundled" / "dots"
    folder.mkdir(parents=True)
    write_json(folder / bundled.ABOUT_FILE, ABOUT)
    (tmp_path / "bundled" / "empty").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(bundled, "__file__", str(tmp_path / "bundled" / "__init__.py"))
    bundled_models.cache_clear()
    yield folder
    bundled_models.cache_clear()


def test_what_lies_there_is_listed(dots: Path) -> None:
    (model,) = bundled_models().values()
    assert (model.name, model.folder, model.purpose, model.measured) == ("dots", dots, "Finds dots.", {"PQ": 0.5})


def test_a_name_is_a_folder_unless_there_is_one_of_that_name(dots: Path) -> None:
    assert model_folder("dots") == dots
    with pytest.raises(CheckpointError, match="There is no model folder empty"):
        model_folder("empty")
    with pytest.raises(CheckpointError, match="There is no model folder dots"):
        model_folder(Path("dots"))
    Path("dots").mkdir()
    assert model_folder("dots") == Path("dots")


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_models_are_small_on_disk_and_float32_when_they_are_open(name: str) -> None:
    model = bundled_models()[name]
    assert sum(path.stat().st_size for path in model.folder.iterdir()) <= MOST_BYTES
    assert (model.folder / CHECKSUMS_FILE).exists()
    stored = read_weights(model.folder / MODEL_FILE)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    network = open_pretrained(name).network
    for key, value in network.state_dict().items():
        assert value.isfinite().all(), key
        assert value.dtype in (torch.float32, torch.int64), key
    assert model.measured
    assert min(model.measured.values()) > 0
