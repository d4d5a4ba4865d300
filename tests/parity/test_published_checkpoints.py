"""Published checkpoints compute here what they compute in the code that trained them.

Two kinds of evidence: recordings of that code (`../shared/checkpoints`, two models), and a second construction of each
network, written from its source without this package (`tests/reference/published_networks.py`).
"""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from panoptic_deeplab import PanopticDeepLab
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.maps import RawMaps, Size, upsample, upsample_offset
from panoptic_deeplab.weights.converters import FAMILIES, convert_checkpoint
from panoptic_deeplab.weights.folder import load_weights, save_pretrained
from panoptic_deeplab.weights.open import open_pretrained
from panoptic_deeplab.weights.zoo_list import zoo_models

LARGEST_DEVIATION = 1e-4
"""Limit of max|ours - theirs| / std(theirs), for each map."""

networks = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[1] / "reference" / "published_networks.py"))
)
Maps = tuple[Tensor, Tensor, Tensor]
MOBILENET = "bowenc0221/MBNV2_100_os32_cityscapes_bs16_lr_x2"


def bowenc0221(encode: Callable[..., list[Tensor]], **options: Any) -> Callable[[Any, Tensor], Maps]:
    return lambda weights, image: networks.bowenc0221(weights, encode(weights, image, **options))


def detectron2(
    encode: Callable[..., list[Tensor]],
    *,
    separable: bool,
    classes: int = 19,
    three_stages: bool = False,
    **options: Any,
) -> Callable[[Any, Tensor], Maps]:
    decoder: dict[str, Any] = {"taps": ("res3", "res2"), "rates": (6, 12, 18), "projections": (64, 32)}
    if three_stages:
        decoder = {"taps": ("res4", "res3", "res2"), "rates": (3, 6, 9), "projections": (128, 64, 32)}
    return lambda weights, image: networks.detectron2(
        weights, encode(weights, image, **options), separable=separable, classes=classes, **decoder
    )


BOWENC0221_SIZE, DETECTRON2_SIZE = (331, 43), (312, 40)
"""Sizes of images. They are high enough for all atrous rates; that no stride divides them shows where padding and
resizing happen."""


class Case(NamedTuple):
    network: Callable[[Any, Tensor], Maps]
    size: Size
    """Size of the image."""
    slow: bool = True


r52, x65, h48 = networks.resnet52, networks.xception65, networks.hrnet48
CASES = {
    "bowenc0221/R50_os32_cityscapes": Case(bowenc0221(networks.resnet, units=(3, 4, 6, 3)), BOWENC0221_SIZE),
    "bowenc0221/R101_os32_cityscapes": Case(bowenc0221(networks.resnet, units=(3, 4, 23, 3)), BOWENC0221_SIZE),
    "bowenc0221/X101_32x8d_os32_cityscapes": Case(
        bowenc0221(networks.resnet, units=(3, 4, 23, 3), groups=32, base_width=8), BOWENC0221_SIZE
    ),
    "bowenc0221/X65_os32_cityscapes_lr_x10": Case(bowenc0221(x65, output_stride=32), BOWENC0221_SIZE),
    MOBILENET: Case(bowenc0221(networks.mobilenet_v2), BOWENC0221_SIZE, slow=False),
    "bowenc0221/H48_os4_cityscapes": Case(bowenc0221(h48), BOWENC0221_SIZE),
    "detectron2/R52_os16_conv": Case(detectron2(r52, separable=False), DETECTRON2_SIZE),
    "detectron2/R52_os16_dsconv": Case(detectron2(r52, separable=True), DETECTRON2_SIZE, slow=False),
    "detectron2/R52_os16_dsconv_coco": Case(detectron2(r52, separable=True, classes=133), DETECTRON2_SIZE),
    "detectron2/X65_os16_conv": Case(detectron2(x65, separable=False, output_stride=16), DETECTRON2_SIZE),
    "detectron2/X65_os16_dsconv": Case(detectron2(x65, separable=True, output_stride=16), DETECTRON2_SIZE),
    "detectron2/X65_os16_dsconv_coco": Case(
        detectron2(x65, separable=True, classes=133, output_stride=16), DETECTRON2_SIZE
    ),
    "detectron2/H48_conv": Case(detectron2(h48, separable=False, three_stages=True), DETECTRON2_SIZE),
    "detectron2/H48_dsconv": Case(detectron2(h48, separable=True, three_stages=True), DETECTRON2_SIZE),
    "detectron2/H48_dsconv_coco": Case(
        detectron2(h48, separable=True, classes=133, three_stages=True), DETECTRON2_SIZE
    ),
}

KNOWN_WEIGHTS = {model.name for model in zoo_models().values() if model.verified}
"""Models of which all names and shapes of the weights are known."""

every_case = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if case.slow else []) for name, case in CASES.items()]
)


def test_every_published_model_has_a_second_construction() -> None:
    assert set(CASES) == {name for name in zoo_models() if not name.startswith("deeplab2/")}
    assert set(CASES) > KNOWN_WEIGHTS


@every_case
@torch.inference_mode()
def test_second_construction_has_the_same_outputs(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    weights, image = networks.Weights(), torch.randn(1, 3, *case.size)
    theirs = case.network(weights, image)
    torch.save(weights.state, tmp_path / "final_state.pth")
    model, _, _ = convert_checkpoint(tmp_path / "final_state.pth", name)
    check_deviations(model(image), theirs)


@pytest.mark.parametrize("name", sorted(KNOWN_WEIGHTS))
def test_second_construction_has_the_published_names(name: str, shared_folder: Path) -> None:
    weights = networks.Weights(device="meta")
    CASES[name].network(weights, torch.empty(1, 3, *CASES[name].size, device="meta"))
    assert {entry: tuple(value.shape) for entry, value in weights.state.items()} == entries(shared_folder, name)


@pytest.mark.parametrize("name", sorted(KNOWN_WEIGHTS))
def test_every_published_entry_has_its_place(name: str, shared_folder: Path) -> None:
    listed = entries(shared_folder, name)
    config = zoo_models()[name].config
    with torch.device("meta"):  # names and shapes alone
        model = PanopticDeepLab(config.model, 133 if name.endswith("coco") else 19)
        state = {entry: torch.empty(shape) for entry, shape in listed.items()}
    convert = FAMILIES[name.partition("/")[0]].convert
    converted = convert(state, model, config, "file.pth")
    assert len(converted) == len(listed)
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KNOWN_WEIGHTS))
def test_seeded_weights_of_every_key_file_convert(name: str, shared_folder: Path, tmp_path: Path) -> None:
    state = seeded_state(shared_folder, name)
    torch.save(state, tmp_path / "final_state.pth")
    converted = convert_checkpoint(tmp_path / "final_state.pth", name)[0].state_dict()
    assert sum(value.double().sum() for value in converted.values()) == pytest.approx(
        float(sum(value.double().sum() for value in state.values())), rel=1e-9
    )


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("bowenc0221/R50_os32_cityscapes", "bowenc0221_R50_os32"),
        pytest.param("detectron2/R52_os16_dsconv", "detectron2_R52_os16_dsconv", marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_outputs_equal_the_recording(name: str, recording: str, shared_folder: Path, tmp_path: Path) -> None:
    recorded = np.load(shared_folder / "checkpoints" / f"{recording}.npz")
    size = int(recorded["height"]), int(recorded["width"])
    torch.save({"model": seeded_state(shared_folder, name), "iteration": 90_000}, tmp_path / "model_final.pth")
    model, config, categories = convert_checkpoint(tmp_path / "model_final.pth", name)
    image = torch.from_numpy(seeded(shared_folder).image(*size))
    maps = model(image)
    theirs = tuple(torch.from_numpy(recorded[f"raw_{key}"]) for key in ("semantic", "center", "offset"))
    step = maps.semantic_logits.shape[-1] // theirs[0].shape[-1]
    check_deviations(RawMaps(*(map_[..., ::step, ::step] for map_ in maps)), theirs)  # type: ignore[arg-type]

    if "full_semantic" in recorded:
        aligned = config.model.align_corners
        full = RawMaps(
            semantic_logits=upsample(maps.semantic_logits, size, align_corners=aligned),
            center_heatmap=upsample(maps.center_heatmap, size, align_corners=aligned),
            offset=upsample_offset(maps.offset, size, align_corners=aligned),
        )
        theirs = tuple(torch.from_numpy(recorded[f"full_{key}"]) for key in ("semantic", "center", "offset"))
        check_deviations(RawMaps(*(map_[..., ::8, ::8] for map_ in full)), theirs)  # type: ignore[arg-type]

    # Converted, saved, loaded: the same numbers, bit for bit.
    save_pretrained(tmp_path / "folder", model, config=config, categories=categories)
    loaded = open_pretrained(tmp_path / "folder")
    assert (loaded.config, loaded.categories, loaded.network.training) == (config, categories, False)
    for ours, again in zip(maps, loaded.network(image), strict=True):
        assert torch.equal(ours, again)


@torch.inference_mode()
def test_image_pool_over_a_window() -> None:
    """Images larger than the training crop: the pool's window is the crop, moved by one feature pixel at a time."""
    weights, image = networks.Weights(), torch.randn(1, 3, 129, 161)
    theirs = networks.bowenc0221(weights, networks.mobilenet_v2(weights, image), window=(3, 4))
    check_deviations(model_with(MOBILENET, weights, {"image_pool_size": (65, 97)})(image), theirs)

    weights, image = networks.Weights(), torch.randn(1, 3, 128, 160)
    options = {"separable": True, "classes": 19, "taps": ("res3", "res2"), "rates": (6, 12, 18)}
    theirs = networks.detectron2(weights, r52(weights, image), projections=(64, 32), window=(4, 6), **options)
    check_deviations(model_with("detectron2/R52_os16_dsconv", weights, {"image_pool_size": (64, 96)})(image), theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"align_corners": False},
        {"compat.concat_order": "projection_first"},
        {"atrous_rates": (3, 6, 8)},
        {"compat.norm_eps": 1e-3},
        {"compat.backbone_norm_eps": 1e-3},
    ],
    ids=lambda change: next(iter(change)),
)
@torch.inference_mode()
def test_a_wrong_detail_is_seen(change: dict[str, Any]) -> None:
    """Details that no shape shows deviate by far more than what is allowed above."""
    weights, image = networks.Weights(), torch.randn(1, 3, *BOWENC0221_SIZE)
    theirs = CASES[MOBILENET].network(weights, image)
    assert max(deviations(model_with(MOBILENET, weights, change)(image), theirs)) > 10 * LARGEST_DEVIATION


# --------------------------------------------------------------------------------------------------------------- tools


def model_with(name: str, weights: Any, change: dict[str, Any]) -> PanopticDeepLab:
    """Our model with other settings than the published ones."""
    config = load_config(zoo_models()[name].recipe, {"model": change})
    model = PanopticDeepLab(config.model, 19).eval()
    load_weights(
        model, FAMILIES[name.partition("/")[0]].convert(weights.state, model, config, "file.pth"), where="file.pth"
    )
    return model


def deviations(ours: RawMaps, theirs: Maps) -> list[float]:
    pairs = [(map_, other) for map_, other in zip(ours, theirs, strict=True) if map_ is not None]
    assert len(pairs) == 3
    assert all(map_.shape == other.shape for map_, other in pairs)
    return [float((map_ - other).abs().max() / other.std()) for map_, other in pairs]


def check_deviations(ours: RawMaps, theirs: Maps) -> None:
    assert max(deviations(ours, theirs)) < LARGEST_DEVIATION


def entries(shared_folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    text = (shared_folder / "checkpoints" / f"keys_{name.replace('/', '_')}.txt").read_text("utf-8")
    found = {}
    for line in text.splitlines():
        entry, shape = line.split(maxsplit=1)
        found[entry] = tuple(int(number) for number in re.findall(r"\d+", shape))
    assert len(found) > 400
    return found


def seeded(shared_folder: Path) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(shared_folder / "checkpoints" / "seeded.py")))


def seeded_state(shared_folder: Path, name: str) -> dict[str, Tensor]:
    make = seeded(shared_folder).tensor
    return {entry: torch.as_tensor(make(entry, shape)) for entry, shape in entries(shared_folder, name).items()}
