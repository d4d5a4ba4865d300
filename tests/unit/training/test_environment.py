import dataclasses
import json
import logging
from pathlib import Path

import pytest

from panoptic_deeplab.config import TrainConfig
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.training import environment
from panoptic_deeplab.training.environment import write_end, write_environment


def test_each_start_has_an_entry(tmp_path: Path) -> None:
    write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=0)
    write_environment(tmp_path, process=Process(world_size=2), settings=TrainConfig(seed=7), start_step=40)
    first, second = json.loads((tmp_path / "environment.json").read_text())
    assert (first["seed"], first["start_step"], first["world_size"]) == (7, 0, 1)
    assert (second["start_step"], second["world_size"]) == (40, 2)
    assert first["versions"]["torch"]
    assert first["hardware"]["device"] == "cpu"
    assert [f.name for f in tmp_path.iterdir()] == ["environment.json"]


def test_a_start_says_how_it_ended(tmp_path: Path) -> None:
    write_environment(tmp_path, process=Process(), settings=TrainConfig(), start_step=0)
    write_environment(tmp_path, process=Process(), settings=TrainConfig(max_steps=50), start_step=40)
    write_end(tmp_path, step=50, reason="all steps are made")
    first, second = json.loads((tmp_path / "environment.json").read_text())
    assert "end" not in first
    assert (second["max_steps"], second["end_step"], second["end"]) == (50, 50, "all steps are made")


def test_going_on_in_the_same_way_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for start_step in (0, 40):
        write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=start_step)
    assert not caplog.records


def test_going_on_with_more_processes_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=0)
    with caplog.at_level(logging.WARNING):
        write_environment(
            tmp_path, process=dataclasses.replace(Process(), world_size=2), settings=TrainConfig(seed=7), start_step=40
        )
    assert "processes 1 before, 2 now" in caplog.text
    assert "statistics of batch normalization" in caplog.text


def test_going_on_with_more_threads_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=0)
    monkeypatch.setattr(environment.torch, "get_num_threads", lambda: 2)
    with caplog.at_level(logging.WARNING):
        write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=40)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "threads 1 before, 2 now" in message
    assert message.endswith("only up to rounding.")


@pytest.mark.parametrize("content", ["[{", "[]", "{}", '[{"seed": 0}]'])
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"environment\.json is (damaged|not valid JSON).* delete it to go on"):
        write_environment(tmp_path, process=Process(), settings=TrainConfig(seed=7), start_step=40)
    assert (tmp_path / "environment.json").read_text() == content
