"""The zoo, with a server on this machine in the place of the published ones, and small models as what they hold."""

import ast
import functools
import json
import re
import runpy
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from panoptic_deeplab.categories import CategoryTable, packaged_tables
from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights import zoo
from panoptic_deeplab.weights.converters import FAMILIES
from panoptic_deeplab.weights.open import open_pretrained
from panoptic_deeplab.weights.zoo_list import unsupported_families

NAME = "detectron2/R52_os16_dsconv"
CONVERTER = "panoptic_deeplab.weights.converters.convert_checkpoint"


class Quiet(SimpleHTTPRequestHandler):
    served: list[str]

    def do_GET(self) -> None:
        self.served.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANOPTIC_DEEPLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo" / NAME


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "model_final.pkl").write_bytes(b"weights" * 100)
    return folder


@pytest.fixture
def served(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked for; the entry `NAME` of the zoo is on this server."""
    requests: list[str] = []
    handler = functools.partial(type("Handler", (Quiet,), {"served": requests}), directory=str(published))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        _place_at(monkeypatch, f"http://127.0.0.1:{running.server_port}/model_final.pkl")
        yield requests
        running.shutdown()
        thread.join()


def _place_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    models = zoo.zoo_models()
    monkeypatch.setattr(zoo, "zoo_models", lambda: {**models, NAME: replace(models[NAME], url=url)})


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, tiny_config: Config) -> list[Path]:
    """The files that were converted; each becomes a tiny model."""
    files: list[Path] = []

    def convert(path: Path, name: str) -> tuple[PanopticDeepLab, Config, CategoryTable]:
        files.append(path)
        categories = CategoryTable.load("cityscapes")
        return PanopticDeepLab(tiny_config.model, categories.num_classes).eval(), tiny_config, categories

    monkeypatch.setattr(CONVERTER, convert)
    return files


# -------------------------------------------------------------------------------------------------------------- listing


def test_every_model_of_the_list_can_be_converted() -> None:
    models = zoo.zoo_models()
    assert len(models) == 25
    assert len({model.recipe for model in models.values()}) == 25
    for model in models.values():
        assert model.config.data.categories == model.dataset
        assert model.family in FAMILIES
        assert f"_{model.family}_" in model.recipe
        assert model.dataset in packaged_tables()
        assert set(model.reported) <= {"PQ", "SQ", "RQ", "AP", "mIoU"}
        assert all(0.1 < value < 0.9 for value in model.reported.values())
        assert model.page.startswith("https://")
        if model.url is not None:
            assert model.url.startswith("https://")
        assert (model.url is None) == (model.reported == {})


UNPUBLISHED = ("deeplab2/mobilenet_v3_small_os32_cityscapes", "deeplab2/mobilenet_v3_large_os32_cityscapes")


def test_a_model_without_published_weights_says_what_can_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOPTIC_DEEPLAB_CACHE", str(tmp_path / "cache"))
    assert tuple(model.name for model in zoo.zoo_models().values() if model.url is None) == UNPUBLISHED
    with pytest.raises(CheckpointError) as caught:
        zoo.zoo_model(UNPUBLISHED[0])
    assert str(caught.value) == (
        f"No weights of {UNPUBLISHED[0]} are published. Convert those that you trained with: panoptic-deeplab convert"
        f" CHECKPOINT --from {UNPUBLISHED[0]} --output FOLDER"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "name",
    [name if name == NAME else pytest.param(name, marks=pytest.mark.slow) for name in zoo.zoo_models()],
)
def test_number_of_parameters_is_that_of_the_network(name: str) -> None:
    config = zoo.zoo_models()[name].config
    with torch.device("meta"):
        model = PanopticDeepLab(config.model, CategoryTable.load(config.data.categories).num_classes)
    assert zoo.zoo_models()[name].parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_page_about_them_says_of_each_how_far_it_is_checked() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "published-weights.md").read_text("utf-8")
    checked = {}
    for row in re.findall(r"^\| (`\w+/.*) \|$", page, re.MULTILINE):
        names, *_, verified = row.split(" | ")
        for name in re.findall(r"`(\w+/\w+)`", names):
            checked[name] = verified
    assert checked.keys() == zoo.zoo_models().keys()
    for name, verified in checked.items():
        assert verified.startswith(zoo.zoo_models()[name].verified or "second construction")


def test_reported_numbers_are_consistent() -> None:
    """PQ is about SQ times RQ; exactly so for one class, less so for averages over classes."""
    with_parts = [m.reported for m in zoo.zoo_models().values() if "SQ" in m.reported]
    assert len(with_parts) == 15
    for reported in with_parts:
        assert reported["PQ"] == pytest.approx(reported["SQ"] * reported["RQ"], abs=0.02)


def test_unsupported_families() -> None:
    assert [family.family.split()[0] for family in unsupported_families()] == [
        "deeplab2",
        "tensorflow/models",
        "PaddleSeg",
    ]


# ------------------------------------------------------------------------------------------------------------- download


def test_first_use_downloads_and_converts_and_the_next_does_neither(
    cache: Path, served: list[str], converted: list[Path]
) -> None:
    folder = zoo.zoo_model(NAME)
    assert folder == cache / "model"
    assert served == ["/model_final.pkl"]
    assert converted == [cache / "download" / "model_final.pkl"]
    record = json.loads((cache / "record.json").read_text())
    assert record["size"] == 700
    assert len(record["sha256"]) == 64
    assert zoo.zoo_models()[NAME].size == 700
    model, _, categories = open_pretrained(folder)
    assert (model.num_classes, categories.name) == (19, "cityscapes")
    card = (folder / "README.md").read_text()
    for part in (
        "Reported by its authors",
        "not measured here",
        "| PQ |",
        "60.3",
        "no commercial use",
        "url: https://",
    ):
        assert part in card

    assert zoo.zoo_model(NAME) == folder
    assert len(served) == len(converted) == 1


def test_another_version_of_this_package_converts_again(
    cache: Path, served: list[str], converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.zoo_model(NAME)
    (cache / "model" / "left_over").touch()
    monkeypatch.setattr(zoo, "__version__", "99.0")
    folder = zoo.zoo_model(NAME)
    assert (len(served), len(converted)) == (1, 2)
    assert not (folder / "left_over").exists()


def test_file_that_changes_afterwards_is_refused(
    cache: Path, published: Path, served: list[str], converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.zoo_model(NAME)
    monkeypatch.setattr(zoo, "__version__", "99.0")
    file = cache / "download" / "model_final.pkl"
    file.write_bytes(file.read_bytes()[:-1] + b"x")  # on this disk
    with pytest.raises(CheckpointError, match=r"has the sha256 .*, but the first download of .* had .*Delete the file"):
        zoo.zoo_model(NAME)
    file.unlink()
    (published / "model_final.pkl").write_bytes(b"other weights")  # at the server
    with pytest.raises(CheckpointError, match=r"has the size 13, but the first download of .* had 700"):
        zoo.zoo_model(NAME)
    assert len(converted) == 1


def test_a_wrong_file_is_not_what_the_right_one_is_held_against(
    cache: Path, published: Path, served: list[str], converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "download").mkdir(parents=True)
    wrong = cache / "download" / "R52.pkl"
    wrong.write_bytes(b"<html>log in to the network of this hotel</html>")

    def refuse(path: Path, name: str) -> None:
        raise CheckpointError("it is damaged")

    with monkeypatch.context() as patched:
        patched.setattr(CONVERTER, refuse)
        with pytest.raises(CheckpointError, match="it is damaged"):
            zoo.zoo_model(NAME)
    wrong.unlink()
    zoo.zoo_model(NAME)
    assert json.loads((cache / "record.json").read_text())["size"] == 700


def test_failed_conversion_leaves_nothing_half_done(
    cache: Path, served: list[str], monkeypatch: pytest.MonkeyPatch, converted: list[Path]
) -> None:
    def refuse(path: Path, name: str) -> None:
        raise CheckpointError("a name is missing")

    with monkeypatch.context() as patched:
        patched.setattr(CONVERTER, refuse)
        with pytest.raises(CheckpointError, match="a name is missing"):
            zoo.zoo_model(NAME)
    assert {file.name for file in cache.iterdir()} == {"download", ".lock"}
    zoo.zoo_model(NAME)
    assert len(served) == 1


def test_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _place_at(monkeypatch, "http://127.0.0.1:9/model_final.pkl")
    with pytest.raises(CheckpointError) as caught:
        zoo.zoo_model(NAME)
    message = str(caught.value)
    assert message.startswith(f"{NAME} is not in the cache: http://127.0.0.1:9/model_final.pkl cannot be reached")
    assert message.endswith(f"A copy of the file can also be put into {cache / 'download'}.")
    assert "\n" not in message


def test_google_drive_says_what_to_do_and_takes_the_file(
    cache: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://drive.google.com/file/d/1abc/view"
    _place_at(monkeypatch, url)
    folder = cache / "download"
    with pytest.raises(CheckpointError, match="Google Drive") as caught:
        zoo.zoo_model(NAME)
    assert f"Download {url} and put the file into {folder}" in str(caught.value)

    (folder / "any name (1).pth").write_bytes(b"weights")
    (folder / "any name (2).pth.crdownload").write_bytes(b"wei")
    zoo.zoo_model(NAME)
    assert converted == [folder / "any name (1).pth"]


def test_two_files_are_one_too_many(cache: Path, converted: list[Path]) -> None:
    (cache / "download").mkdir(parents=True)
    for name in ("a.pth", "b.pkl"):
        (cache / "download" / name).write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"must hold the one file of .*Got a\.pth, b\.pkl"):
        zoo.zoo_model(NAME)


def test_processes_at_the_same_time_download_once(cache: Path, served: list[str], converted: list[Path]) -> None:
    threads = [threading.Thread(target=zoo.zoo_model, args=(NAME,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served) == len(converted) == 1
    assert (cache / "model" / "config.json").exists()


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_record(cache: Path, content: str) -> None:
    cache.mkdir(parents=True)
    (cache / "record.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"record\.json .*delete it"):
        zoo.zoo_model(NAME)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("detectron2/R52_os16_dsconf", f"Did you mean `{NAME}`, `.*` or `.*`\\? See all with: panoptic-deeplab models"),
        ("detectron2/nothing_like_it", "See all with: panoptic-deeplab models"),
        ("deeplab2/wide_resnet41_os16_cityscapes", "not read here: Wide-ResNet-41 and SWideRNet"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        zoo.zoo_model(name)


def test_a_published_model_from_the_server_to_its_folder(
    cache: Path, published: Path, served: list[str], shared_folder: Path
) -> None:
    """The smallest one whose weights are known by name and shape, with values that are functions of these."""
    name = "bowenc0221/MBNV2_100_os32_cityscapes_bs16_lr_x2"
    seeded = runpy.run_path(str(shared_folder / "checkpoints" / "seeded.py"))
    text = (shared_folder / "checkpoints" / f"keys_{name.replace('/', '_')}.txt").read_text("utf-8")
    state = {}
    for line in text.splitlines():
        key, _, shape = line.partition(" ")
        state[key] = torch.from_numpy(seeded["tensor"](key, ast.literal_eval(shape)))
    torch.save(state, published / "model.pth")

    url = zoo.zoo_models()[NAME].url.replace("model_final.pkl", "model.pth")
    folder = zoo.fetch(replace(zoo.zoo_models()[name], url=url))
    assert served == ["/model.pth"]
    model, config, _ = open_pretrained(folder)
    key = "decoder.semantic_head.classifier.semantic.1.weight"
    assert torch.equal(model.state_dict()["semantic_head.predict.weight"], state[key])
    assert not model.training
    assert config == zoo.zoo_models()[name].config
