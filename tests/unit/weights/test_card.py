"""The model card: what data call themselves is text in it."""

import yaml

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, DataConfig, ModelConfig
from panoptic_deeplab.weights.card import Results, model_card

HOSTILE = (
    "a\n\n# Title | `code` <script>alert(1)</script> [link](https://evil.example) ![x](http://evil.example)\n---\nb"
)


def _card(name: str, *, table: str | None = None) -> str:
    categories = CategoryTable(
        name=name,
        categories=(
            Category(id=1, name=name, isthing=True, color=(0, 0, 0)),
            Category(id=2, name=f"{name} 2", isthing=False, color=(0, 0, 1)),
        ),
    )
    config = Config(
        data=DataConfig(train_split=name, val_split=name), model=ModelConfig(backbone=name, weights=f"hf://{name}")
    )
    results = Results(metrics={"PQ": 0.5}, provenance="Measured.", table=table)
    return model_card(config, categories, results=results)


def test_names_are_no_markup() -> None:
    front, _, text = _card(HOSTILE, table=f"name  PQ\n{HOSTILE}\n```\n<b>").removeprefix("---\n").partition("\n---\n")
    entry = yaml.safe_load(front)["model-index"][0]
    assert "\n" not in entry["name"]
    assert entry["results"][0]["metrics"] == [{"type": "pq", "name": "PQ", "value": 0.5}]
    lines = _outside_of_code(text.splitlines())
    assert [line.partition(",")[0] for line in lines if line.startswith("#")] == [
        "# Panoptic-DeepLab", "## Results", "## Use", "## Recipe", "## Classes", "## License", "## Limits",
    ]  # fmt: skip
    text = "\n".join(line for line in lines if not line.startswith("Panoptic segmentation:"))  # has a span of code
    assert "script" in text
    for markup in ("<script", " [link]", " ![x]", "https:", " # Title", "| `"):
        assert markup not in text


def _outside_of_code(lines: list[str]) -> list[str]:
    kept: list[str] = []
    fence = None
    for line in lines:
        if fence is None and line.startswith("```"):
            fence = line.rstrip("abcdefghijklmnopqrstuvwxyz")
        elif line == fence:
            fence = None
        elif fence is None:
            kept.append(line)
    assert fence is None
    return kept


def test_usual_names_stay_readable() -> None:
    card = _card("traffic light-other")
    assert "\nThings: traffic light-other.\n" in card
    assert "Training began with the weights of `hf://traffic light-other`." in card
