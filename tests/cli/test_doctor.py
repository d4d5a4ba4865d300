import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]


def test_table(run: Run) -> None:
    outcome = run("doctor")
    assert outcome.code == 0
    assert "torch" in outcome.out
    assert "problems" in outcome.out


def test_json(run: Run) -> None:
    document = json.loads(run("doctor", "--json").out)
    assert document["packages"]["torch"]
    assert isinstance(document["problems"], list)
