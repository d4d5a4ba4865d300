"""Prediction on a GPU: run with `make test-gpu` where there is one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.profiling.scenes import DrawnMaps, make_categories

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]

CATEGORIES = make_categories(10, 4)
PICTURES = [np.random.default_rng(n).integers(0, 256, (65, 97, 3), np.uint8) for n in range(3)]


@pytest.fixture
def network(tiny_config):
    return PanopticDeepLab(tiny_config.model, CATEGORIES.num_classes)


@pytest.fixture
def predictor(tiny_config, network):
    """A real network, whose answer is replaced by a drawn scene: something to group."""

    def make(**options):
        config = replace(tiny_config, input=InputConfig(pad_to=(65, 129)))
        return PanopticPredictor.from_network(DrawnMaps(network, CATEGORIES.thing_mask), CATEGORIES, config, **options)

    return make


def same(ours, theirs):
    return np.array_equal(ours.panoptic_map, theirs.panoptic_map) and len(ours.instances()) > 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_result_is_that_of_the_cpu(predictor, precision, compiled):
    expected = predictor(device="cpu").predict(PICTURES[0])
    ours = predictor(device="cuda", precision=precision, compile=compiled)
    assert all(same(ours.predict(picture), expected) for picture in PICTURES)


def test_captured_work_sees_new_images_and_new_weights(tiny_config, network):
    plain, captured = (
        PanopticPredictor.from_network(network, CATEGORIES, tiny_config, device="cuda", compile=on)
        for on in (False, True)
    )
    for _ in range(2):
        for picture in PICTURES:
            maps = [p.predict_with_maps(picture)[1].offset for p in (plain, captured)]
            np.testing.assert_allclose(*maps, atol=1e-3 * np.abs(maps[0]).max())
        with torch.no_grad():
            network.offset_head.predict.weight.mul_(2)


@torch.inference_mode()
def test_the_host_never_waits_before_the_result(predictor):
    ours = predictor(device="cuda")
    ours.predict(PICTURES[0])  # loads what is loaded at the first use
    batch = [ours.engine.ready(picture) for picture in PICTURES]
    ours.engine.predict(batch)
    sizes = tuple(item.prepared.content_size for item in batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.engine._queue(ours.engine.unchecked_maps(batch), batch[0].prepared.tensor, sizes)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("compiled", [False, True])
def test_output_that_is_not_finite_is_an_error_that_leaves_the_device_usable(tiny_config, network, compiled):
    with torch.no_grad():
        network.semantic_head.predict.bias[0] = float("nan")
    ours = PanopticPredictor.from_network(network, CATEGORIES, tiny_config, device="cuda", compile=compiled)
    with pytest.raises(CheckpointError, match="not finite"):
        ours.predict(PICTURES[0])
    assert torch.ones(3, device="cuda").sum().item() == 3
