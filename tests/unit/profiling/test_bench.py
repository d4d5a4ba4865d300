"""The script behind `make bench`: its rows run, here on small images and once; no times are held."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("bench", FOLDER / "bench.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench", module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    for name, size in {"INPUT_SIZE": (97, 129), "MAP_SIZE": (25, 33), "LABEL_SIZE": (96, 128)}.items():
        monkeypatch.setattr(module, name, size)
    in_turns = module.in_turns
    monkeypatch.setattr(module, "in_turns", lambda *functions, rounds: in_turns(*functions, rounds=1))
    return module


@pytest.mark.parametrize(("group", "num_rows"), [("postprocess", 7), ("targets", 1), ("pq", 1)])
def test_rows_run(bench, group, num_rows):
    rows = bench.measure(group)
    assert len(rows) == num_rows
    assert all(row.figure > 0 and row.no_bar is None for row in rows)
    bench.print_table(rows)


def test_a_bar_is_a_lower_or_an_upper_bound(bench):
    row = bench.Row(name="speed", figure=10, unit="times", bar=12, at_least=True)
    assert not row.reached
    assert replace(row, at_least=False).reached


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_bars_of_bfloat16_apply_where_the_processor_has_it(bench, monkeypatch, capsys, has_bfloat16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bfloat16}, raising=False)
    row = bench.Row(name="step", figure=1.5, unit="times", bar=2, at_least=True)
    monkeypatch.setitem(bench.ROWS, "training", lambda: [row])
    (measured,) = bench.measure("training")
    assert measured.reached is (False if has_bfloat16 else None)
    bench.print_table([measured])
    assert ("no instructions for bfloat16" in capsys.readouterr().out) is not has_bfloat16


def test_the_file_says_where_and_when(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "rates", lambda: {"read, GB/s": 1.0})
    output = tmp_path / "run.json"
    monkeypatch.setattr(sys, "argv", ["bench.py", "--rows", "pq", "--output", str(output)])
    bench.main()
    document = json.loads(output.read_text("utf-8"))
    assert {"hardware", "time", "versions"} <= document["environment"].keys()
    assert [row["name"] for row in document["rows"]] == ["PQ of an image, one core"]
    assert document["rows"][0].keys() >= {"figure", "bar", "reached", "no_bar"}
