import builtins
import shutil
import tomllib
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from panoptic_deeplab.cli import doctor
from panoptic_deeplab.cli.doctor import inspect_machine

Usage = namedtuple("Usage", "total used free")


def test_healthy_machine_has_versions_and_no_complaint_about_them() -> None:
    report = inspect_machine()
    assert all(report.packages.values())
    assert report.cpu_count >= 1
    assert report.torch_threads is not None
    assert not any("not installed" in problem or "do not match" in problem for problem in report.problems)


def test_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "timm" else real(name))
    report = inspect_machine()
    assert "timm is not installed. Install it with: pip install timm" in report.problems
    assert "timm missing" in dict(report.rows())["packages"]


def test_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "pycocotools" else real(name))
    report = inspect_machine()
    assert report.extras["pycocotools"] is False
    assert 'pip install "panoptic-deeplab[eval]"' in dict(report.rows())["optional packages"]


def test_small_shared_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(64 << 20, 0, 64 << 20))
    (problem,) = doctor._shared_memory_problems(tmp_path)
    assert "only 64 MiB" in problem
    assert "--shm-size=8g" in problem


def test_no_shared_memory_folder_is_no_problem(tmp_path: Path) -> None:
    assert doctor._shared_memory_problems(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("version", "too_old"),
    [("2.8.0", True), ("2.9", False), ("2.10.0+cpu", False), ("1.13.1", True), ("3.0a1", False)],
)
def test_old_package_is_a_problem(monkeypatch: pytest.MonkeyPatch, version: str, too_old: bool) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    problems = doctor._version_problems([Requirement("torch>=2.9")])
    assert bool(problems) == too_old
    if too_old:
        assert problems == [
            f"torch {version} does not work with this package, which needs >=2.9."
            ' Update it with: pip install --upgrade "torch>=2.9"'
        ]


def test_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {str(requirement) for requirement in doctor._required()} == set(project["dependencies"])
    extras = doctor._extras()
    assert set(extras) == set(project["optional-dependencies"]) - {"all"}
    assert set(inspect_machine().extras) == {name for names in extras.values() for name in names}


def test_a_package_with_the_same_modules_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.20" if name == "onnxruntime-gpu" else None)
    assert doctor._is_installed("onnxruntime")
    assert not doctor._is_installed("onnx")


def test_source_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_DISTRIBUTION", "panoptic-deeplab-absent")
    assert any("runs from its source and is not installed" in problem for problem in inspect_machine().problems)


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_package_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == package:
            raise OSError("libcudart.so.12: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    problems = inspect_machine().problems
    assert any(f"{package} " in p and "OSError: libcudart.so.12" in p for p in problems)


@pytest.mark.parametrize(
    ("cuda", "visible", "words"),
    [
        (None, None, "is built without CUDA"),
        ("12.8", None, "the driver may be too old for CUDA 12.8"),
        ("12.8", "", "CUDA_VISIBLE_DEVICES hides it"),
    ],
)
def test_gpu_that_pytorch_cannot_use_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str | None, visible: str | None, words: str
) -> None:
    (tmp_path / "version").write_text("NVRM")
    monkeypatch.setattr(doctor, "_NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert any(words in problem for problem in inspect_machine().problems)


def test_no_gpu_is_no_problem(tmp_path: Path) -> None:
    assert doctor._gpu_problems(tmp_path / "absent") == []


def test_two_packages_of_opencv_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"opencv-python": "4.10", "opencv-python-headless": "4.10"}
    monkeypatch.setattr(doctor, "_version", found.get)
    (problem,) = doctor._opencv_problems()
    assert problem.startswith("opencv-python and opencv-python-headless are installed")
    del found["opencv-python"]
    assert doctor._opencv_problems() == []
