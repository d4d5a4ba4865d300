"""The page "The network on one page" builds our network."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from panoptic_deeplab import ModelConfig, PanopticDeepLab

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "the-network-on-one-page.md"


@pytest.fixture(scope="module")
def code() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


def test_it_is_the_same_network(code: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    torch.manual_seed(0)
    ours = PanopticDeepLab(ModelConfig(backbone="resnet50"), num_classes=19).eval()
    theirs = names["Network"](19).eval()
    weights, places = list(ours.state_dict().values()), theirs.state_dict()
    assert [tuple(value.shape) for value in weights] == [tuple(value.shape) for value in places.values()]
    theirs.load_state_dict(dict(zip(places, weights, strict=True)))
    image = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        maps = ours(image)
        semantic, center, offset = theirs(image)
    for expected, got in ((maps.semantic_logits, semantic), (maps.center_heatmap, center), (maps.offset, offset)):
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


def test_it_is_about_sixty_lines(code: str) -> None:
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 62
