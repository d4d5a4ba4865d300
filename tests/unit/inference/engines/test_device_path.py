"""The path for GPUs, as far as a CPU can show: no waiting for the device, one transfer, recorded work."""

from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.inference.engines.captured import CapturedPath
from panoptic_deeplab.inference.engines.device_path import (
    Queued,
    cached_grid,
    queue_postprocessing,
    to_host,
)
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps, are_finite
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.postprocess.pipeline import PanopticPostprocessor
from panoptic_deeplab.profiling.scenes import draw_raw_maps, make_categories

CATEGORIES = make_categories(7, 3)
CONFIG = PostprocessConfig(stuff_area_limit=50, join_border_fraction=0.2)
INPUT_SIZE, CONTENT_SIZES = (65, 97), ((65, 97), (61, 83))


@pytest.fixture(autouse=True)
def no_grids():
    """Those of tensors without values are for one test."""
    cached_grid.cache_clear()
    yield
    cached_grid.cache_clear()


def scenes():
    one, other = (draw_raw_maps((17, 25), thing_mask=CATEGORIES.thing_mask, num_centers=n) for n in (4, 6))
    return RawMaps(*(torch.cat(pair) for pair in zip(one, other, strict=True)))


def queue(maps, **changes):
    options = {"thing_mask": torch.from_numpy(CATEGORIES.thing_mask), "config": CONFIG, "align_corners": True}
    return queue_postprocessing(maps, INPUT_SIZE, CONTENT_SIZES, **options | changes)


def test_the_result_is_that_of_the_cpu():
    maps = scenes()
    postprocess = PanopticPostprocessor(CATEGORIES, CONFIG, align_corners=True)
    queued = queue(maps)
    assert queued.is_finite
    for image, expected in zip(queued.images, postprocess(maps, INPUT_SIZE, CONTENT_SIZES), strict=True):
        result = postprocess.result(to_host(image))
        assert np.array_equal(result.panoptic_map, expected.panoptic_map)
        assert np.array_equal(result.semantic_map, expected.semantic_map)
        assert result.segments_info == expected.segments_info
        assert len(result.instances()) > 1  # of 4 and 6, which are joined


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_noticed_at_the_end(value):
    maps = scenes()
    maps.semantic_logits[1, 2, 3, 4] = value
    queued = queue(maps)
    assert not queued.is_finite
    assert not are_finite(queued.raw_maps)
    assert all(int(image.semantic_map.max()) < 7 for image in queued.images)  # an index that would end the process


class Transfers(TorchDispatchMode):
    """Notes each operator that reads a GPU and gives something on the CPU, or the other way around."""

    def __init__(self):
        super().__init__()
        self.to_host, self.to_device = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        read, written = ({t.device.type for t in tensors(value)} for value in ((args, kwargs), result))
        if "cuda" in read and "cpu" in written:
            self.to_host.append(str(function))
        if read == {"cpu"} and "cuda" in written:
            self.to_device.append(str(function))
        return result


def tensors(value):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def test_nothing_waits_for_the_device_before_one_transfer():
    # Fake tensors have a shape and a device but no values: whatever asks for a value, or has a shape that depends on
    # values, is an error.
    with FakeTensorMode(), Transfers() as transfers:
        maps = RawMaps(*(torch.empty(2, channels, 17, 25, device="cuda") for channels in (7, 1, 2)))
        mask = torch.empty(len(CATEGORIES), dtype=torch.bool, device="cuda")
        queued = queue(maps, thing_mask=mask)
        assert queued.images[1].panoptic_map.device.type == "cuda"
        assert transfers.to_host == []
        for image in queued.images:
            to_host(image)
        assert transfers.to_host == 2 * ["aten._to_copy.default"]
        transfers.to_device.clear()
        queue(maps, thing_mask=mask)  # the second time, as in a recording, nothing is copied to the device either
        assert transfers.to_device == []


def test_semantic_only_maps_too():
    with FakeTensorMode():
        maps = RawMaps(torch.empty(2, 7, 17, 25, device="cuda"), None, None)
        mask = torch.empty(len(CATEGORIES), dtype=torch.bool, device="cuda")
        assert queue(maps, thing_mask=mask).images[0].scores.shape == (7,)


class FakeGraph:
    """Replays by doing it again, with the tensors of the recording."""

    def replay(self):
        FakeGraph.answer.copy_(FakeGraph.images.sum())


@pytest.fixture
def fake_cuda(monkeypatch):
    @contextmanager
    def nothing(_):
        yield

    class Stream:
        def wait_stream(self, _):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "device", nothing)
    monkeypatch.setattr(torch.cuda, "graph", nothing)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)


@pytest.mark.usefixtures("fake_cuda")
def test_one_recording_for_each_size_that_comes_again_and_eight_at_most():
    runs = []

    def run(images, content_sizes):
        runs.append((tuple(images.shape), content_sizes))
        FakeGraph.images, FakeGraph.answer = images, images.sum()
        return Queued(RawMaps(FakeGraph.answer.view(1, 1, 1, 1), None, None), torch.tensor(True), ())

    path = CapturedPath(run)
    images = torch.ones(1, 3, 4, 4)
    for factor in (1, 2, 5):
        answer = path(factor * images, ((4, 4),))
        assert answer.raw_maps.semantic_logits.item() == factor * 48
    assert len(runs) == 5  # at first as it is; then three to warm up, one to record
    assert images.sum() == 48
    for _ in range(3):
        path(images, ((3, 4),))
        path(images[..., :2], ((3, 2),))
    assert len(runs) == 15
    for width in range(7):
        path(images, ((1, width),))
    runs.clear()
    path(images[..., :2], ((3, 2),))
    assert len(runs) == 0
    path(images, ((3, 4),))
    assert len(runs) == 1  # dropped meanwhile


@pytest.fixture
def predictor(tiny_config):
    torch.manual_seed(0)
    model = PanopticDeepLab(tiny_config.model, len(CATEGORIES))
    for head in (model.semantic_head, model.center_head, model.offset_head):
        torch.nn.init.normal_(head.predict.weight, std=0.3)
    return PanopticPredictor.from_network(model, CATEGORIES, tiny_config, device="cpu")


def batch_of(predictor, sizes):
    generator = np.random.default_rng(0)
    return [predictor.engine.ready(generator.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


@torch.inference_mode()
def on_device(predictor, batch):
    results, maps = predictor.engine._predict_on_device(batch)
    return maps, results


def test_the_predictor_on_a_device_does_what_it_does_on_the_cpu(predictor):
    batch = batch_of(predictor, [(70, 93), (70, 93)])
    results, maps = predictor.engine.predict(batch)
    device_maps, device_results = on_device(predictor, batch)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, device_maps, strict=True))
    for ours, theirs in zip(device_results, results, strict=True):
        assert np.array_equal(ours.panoptic_map, theirs.panoptic_map)
        assert ours.segments_info == theirs.segments_info
        assert ours.size == (70, 93)


def test_the_predictor_on_a_device_refuses_what_is_not_finite(predictor):
    with torch.no_grad():
        predictor.engine.model.offset_head.predict.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        on_device(predictor, batch_of(predictor, [(70, 93)]))


class Repeat(CapturedPath):
    """In place of recordings: notes which path an image took."""

    paths: ClassVar = []

    def __init__(self, run):
        self.run = run

    def __call__(self, images, content_sizes):
        Repeat.paths.append(self)
        return self.run(images, content_sizes)


def test_new_weights_have_new_recordings(predictor, monkeypatch):
    monkeypatch.setattr("panoptic_deeplab.inference.engines.network_engine.CapturedPath", Repeat)
    monkeypatch.setattr(Repeat, "paths", [])
    predictor.engine._is_captured = True
    batch = batch_of(predictor, [(70, 93)])
    first, again = on_device(predictor, batch), on_device(predictor, batch)
    assert torch.equal(first[0].semantic_logits, again[0].semantic_logits)
    assert len(set(Repeat.paths)) == 1
    with torch.no_grad():
        predictor.engine.model.semantic_head.predict.weight.mul_(2)
    new = on_device(predictor, batch)
    assert not torch.equal(first[0].semantic_logits, new[0].semantic_logits)
    assert len(set(Repeat.paths)) == 2


class DoubleWatcher(TorchDispatchMode):
    """Counts the results in float64, which Apple's GPUs lack."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        outcome = operator(*arguments, **(keywords or {}))
        for value in outcome if isinstance(outcome, (list, tuple)) else (outcome,):
            self.count += isinstance(value, torch.Tensor) and value.dtype == torch.float64
        return outcome


def test_float64_is_why_apples_gpus_are_not_offered():
    """Where this fails, the sentence of `resolve_device` has lost a reason."""
    with DoubleWatcher() as watcher:
        queue(scenes())
    assert watcher.count > 0
