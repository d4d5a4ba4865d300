"""Programs in `.pt2` files: they compute what torch computes, and nothing of their author's is executed."""

import json
import runpy
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.export.writers import save_torch
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo, read_model_file_info
from panoptic_deeplab.inference.exported.runtimes import open_model_file
from panoptic_deeplab.inference.exported.torch_archive import read_contents
from panoptic_deeplab.inference.exported.torch_operators import NAMESPACE, OPERATORS
from panoptic_deeplab.inference.exported.torch_program import _program, load_program

Entry = tuple[str, bytes]

crafted = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[3] / "reference" / "crafted_programs.py"))
)


class Toy(nn.Module):
    """A network for images of any size, with sizes that are computed, results that are lists, and a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.register_buffer("shift", torch.linspace(-1, 1, 10).view(1, 10, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = torch.relu(self.norm(self.conv(images)))
        left, right = features.split(5, dim=1)
        height, width = features.shape[-2:]
        ramp = torch.arange(height * width).view(height, width).to(torch.float32)

        def goes_on(step: Tensor, _: Tensor) -> Tensor:
            return step < 3

        def double(step: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            return step + 1, values * 2

        _, ramp = torch.while_loop(goes_on, double, (torch.tensor(0), ramp))
        return (torch.cat([right, left], dim=1) + self.shift * ramp,)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Toy().eval(), (torch.zeros(2, 3, 40, 60),), dynamic_shapes={"images": sizes})
    config = Config(model=ModelConfig(instance_branch=False))
    info = ModelFileInfo(
        kind="network", config=config, categories=CategoryTable.load("synthetic"), version="0", commit=None
    )
    save_torch(program, path, info)
    return path


@pytest.fixture(scope="module")
def entries(good: Path) -> list[Entry]:
    with zipfile.ZipFile(good) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def run(path: Path) -> list[Tensor]:
    images = torch.linspace(-2, 2, 3 * 52 * 44).view(1, 3, 52, 44)
    return load_program(path, "cpu")(images)


def test_it_computes_what_torch_computes(good: Path) -> None:
    program, reference = load_program(good, "cpu"), torch.export.load(good).module(check_guards=False)
    for size in ((2, 3, 40, 60), (1, 3, 52, 44)):
        images = torch.rand(size)
        for ours, theirs in zip(program(images), reference(images), strict=True):
            assert torch.equal(ours, theirs)


def test_the_file_runs_behind_the_predictors_interface(good: Path) -> None:
    maps = open_model_file(good, device="cpu")(torch.rand(1, 3, 40, 60))
    assert maps.semantic_logits.shape == (1, 10, 10, 15)  # type: ignore[union-attr]


def test_a_program_of_the_cpu_runs_on_another_device(entries: list[Entry], tmp_path: Path) -> None:
    """New tensors, too, are made where the program runs: a device of its own that has no numbers."""

    def without_loop(document: dict[str, Any]) -> None:
        graph = document["graph_module"]["graph"]
        (loop,) = [node for node in graph["nodes"] if node["target"] == "torch.ops.higher_order.while_loop"]
        graph["nodes"].remove(loop)  # its condition is a number
        (after,) = [output["as_tensor"]["name"] for output in loop["outputs"]][1:]
        (before,) = [entry["name"] for entry in loop["inputs"][2]["arg"]["as_tensors"]][1:]
        document["graph_module"]["graph"] = json.loads(json.dumps(graph).replace(f'"{after}"', f'"{before}"'))

    contents = read_contents(crafted.write(tmp_path / "plain.pt2", crafted.edited(entries, without_loop)))
    program = _program(tmp_path / "plain.pt2", contents.document, contents.tensors, torch.device("meta"))
    (maps,) = program(torch.empty(1, 3, 40, 60, device="meta"))
    assert maps.device.type == "meta"
    assert maps.shape == (1, 10, 10, 15)


def test_torch_is_not_asked_to_load(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever torch's readers do with an archive, they never see it."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("torch reads the file")

    for name in ("torch.load", "torch.export.load", "torch._C.PyTorchFileReader", "pickle.loads", "sympy.sympify"):
        monkeypatch.setattr(name, refuse)
    assert len(run(good)) == 1


@pytest.mark.parametrize("case", crafted.ARCHIVES)
def test_nothing_of_the_author_is_executed(good: Path, entries: list[Entry], tmp_path: Path, case: str) -> None:
    make, said = crafted.ARCHIVES[case]
    marker = tmp_path / "ran"
    path = crafted.write(tmp_path / "crafted.pt2", make(entries, marker))
    if said is None:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(run(path), run(good), strict=True))
    else:
        with pytest.raises(CheckpointError, match=said):
            open_model_file(path, device="cpu")
    assert not marker.exists()


def test_an_unchanged_copy_runs(good: Path, entries: list[Entry], tmp_path: Path) -> None:
    """So what the cases above say is due to what they change."""
    assert torch.equal(run(crafted.write(tmp_path / "copy.pt2", entries))[0], run(good)[0])


def test_operators_of_files_and_raw_memory_are_not_listed() -> None:
    assert not OPERATORS & {"from_file", "set_", "as_strided", "resize_", "_unsafe_index", "_reshape_alias"}
    assert NAMESPACE == "torch.ops.aten."
    assert not [name for name in OPERATORS if not hasattr(torch.ops.aten, name)]


# Sizes that the file does not have.


def test_compressed_entries(entries: list[Entry], tmp_path: Path) -> None:
    bomb = [*entries, ("archive/data/weights/weight_99", bytes(10**7))]
    path = crafted.write(tmp_path / "bomb.pt2", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    for opened in (read_model_file_info, open_model_file):
        with pytest.raises(CheckpointError, match="is compressed"):
            opened(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": [{"as_int": 10**6}] * 4}, "bytes for 'conv.weight', a tensor of 4000000000000000000000000 bytes"),
        ({"sizes": [{"as_int": 10**6}], "strides": [{"as_int": 0}]}, "a tensor of 4000000 bytes"),
        ({"strides": [{"as_int": 10**9}] * 4}, "out of bounds"),
        ({"storage_offset": {"as_int": 10**12}}, "out of bounds"),
        ({"sizes": [{"as_int": -1}] * 4}, "-1 in place of a size"),
        ({"sizes": [{"as_int": 0}, {"as_int": 10**30}]}, "no program that can be read"),
        ({"dtype": 99}, "no program that can be read"),
        ({"sizes": None}, "no program that can be read"),
    ],
)
def test_tensors_that_claim_more_than_there_is(
    entries: list[Entry], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    def claim(document: dict[str, Any]) -> None:
        document["config"]["conv.weight"]["tensor_meta"].update(change)

    path = crafted.write(tmp_path / "claims.pt2", crafted.edited(entries, claim, crafted.WEIGHTS))
    with pytest.raises(CheckpointError, match=said):
        open_model_file(path, device="cpu")


def test_results_larger_than_any_memory(entries: list[Entry], tmp_path: Path) -> None:
    def enlarge(document: dict[str, Any]) -> None:
        (node,) = [n for n in document["graph_module"]["graph"]["nodes"] if "arange" in n["target"]]
        node["inputs"][0]["arg"] = {"as_int": 10**15}

    path = crafted.write(tmp_path / "large.pt2", crafted.edited(entries, enlarge))
    with pytest.raises(
        CheckpointError, match=r"large\.pt2 cannot be run by torch .* on images of shape \(1, 3, 52, 44\)"
    ):
        run(path)


# Damage.


@pytest.mark.parametrize("name", [crafted.PROGRAM, crafted.WEIGHTS, crafted.CONSTANTS, crafted.INFO])
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"3", b"{}", b"\xff\xfe\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000],
    ids=["empty", "list", "null", "number", "object", "bytes", "nested", "nested objects", "digits"],
)
def test_documents_of_any_shape(entries: list[Entry], tmp_path: Path, name: str, content: bytes) -> None:
    path = crafted.write(
        tmp_path / "odd.pt2", [(other, content if other == name else inside) for other, inside in entries]
    )
    with pytest.raises(CheckpointError, match=r"odd\.pt2") as caught:
        open_model_file(path, device="cpu")
    assert str(caught.value).count("\n") == 0


def test_missing_entries(entries: list[Entry], tmp_path: Path) -> None:
    for missing in (
        crafted.PROGRAM,
        crafted.WEIGHTS,
        crafted.CONSTANTS,
        "archive/data/weights/weight_0",
        "archive/byteorder",
    ):
        path = crafted.write(tmp_path / "part.pt2", [entry for entry in entries if entry[0] != missing])
        with pytest.raises(CheckpointError, match=r"part\.pt2"):
            open_model_file(path, device="cpu")


def test_damaged_bytes(good: Path, tmp_path: Path) -> None:
    """Whatever the damage, there is one sentence or a program."""
    content, generator = good.read_bytes(), torch.Generator().manual_seed(0)
    path = tmp_path / "damaged.pt2"
    for _ in range(100):
        damaged = bytearray(content)
        for place in torch.randint(len(content), (20,), generator=generator).tolist():
            damaged[place] = 255 - damaged[place]
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            load_program(path, "cpu")


def test_programs_of_another_schema(entries: list[Entry], tmp_path: Path) -> None:
    path = crafted.write(
        tmp_path / "new.pt2", crafted.edited(entries, lambda document: document["schema_version"].update(major=9))
    )
    with pytest.raises(CheckpointError, match=r"is of version 9 of torch's programs\. Expected 8"):
        open_model_file(path, device="cpu")
