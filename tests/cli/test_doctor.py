import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from panoptic_deeplab.cli import doctor

Run = Callable[..., Any]


def test_table(run: Run) -> None:
    outcome = run("doctor")
    assert "torch" in outcome.out
    assert "problems" in outcome.out


def test_json(run: Run) -> None:
    outcome = run("doctor", "--json")
    document = json.loads(outcome.out)
    assert outcome.code == (1 if document["problems"] else 0)
    assert document["packages"]["torch"]
    assert isinstance(document["problems"], list)


@pytest.mark.parametrize(("problems", "code"), [((), 0), (("the moon is full",), 1)])
def test_problems_decide_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, problems: tuple[str, ...], code: int
) -> None:
    report = dataclasses.replace(doctor.inspect_machine(), problems=problems)
    monkeypatch.setattr(doctor, "inspect_machine", lambda: report)
    outcome = run("doctor")
    assert outcome.code == code
    assert all(problem in outcome.out for problem in problems)
