"""Model folders and backbone weights: exact round trips, and one clear sentence for every way to be wrong."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.errors import CheckpointError, OutputError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.checksums import write_checksums
from panoptic_deeplab.weights.folder import read_weights, save_pretrained, save_weights
from panoptic_deeplab.weights.open import open_pretrained

CONFIG = Config(model=ModelConfig(backbone="test_efficientnet", aspp_channels=8, instance_aspp_channels=8))
CATEGORIES = CategoryTable(
    name="two",
    categories=(
        Category(id=7, name="road", isthing=False, color=(1, 2, 3)),
        Category(id=26, name="car", isthing=True, color=(4, 5, 6), dataset_ids=(26, 27)),
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tmp_path / "best", PanopticDeepLab(CONFIG.model, 2), config=CONFIG, categories=CATEGORIES)
    return tmp_path / "best"


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model = PanopticDeepLab(CONFIG.model, 2)
    save_pretrained(tmp_path, model, config=CONFIG, categories=CATEGORIES)
    loaded, config, categories = open_pretrained(tmp_path)
    assert config == CONFIG
    assert categories == CATEGORIES
    assert not loaded.training
    images = torch.rand(2, 3, 33, 65)
    for ours, theirs in zip(model.eval()(images), loaded(images), strict=True):
        assert torch.equal(ours, theirs)


def test_averaged_weights_are_preferred(folder: Path) -> None:
    model = open_pretrained(folder)[0]
    averaged = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_weights(folder / "ema.safetensors", averaged)
    loaded = open_pretrained(folder)[0].state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in averaged.items())


def test_missing_folder_and_files(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder"):
        open_pretrained(folder / "absent")
    (folder / "categories.json").unlink()
    with pytest.raises(CheckpointError, match=r"categories\.json is missing"):
        open_pretrained(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="may be truncated"):
        open_pretrained(folder)


def test_weights_that_are_not_those_of_the_checksums(folder: Path) -> None:
    path = folder / "model.safetensors"
    write_checksums(folder, {path.name: path})
    open_pretrained(folder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 4  # of a weight
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or was changed.*delete checksums"):
        open_pretrained(folder)
    save_pretrained(folder, PanopticDeepLab(CONFIG.model, 2), config=CONFIG, categories=CATEGORIES)
    open_pretrained(folder)  # other weights, to which those checksums do not belong


def test_an_average_that_is_lost_is_not_replaced_in_silence(folder: Path) -> None:
    path = folder / "ema.safetensors"
    save_weights(path, open_pretrained(folder)[0].state_dict())
    write_checksums(folder, {path.name: path})
    open_pretrained(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors is missing"):
        open_pretrained(folder)


def test_truncated_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(CheckpointError, match="not valid JSON"):
        open_pretrained(folder)


def test_unknown_key_in_config(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["model"]["backbon"] = "x"
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="backbon"):
        open_pretrained(folder)


def test_wrong_number_of_classes(folder: Path) -> None:
    path = folder / "categories.json"
    data = json.loads(path.read_text())
    data["categories"].pop()
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"of another shape: semantic_head\.predict\.weight"):
        open_pretrained(folder)


def test_missing_and_unexpected_names_are_listed(folder: Path) -> None:
    state = read_weights(folder / "model.safetensors")
    state["stranger"] = state.pop("semantic_head.predict.bias")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: semantic_head\.predict\.bias; 1 unexpected: stranger"):
        open_pretrained(folder)


def test_integers_do_not_become_weights(folder: Path) -> None:
    state = read_weights(folder / "model.safetensors")
    name = "semantic_head.predict.bias"
    save_weights(folder / "model.safetensors", {**state, name: state[name].view(torch.int32)})
    match = r"1 of another kind of numbers: semantic_head\.predict\.bias torch\.int32 instead of torch\.float32\."
    with pytest.raises(CheckpointError, match=match):
        open_pretrained(folder)


def test_missing_counters_of_batch_norm_are_no_error(folder: Path) -> None:
    state = read_weights(folder / "model.safetensors")
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert counters
    save_file({name: value for name, value in state.items() if name not in counters}, folder / "model.safetensors")
    loaded = open_pretrained(folder)[0].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("content", [b"", b"not a state dict", b"PK\x03\x04 half a zip file"])
def test_damaged_file_of_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"\.pth (cannot be read .* may be truncated|is damaged, or holds)"):
        read_weights(path)


def test_an_image_is_no_weights_and_never_to_be_trusted(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(CheckpointError, match=r"cannot be read .* none of the marks of such files"):
        read_weights(path)


def test_of_a_run_folder_its_best_model_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "best")
    with pytest.raises(CheckpointError, match=r"config\.json is missing\. Did you mean .*/run/best\?$"):
        open_pretrained(tmp_path / "run")


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_is_refused_without_running(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "weights.pth"
    torch.save({"weight": _Malicious(marker)}, path)
    with pytest.raises(CheckpointError, match="something else than tensors") as caught:
        read_weights(path)
    assert "weights_only" not in str(caught.value)
    assert "safe_globals" not in str(caught.value)
    path.write_bytes(pickle.dumps(_Malicious(marker)))
    with pytest.raises(CheckpointError):
        read_weights(path)
    assert not marker.exists()


def test_another_network_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))
    model = PanopticDeepLab(CONFIG.model, 2)
    with pytest.raises(CheckpointError, match=r"holds a PanopticDeepLab\. Got Sequential instead"):
        save_pretrained(tmp_path / "a", own, config=CONFIG, categories=CATEGORIES)
    with pytest.raises(CheckpointError, match=r"holds a PanopticDeepLab\. Got DataParallel instead"):
        save_pretrained(tmp_path / "a", torch.nn.DataParallel(model), config=CONFIG, categories=CATEGORIES)
    with pytest.raises(CheckpointError, match=r"model has 3 classes, and category table 'two' 2\."):
        save_pretrained(tmp_path / "a", PanopticDeepLab(CONFIG.model, 3), config=CONFIG, categories=CATEGORIES)
    with pytest.raises(CheckpointError, match=r"not the configuration of the model: aspp_channels 8 of the model, 256"):
        save_pretrained(
            tmp_path / "a", model, config=Config(model=ModelConfig(backbone="test_efficientnet")), categories=CATEGORIES
        )
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "best").write_text("")
    with pytest.raises(OutputError, match="best cannot be written: File exists"):
        save_pretrained(tmp_path / "best", PanopticDeepLab(CONFIG.model, 2), config=CONFIG, categories=CATEGORIES)


def test_a_model_folder_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    open_pretrained("~/best")
    save_pretrained("~/other", PanopticDeepLab(CONFIG.model, 2), config=CONFIG, categories=CATEGORIES)
    assert (folder.parent / "other" / "config.json").is_file()


@pytest.mark.parametrize("name", ["config.json", "categories.json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_damage(folder: Path, name: str, encoding: str) -> None:
    path = folder / name
    path.write_text(path.read_text("utf-8"), encoding)
    assert open_pretrained(folder)[1:] == (CONFIG, CATEGORIES)


@pytest.mark.parametrize("name", ["config.json", "categories.json"])
@pytest.mark.parametrize(
    ("content", "said"), [(b'"Stra\xdfe"', "no text in UTF-8"), (b"[" * 10**5, "nested too deeply")]
)
def test_odd_text_is_one_sentence(folder: Path, name: str, content: bytes, said: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} is {said}"):
        open_pretrained(folder)


@pytest.mark.parametrize("width", [10**7, 10**9, 2**62])
def test_a_network_that_is_larger_than_its_weights_is_not_made(folder: Path, width: int) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["model"]["aspp_channels"] = width
    path.write_text(json.dumps(data))
    said = r"asks for a network of more than \d+\.\d GB, and .*model\.safetensors holds \d+\.\d MB"
    with pytest.raises(CheckpointError, match=said):
        open_pretrained(folder)


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (2**62, b"{}"),
        (None, b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'),
        (None, b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}'),
        (
            None,
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        ),
    ],
)
def test_a_header_that_claims_more_than_the_file(tmp_path: Path, length: int | None, header: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((length or len(header)).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=r"a\.safetensors cannot be read \(SafetensorError"):
        read_weights(path)
