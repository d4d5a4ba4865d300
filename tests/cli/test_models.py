import json
from collections.abc import Callable
from typing import Any

import pytest

from panoptic_deeplab.profiling import paper

Run = Callable[..., Any]


@pytest.fixture
def _three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows take seconds; they have a test of their own."""
    rows = {row.row: row for row in paper.PAPER_ROWS}
    monkeypatch.setattr(
        paper, "PAPER_ROWS", (rows["Mapillary Vistas, Xception-71"], rows["Sem. Only"], rows["COCO, MNV3"])
    )


@pytest.mark.usefixtures("_three_rows")
def test_table_of_the_paper(run: Run) -> None:
    outcome = run("models", "--paper")
    assert outcome.code == 0
    head, mapillary, ablation, coco, footnote = outcome.out.splitlines()
    assert " ".join(head.split()) == "Table Row Backbone Input Params M paper diff M-Adds B paper diff"
    assert "2161x2161*" in mapillary
    assert ablation.split()[:5] == ["1", "Sem.", "Only", "xception71", "1025x2049"]
    assert ablation.split()[5:9] == ["43.60", "43.60", "+0.00", "%"]
    assert "12.24" in coco
    assert footnote == "* The table says 2177x2177; its multiply-adds are those of 2161x2161."


@pytest.mark.usefixtures("_three_rows")
def test_json_is_a_list_of_rows(run: Run) -> None:
    outcome = run("models", "--paper", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    assert [row["table"] for row in rows] == [9, 1, 9]
    assert rows[0]["input_size"] == [2161, 2161]
    assert rows[0]["paper_input_size"] == [2177, 2177]
    assert rows[0]["paper_params_m"] is None
    assert rows[1]["paper_params_m"] == 43.60
    assert rows[1]["params_m"] == pytest.approx(43.60, abs=0.005)
