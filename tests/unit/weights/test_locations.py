from pathlib import Path

import pytest

from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.weights import hub, zoo
from panoptic_deeplab.weights.folder import read_settings
from panoptic_deeplab.weights.locations import model_folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple]:
    """What the zoo and the hub are asked for, in a working directory of its own."""
    calls: list[tuple] = []

    def from_zoo(name: str, *, progress: object) -> Path:
        calls.append(("zoo", name))
        return tmp_path

    def from_hub(repo_id: str, *, revision: str | None) -> Path:
        calls.append(("hub", repo_id, revision))
        return tmp_path

    monkeypatch.setattr(zoo, "zoo_model", from_zoo)
    monkeypatch.setattr(hub, "download_from_hub", from_hub)
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("detectron2/R52_os16_dsconv", ("zoo", "detectron2/R52_os16_dsconv")),
        ("deeplab2/resnet50", ("zoo", "deeplab2/resnet50")),
        ("someone/street-model", ("hub", "someone/street-model", None)),
        ("someone/street.model@v1.0", ("hub", "someone/street.model", "v1.0")),
        ("hf://someone/street", ("hub", "someone/street", None)),
        ("hf://detectron2/R52@refs/pr/1", ("hub", "detectron2/R52", "refs/pr/1")),
    ],
)
def test_names(asked: list[tuple], tmp_path: Path, name: str, expected: tuple) -> None:
    assert model_folder(name) == tmp_path
    assert asked == [expected]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_has_the_first_say(asked: list[tuple], tmp_path: Path, kind: type) -> None:
    folder = tmp_path / "detectron2" / "R52_os16_dsconv"
    folder.mkdir(parents=True)
    assert model_folder(kind("detectron2/R52_os16_dsconv")) == Path("detectron2/R52_os16_dsconv")
    assert model_folder(kind(folder)) == folder
    assert asked == []


@pytest.mark.parametrize(
    "name", ["street", "runs/street", "runs/street/best", "/nowhere/x", "hf://street", "hf://a/b/c", "weights.pth"]
)
def test_nothing_is_asked_for_what_looks_like_a_path(asked: list[tuple], tmp_path: Path, name: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "weights.pth").touch()
    with pytest.raises(CheckpointError, match=f"There is no model folder {name}") as caught:
        model_folder(name)
    for part in ("runs/NAME/best", "panoptic-deeplab models", "owner/name"):
        assert part in str(caught.value)
    assert asked == []


@pytest.mark.parametrize(("name", "said"), [("", "an empty name"), ("a" * 5000, "File name too long")])
def test_names_that_no_model_can_have(asked: list[tuple], name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        model_folder(name)
    assert len(str(caught.value)) < 200
    assert asked == []


def test_a_path_object_is_never_a_name(asked: list[tuple]) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder someone/street"):
        model_folder(Path("someone/street"))
    assert asked == []


def test_of_a_file_in_a_model_folder_the_folder_is_named(asked: list[tuple], tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    for name in ("best/config.json", "best/model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"best/model\.safetensors: it is a file\. Name its folder: best$"):
        model_folder("best/model.safetensors")
    assert asked == []


def test_a_run_without_a_validation_has_a_last_checkpoint_to_name(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"made no validation\. Its newest checkpoint is .*/last$"):
        model_folder(tmp_path / "best")
    with pytest.raises(CheckpointError, match=r"Did you mean .*/last\?$"):
        read_settings(tmp_path)
