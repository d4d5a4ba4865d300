"""The page of scale shows what its script says, and the commands for Ray have options that Ray knows."""

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "scale.md").read_text("utf-8")


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script."""
    pytest.importorskip("pyarrow")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale

    return scale


def test_the_tables_are_those_of_the_script(scale: ModuleType) -> None:
    tables = scale.page(scale.stored(), scale.Assumptions())
    assert len(tables) == 4
    for table in tables:
        assert table in PAGE, f"Print the tables anew: python benchmarks/scale.py\n{table}"


def test_the_arithmetic(scale: ModuleType) -> None:
    model = scale.Measured(
        name="one",
        images=1,
        seconds={"decode": 0.1, "prepare": 0.1, "network": 0.5, "post-processing": 0.1, "rows": 0.2},
        multiply_adds=1e9,
        image_bytes=1e6,
        result_bytes=1e3,
        batch_seconds=1.0,
        leader_seconds=0.01,
        leader_bytes=100.0,
    )
    given = scale.Assumptions(vcpu_hour=0.036, machine_cores=10, gpu_hour=3.6, gpu_rate=1e12, gpu_share=0.5)
    assert model.core_seconds == pytest.approx(1)
    assert model.gpu_seconds(given) == pytest.approx(2e9 / 5e11 + 0.003)
    text = "\n".join(scale.tables([model], 0.016, given))
    for row in (
        "| core hours | 278 | 277,778 |",
        "| on one machine of 10 cores | 27.8 h | 3 years |",
        "| processors | $10.00 | $10,000 |",
        "| GPU hours | 14 | 13,889 |",  # 0.4 s of 8 cores are longer than 7 ms of the GPU
        "| what bounds | cores | cores |",
        "| machines | $50.00 | $50,000 |",
        "| cores that one writing process keeps up with | 100 |",
        "| cores that Ray keeps busy by questions of 16 images | 1,000 |",
        "| images | 1 TB | 1 PB |",
    ):
        assert row in text, text


def test_commands_for_ray_have_options_that_ray_knows() -> None:
    commands = pytest.importorskip("ray.scripts.scripts").cli.commands
    text = re.sub(r"\\\n\s*", "", (ROOT / "docs" / "how-to" / "big-collections.md").read_text("utf-8"))
    found = [
        shlex.split(line, comments=True)
        for line in re.findall(r"^(?:srun |\$ )(ray (?:start|symmetric-run) .*?)(?: -- .*)?$", text, re.M)
    ]
    used = {(words[1], word) for words in found for word in words if word.startswith("--")}
    assert {name for name, _ in used} == {"start", "symmetric-run"}
    passed_on = {option for parameter in commands["start"].params for option in parameter.opts}
    for name, option in used:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert option in known | (passed_on if name == "symmetric-run" else set()), (name, option)
