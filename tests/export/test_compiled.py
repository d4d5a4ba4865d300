"""Compiled code: what it takes to write it, that it answers as PyTorch, and that --model refuses it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.errors import CheckpointError, ConfigError, ExportError
from panoptic_deeplab.export.compiled import load_compiled, save_compiled
from panoptic_deeplab.export.exporter import export_model
from panoptic_deeplab.inference.engines.open import engine_of
from panoptic_deeplab.inference.exported.model_file import read_model_file_info
from panoptic_deeplab.inference.predictor import PanopticPredictor

SIZE = (65, 97)


def test_compiling_needs_a_compiler_and_a_size(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_model_file_info(exported / "network.pt2")
    program = torch.export.load(exported / "network.pt2")
    with pytest.raises(ExportError, match=r"images of one size\. Name it: --size"):
        save_compiled(program, tmp_path / "code.pt2", info)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, one of g\+\+"):
        save_compiled(program, tmp_path / "code.pt2", replace(info, input_size=SIZE))


def test_failed_compilation_leaves_nothing(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor

    def compile_half(program: object, *, package_path: str) -> None:
        Path(package_path).write_text("half")
        raise RuntimeError("g++ is out of memory")

    program = torch.export.load(exported / "network.pt2")
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_half)
    monkeypatch.setattr("panoptic_deeplab.export.compiled.check_compiler", lambda: None)
    monkeypatch.setattr("panoptic_deeplab.export.exporter.trace", lambda *arguments, **options: program)
    (tmp_path / "code_tmp.pt2").write_text("of the user")
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    with pytest.raises(ExportError, match=r"cannot be compiled \(RuntimeError: g\+\+ is out of memory\)"):
        export_model(predictor, tmp_path / "code.pt2", format="torch", size=SIZE, compiled=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"code_tmp.pt2": "of the user"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network", "panoptic"])
def test_compiled_code_answers_as_pytorch(folder: Path, tmp_path: Path, kind: str) -> None:
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("needs a C++ compiler")
    path = tmp_path / "code.pt2"
    command = [sys.executable, "-m", "panoptic_deeplab", "export", "--model", folder, "--output", path]
    command += ["--format", "torch", "--compile", "--size", *map(str, SIZE), *(["--panoptic"] * (kind == "panoptic"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    image = SyntheticSource(1, seed=5, size=SIZE)[0].image
    ours, theirs = (
        PanopticPredictor.from_pretrained(folder, device="cpu"),
        PanopticPredictor(engine_of(load_compiled(path), {})),
    )
    assert np.mean(ours.predict(image).panoptic_map == theirs.predict(image).panoptic_map) > 0.9999
    with pytest.raises(CheckpointError, match="holds compiled code"):
        PanopticPredictor.from_pretrained(path)


def test_a_program_is_no_compiled_code(exported: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_compiled(exported / "network.pt2")
