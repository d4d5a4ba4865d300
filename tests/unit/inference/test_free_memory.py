"""What the system says of memory: read as it writes it, and no word of it invented."""

import sys
from pathlib import Path

import pytest

from panoptic_deeplab.inference import memory_need as memory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    return tmp_path


def test_a_system_that_says_nothing(system: Path) -> None:
    assert memory.available_memory() is None


def test_of_the_machine(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal:       16384 kB\nMemAvailable:    8192 kB\nHugePages_Total:       0\n")
    assert memory.available_memory() == 8192 * 1024
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text("4096\n")
    assert memory.available_memory() == 8192 * 1024


def test_of_a_container_without_what_it_keeps_of_files(system: Path) -> None:
    (system / "meminfo").write_text("MemAvailable:    8192 kB\n")
    (system / "memory.max").write_text("1000000\n")
    (system / "memory.current").write_text("900000\n")
    assert memory.available_memory() == 100_000
    (system / "memory.stat").write_text("anon 300000\ninactive_file 200000\nactive_file 50000\n")
    assert memory.available_memory() == 350_000
