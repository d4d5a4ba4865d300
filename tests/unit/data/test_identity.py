import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.identity import DATASET_FILE, difference, identify, open_same_source
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import CheckpointError, DatasetError


def _set(root: Path, *, seed: int, num_images: int = 2) -> None:
    for split in ("train", "val", "test"):
        write_coco_panoptic(SyntheticSource(num_images, seed=seed, size=(48, 64)), root, split)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Two folders with different sets of equal names under one relative root; the first is the working folder."""
    _set(tmp_path / "here" / "set", seed=1)
    _set(tmp_path / "elsewhere" / "set", seed=2)
    monkeypatch.chdir(tmp_path / "here")
    return DataConfig(root="set", categories="synthetic")


@pytest.fixture
def model(data: DataConfig, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    document = identify(data, {split: open_source(data, split) for split in ("train", "val")})
    (folder / DATASET_FILE).write_text(json.dumps(document))
    return folder


def test_the_same_set_is_found_again_wherever_it_lies(data: DataConfig, model: Path, tmp_path: Path) -> None:
    assert len(open_same_source(data, "val", like=model)) == 2
    assert len(open_same_source(data, "test", like=model)) == 2
    shutil.move(tmp_path / "here" / "set", tmp_path / "moved")
    assert len(open_same_source(replace(data, root=str(tmp_path / "moved")), "val", like=model)) == 2
    assert str(tmp_path) not in (model / DATASET_FILE).read_text()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_another_set_under_the_same_root_is_refused(
    data: DataConfig, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=rf"'set' is {tmp_path}/elsewhere/set here.* made with: .*--data\.root"):
        open_same_source(data, split, like=model)
    assert len(open_same_source(data, split, like=None)) == 2  # the user has named it
    assert len(open_same_source(data, split, like=tmp_path)) == 2  # a model of other makers


def test_a_set_without_the_split_that_the_model_knows_is_another_one(data: DataConfig, model: Path) -> None:
    (Path("set") / "annotations" / "panoptic_val.json").unlink()
    with pytest.raises(DatasetError, match=r"not the set that the model was made with: .*panoptic_val\.json"):
        open_same_source(data, "test", like=model)


def test_more_fewer_and_reordered_images_differ(data: DataConfig) -> None:
    source = open_source(data, "val")
    before = identify(data, {"val": source})
    assert difference(before, identify(data, {"val": source, "more": source})) is None
    assert difference(before, identify(data, {"train": source})) is None  # no split in common
    source.image_ids = list(reversed(source.image_ids))
    assert difference(before, identify(data, {"val": source})) is not None
    _set(Path("larger"), seed=1, num_images=3)
    found = difference(before, identify(data, {"val": open_source(replace(data, root="larger"), "val")}))
    assert found is not None
    assert found.startswith("'val' has 3 images")


def test_computed_scenes_are_identified_by_their_ids() -> None:
    data = DataConfig(format="synthetic", categories="synthetic")
    first, second = (identify(data, {"val": SyntheticSource(n, size=(32, 32))}) for n in (2, 3))
    assert difference(first, first) is None
    assert difference(first, second) is not None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"splits": []}', '{"format": "coco_panoptic", "splits": {"val": 1}}']
)
def test_a_damaged_description_is_one_sentence(data: DataConfig, model: Path, content: str) -> None:
    (model / DATASET_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=r"dataset\.json"):
        open_same_source(data, "val", like=model)
