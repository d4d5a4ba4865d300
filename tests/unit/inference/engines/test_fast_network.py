"""The copy of a network that predicts: it follows the model, and the model does not notice it."""

import copy
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.inference.engines.fast_network import FastNetwork
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.depthwise import FastDepthwiseConv2d, use_fast_depthwise
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.weights.folder import save_pretrained

IMAGES = torch.linspace(-1, 1, 2 * 3 * 33 * 65).view(2, 3, 33, 65).sin()


@pytest.fixture
def network(tiny_config):
    """With weights and statistics that are not those of the start."""
    model = PanopticDeepLab(tiny_config.model, 10)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 65, 65))
    for head in (model.semantic_head, model.center_head, model.offset_head):
        nn.init.normal_(head.predict.weight, std=0.3)
    return model.eval()


def fast(model, **changes):
    options = {"device": torch.device("cpu"), "precision": "float32", "compile": False, "example_size": (33, 65)}
    return FastNetwork(model, **options | changes)


def errors(ours, theirs):
    """The largest error of each map, in its standard deviations."""
    return [((a - b).abs().max() / b.std()).item() for a, b in zip(ours, theirs, strict=True)]


@torch.inference_mode()
def test_float32_differs_by_rounding(network):
    maps = fast(network).current()(IMAGES)
    assert 0 < max(errors(maps, network(IMAGES))) < 2e-5


@torch.inference_mode()
def test_depthwise_convolutions_of_a_training_run_are_folded(network):
    use_fast_depthwise(network)
    ours = fast(network).current()
    assert not any(isinstance(module, nn.BatchNorm2d | FastDepthwiseConv2d) for module in ours.modules())
    assert any(isinstance(module, FastDepthwiseConv2d) for module in network.modules())
    assert max(errors(ours(IMAGES), network(IMAGES))) < 2e-5


@torch.inference_mode()
def test_bfloat16_gives_float32_maps_near_those_of_float32(network):
    ours = fast(network, precision="bfloat16").current()
    wide = [name for name, parameter in ours.named_parameters() if parameter.dtype == torch.float32]
    # the last layers, and the atrous depthwise convolutions of both ASPPs, without bias
    assert len(wide) == 3 * 2 + 2 * 3
    assert sum("predict" in name for name in wide) == 6
    assert sum("aspp" in name for name in wide) == 6
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16, torch.float32}
    maps = ours(IMAGES)
    assert {map_.dtype for map_ in maps} == {torch.float32}
    assert 1e-4 < max(errors(maps, network(IMAGES))) < 0.1


def test_the_model_stays_as_it_is(network):
    network.train()
    before, names = copy.deepcopy(network.state_dict()), [type(m) for m in network.modules()]
    fast(network, precision="bfloat16").current()(IMAGES)
    assert [type(m) for m in network.modules()] == names
    assert all(p.requires_grad for p in network.parameters())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def change_in_place(network):
    with torch.no_grad():
        network.semantic_head.predict.bias.add_(1)


def load(network):
    network.load_state_dict({name: tensor * 1.5 for name, tensor in network.state_dict().items()})


def replace_a_tensor(network):
    network.semantic_head.predict.bias = nn.Parameter(torch.ones_like(network.semantic_head.predict.bias))


def train_a_step(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()(IMAGES).semantic_logits.square().mean().backward()
    optimizer.step()


def train_a_step_with_frozen_norm(network):
    """As in fine-tuning: no buffer changes, and a fused optimizer does not count its changes of the weights."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    network(IMAGES).semantic_logits.square().mean().backward()
    optimizer.step()


def assign_twice(network):
    """The memory of tensors that are replaced may be that of their successors."""
    for factor in (3.0, 1.5):
        network.load_state_dict({n: t * factor for n, t in network.state_dict().items()}, assign=True)


@pytest.mark.parametrize(
    "change",
    [change_in_place, load, replace_a_tensor, train_a_step, train_a_step_with_frozen_norm, assign_twice],
)
def test_new_weights_are_used(network, change):
    ours = fast(network)
    with torch.inference_mode():
        old = ours.current()(IMAGES)
    assert ours.current() is ours.current()
    change(network)
    with torch.inference_mode():
        maps = ours.current()(IMAGES)
        assert not network.training
        assert max(errors(maps, network(IMAGES))) < 2e-5
        assert max(errors(maps, old)) > 1e-3


def test_the_gradients_of_a_model_are_not_copied(network):
    train_a_step(network)
    assert all(p.grad is None for p in fast(network).current().parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "`precision` float16 is for GPUs"),
        ({"compile": True}, "this model has its own runtime"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        fast(lambda images: images, **options)


@pytest.mark.parametrize(("chosen", "named"), [(None, "g\\+\\+"), ("no-such-compiler", "the one in CXX, no-such")])
def test_compiling_without_a_compiler(network, monkeypatch, chosen, named):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if chosen:
        monkeypatch.setenv("CXX", chosen)
    with pytest.raises(ConfigError, match=f"`compile` needs a C\\+\\+ compiler, .*{named}"):
        fast(network, compile=True)


def test_what_torch_cannot_compile_is_one_sentence(network, monkeypatch):
    class Fails(nn.Module):
        def forward(self, images):
            raise TorchDynamoException("no such kernel\n" + 50 * "a line of torch\n")

    monkeypatch.setattr(torch, "compile", lambda model, dynamic: Fails())
    with pytest.raises(ConfigError, match=r"cannot be compiled \(TorchDynamoException: no such kernel\). Leave out"):
        fast(network, compile=True).current()(IMAGES)


COMPARE = """
import sys
import torch
from panoptic_deeplab.inference.engines.fast_network import FastNetwork
from panoptic_deeplab.weights.open import open_pretrained

model, _, _ = open_pretrained(sys.argv[1])
images = torch.linspace(-1, 1, 2 * 3 * 33 * 65).view(2, 3, 33, 65).sin()
options = {"device": torch.device("cpu"), "precision": sys.argv[2], "example_size": (33, 65)}
with torch.inference_mode():
    plain, compiled = (FastNetwork(model, compile=on, **options).current()(images) for on in (False, True))
print(max(((a - b).abs().max() / b.std()).item() for a, b in zip(compiled, plain)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_is_the_same_function(network, tiny_config, precision, tmp_path):
    """In a process of its own: torch.compile cannot trace the type checks of the tests."""
    save_pretrained(tmp_path, network, config=tiny_config, categories=CategoryTable.load("synthetic"))
    command = [sys.executable, "-c", COMPARE, tmp_path, precision]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) < {"float32": 2e-5, "bfloat16": 0.1}[precision]


def test_threads_share_one_copy(network, monkeypatch):
    ours, made = fast(network), []
    make = ours._make_copy

    def slowly(model):
        made.append(model)
        time.sleep(0.05)
        return make(model)

    monkeypatch.setattr(ours, "_make_copy", slowly)
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda _: ours.current(), range(4)))
    assert made == [network]
    assert copies[0] is not None
    assert all(one is copies[0] for one in copies)


@pytest.mark.parametrize("file", ["street.onnx", "street.xml"])
def test_files_have_their_own_runtime(file):
    with pytest.raises(ConfigError, match=f"`compile` is for PyTorch networks; {file} has its own runtime"):
        PanopticPredictor.from_pretrained(file, compile=True)
    with pytest.raises(ConfigError, match=f"float16 is for PyTorch networks on GPUs, not for {file}"):
        PanopticPredictor.from_pretrained(file, precision="float16")
