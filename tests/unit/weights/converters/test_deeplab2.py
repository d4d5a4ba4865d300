"""Deeplab2's weights, compared with a second construction of its networks from its sources."""

import runpy
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from panoptic_deeplab.config import Config
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.converters import convert_checkpoint, deeplab2
from panoptic_deeplab.weights.converters.tensorflow_bundle import TensorBundle
from panoptic_deeplab.weights.converters.tensorflow_checksum import crc32c
from panoptic_deeplab.weights.folder import load_weights
from panoptic_deeplab.weights.zoo_list import zoo_models

_FOLDER = Path(__file__).resolve().parents[3] / "reference"
writer = SimpleNamespace(**runpy.run_path(str(_FOLDER / "tensorflow_bundle_writer.py")))
reference = SimpleNamespace(**runpy.run_path(str(_FOLDER / "deeplab2_network.py")))

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class Variables(TensorBundle):
    """A checkpoint without files."""

    def __init__(self, variables: dict[str, np.ndarray]) -> None:
        self._arrays = {name + SUFFIX: values for name, values in variables.items()}
        self.names = tuple(self._arrays)

    def read(self, name: str) -> np.ndarray:
        return self._arrays[name]


def small(config: Config) -> Config:
    """The model with thin decoders, and an image pool that is smaller than the test image's features."""
    return replace(
        config,
        model=replace(
            config.model,
            aspp_channels=12,
            instance_aspp_channels=12,
            decoder_channels=10,
            instance_decoder_channels=6,
            projections=(5, 4),
            instance_projections=(3, 2),
            head_channels=8,
            instance_head_channels=4,
            image_pool_size=(65, 65),
        ),
    )


def run_reference(config: Config, images: torch.Tensor, num_classes: int) -> tuple[RawMaps, dict[str, np.ndarray]]:
    model = config.model
    network = reference.Network(epsilon=model.compat.norm_eps, output_stride=model.output_stride)
    name = model.backbone.removeprefix("deeplab2_")
    if name.startswith("resnet"):
        features = network.resnet(images, beta=name.endswith("beta"))
    else:
        features = network.mobilenet(images, reference.SMALL if name.endswith("small") else reference.LARGE)
    settings: dict[str, Any] = {
        "rates": {16: (6, 12, 18), 32: (3, 6, 9)}[model.output_stride],
        "pool": (64 // model.output_stride + 1,) * 2,
    }
    semantic = network.decode(features, "semantic_decoder", (5, 4), 12, 10, **settings)
    instance = network.decode(features, "instance_decoder", (3, 2), 12, 6, **settings)
    center, offset = "instance_center_head", "instance_regression_head"
    maps = RawMaps(
        semantic_logits=network.head(semantic, "semantic_head", "semantic_last_layer", 8, num_classes),
        center_heatmap=network.head(instance, center, f"{center}_last_layer", 4, 1),
        offset=network.head(instance, offset, f"{offset}_last_layer", 4, 2),
    )
    return maps, dict(network.variables)


def run_ours(config: Config, variables: dict[str, np.ndarray], images: torch.Tensor, num_classes: int) -> RawMaps:
    model = PanopticDeepLab(config.model, num_classes)
    state = deeplab2.convert_state(deeplab2.state_of(Variables(variables), where="x"), model, config, "x")
    load_weights(model, state, where="x")
    return model.to(images.dtype).eval()(images)


def largest_difference(ours: RawMaps, theirs: RawMaps) -> float:
    assert None not in (*ours, *theirs)
    return max(float((a - b).abs().max() / b.std()) for a, b in zip(ours, theirs, strict=True))  # type: ignore[union-attr, operator, arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small_os16_cityscapes",
        "mobilenet_v3_small_os32_cityscapes",
        "mobilenet_v3_large_os16_cityscapes",
        "mobilenet_v3_large_os32_cityscapes",
        "resnet50_os32_cityscapes",
        "resnet50_beta_os16_coco",
    ],
)
@torch.no_grad()
def test_agrees_with_a_second_construction(name: str) -> None:
    config = small(zoo_models()[f"deeplab2/{name}"].config)
    images = torch.randn(1, 3, 65, 97, dtype=torch.float64)  # so that rounding does not blur the comparison
    classes = 7
    coco = config.data.categories == "coco"
    theirs, variables = run_reference(config, images, classes + int(coco))
    if coco:  # their class 0 is void
        theirs = theirs._replace(semantic_logits=theirs.semantic_logits[:, 1:])
    assert largest_difference(run_ours(config, variables, images, classes), theirs) < 1e-9


@pytest.fixture(scope="module")
def mobilenet() -> tuple[Config, dict[str, np.ndarray]]:
    config = small(zoo_models()["deeplab2/mobilenet_v3_small_os16_cityscapes"].config)
    with torch.no_grad():
        _, variables = run_reference(config, torch.zeros(1, 3, 65, 65, dtype=torch.float64), 19)
    return config, variables


def test_reads_the_model_out_of_a_published_archive(
    tmp_path: Path, mobilenet: tuple[Config, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, variables = mobilenet
    slot = f"encoder/_blocks/0/_conv/kernel/.OPTIMIZER_SLOT/optimizer/m{SUFFIX}"
    extra = {slot: np.ones(2, np.float32), f"optimizer/iter{SUFFIX}": np.array(9), f"global_step{SUFFIX}": np.array(9)}
    folder = tmp_path / "mobilenet_v3_small"
    masked_crc = lambda data: _mask(crc32c(data))  # noqa: E731
    writer.write_bundle(folder / "ckpt-60000", {n + SUFFIX: v for n, v in variables.items()} | extra, masked_crc)
    archive = tmp_path / "mobilenet_v3_small.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)

    name = "deeplab2/mobilenet_v3_small_os16_cityscapes"
    monkeypatch.setattr("panoptic_deeplab.weights.zoo_list.load_config", lambda recipe: config)
    model, found, categories = convert_checkpoint(archive, name)
    assert found == config
    assert not model.training
    assert categories.num_classes == 19
    kernel = variables["encoder/_blocks/0/_conv/kernel"]  # (h, w, in, out)
    weight = model.state_dict()["backbone.network.conv_stem.weight"]
    np.testing.assert_array_equal(weight.numpy(), kernel.transpose(3, 2, 0, 1))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def test_entries_that_do_not_fit_are_listed(mobilenet: tuple[Config, dict[str, np.ndarray]]) -> None:
    config, variables = mobilenet
    changed = dict(variables)
    changed["encoder/_blocks/13/_conv/kernel"] = changed.pop("encoder/_blocks/12/_conv/kernel")
    changed["semantic_last_layer/bias"] = np.zeros(20, np.float32)
    with pytest.raises(CheckpointError) as caught:
        run_ours(config, changed, torch.zeros(1, 3, 65, 65), 19)
    for part in (
        "1 missing: encoder/_blocks/12/_conv.weight;",
        "1 unexpected: encoder/_blocks/13/_conv.weight;",
        "1 of another shape: semantic_last_layer.bias (20,) instead of (19,).",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values"), [("encoder/_blocks/0/_conv/rate", np.zeros(3)), ("encoder/_stem/_conv/kernel", np.zeros(3))]
)
def test_variables_of_another_form_are_refused(name: str, values: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"which no layer of deeplab2 has"):
        deeplab2.state_of(Variables({name: values}), where="x")


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # of the backbones: the sum over deeplab2's definitions, by hand for the blocks that differ from the usual ones
        ("resnet50", 23.508),
        ("resnet50_beta", 23.632),
    ],
)
def test_number_of_parameters_of_the_backbones(name: str, millions: float) -> None:
    config = zoo_models()[f"deeplab2/{name}_os32_coco"].config
    with torch.device("meta"):
        model = PanopticDeepLab(config.model, 133)
    count = sum(parameter.numel() for parameter in model.backbone.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=5e-4)
