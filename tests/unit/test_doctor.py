import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from panoptic_deeplab import doctor
from panoptic_deeplab.doctor import inspect_machine

Usage = namedtuple("Usage", "total used free")


def test_healthy_machine_has_versions_and_no_complaint_about_them() -> None:
    report = inspect_machine()
    assert all(report.packages.values())
    assert report.cpu_count >= 1
    assert report.torch_threads is not None
    assert not any("not installed" in problem or "do not match" in problem for problem in report.problems)


def test_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "timm" else "1")
    report = inspect_machine()
    assert "timm is not installed. Install it with: pip install timm" in report.problems
    assert "timm missing" in dict(report.rows())["packages"]


def test_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "pycocotools" else real(name))
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
