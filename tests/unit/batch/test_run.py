"""The loop of a batch: what it does where images cannot be had."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from panoptic_deeplab.batch.inputs import Item, UnreachableError, list_images
from panoptic_deeplab.batch.keep import Progress
from panoptic_deeplab.batch.run import run_batch
from panoptic_deeplab.batch.store import ResultStore
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")
pytest.importorskip("pycocotools")


@pytest.fixture(scope="module")
def predictor(tiny_config: Config) -> PanopticPredictor:
    categories = CategoryTable.load("synthetic")
    torch.manual_seed(0)
    network = PanopticDeepLab(tiny_config.model, num_classes=len(categories))
    return PanopticPredictor.from_network(network, categories, tiny_config, device="cpu")


def _put(name: str, count: int, pixels: np.ndarray) -> list[str]:
    """The URLs of images in memory."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    for number in range(count):
        fsspec.filesystem("memory").pipe_file(f"/{name}/{number:02d}.png", content.getvalue())
    return [f"memory:///{name}/{number:02d}.png" for number in range(count)]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], bool]], None]:
    """Lets the reading of those paths fail for which a function is true."""
    kind = fsspec.get_filesystem_class("memory")
    cat_file = kind.cat_file

    def set_up(fails: Callable[[str], bool]) -> None:
        def broken(self: object, path: str) -> bytes:
            if fails(path):
                raise TimeoutError("no answer")
            content: bytes = cat_file(self, path)
            return content

        monkeypatch.setattr(kind, "cat_file", broken)

    return set_up


def _errors(folder: Path) -> list[str]:
    path = folder / "errors.jsonl"
    return [json.loads(line)["image"] for line in path.read_text("ascii").splitlines()] if path.exists() else []


GRAY = np.full((40, 40, 3), 90, np.uint8)


def test_an_image_whose_place_does_not_answer_is_tried_again_at_the_end(
    predictor: PanopticPredictor, breaking: Callable[..., None], tmp_path: Path
) -> None:
    urls = _put("twice", 6, GRAY)
    asked: dict[str, int] = {}

    def fails(path: str) -> bool:
        asked[path] = asked.get(path, 0) + 1
        return path.endswith("03.png") or (path.endswith("01.png") and asked[path] == 1)

    breaking(fails)
    seen: list[Progress] = []
    items = list_images(urls)
    with ResultStore(tmp_path, {}) as store:
        run_batch(predictor, items, store, on_progress=seen.append)
        assert store.finished == {item.key for item in items}
    assert _errors(tmp_path) == [items[3].key]
    assert asked["/twice/01.png"] == asked["/twice/03.png"] == 2
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6]


def test_a_run_stops_where_nothing_answers_and_goes_on_later(
    predictor: PanopticPredictor, breaking: Callable[..., None], tmp_path: Path
) -> None:
    urls = _put("cut", 30, GRAY)
    items, is_down = list_images(urls), [True]
    breaking(lambda path: is_down[0] and path > "/cut/04")
    with ResultStore(tmp_path, {}) as store:
        with pytest.raises(UnreachableError, match=r"10 images one after another cannot be had: .*no answer"):
            run_batch(predictor, items, store)
        assert len(store.finished) == 4
    assert _errors(tmp_path) == []
    is_down[0] = False
    with ResultStore(tmp_path, {}) as store:
        run_batch(predictor, items, store)
        store.finish([])
        assert len(store.finished) == 30
    assert _errors(tmp_path) == []


def test_a_warning_names_the_image_and_not_its_copy(predictor: PanopticPredictor, tmp_path: Path) -> None:
    (url,) = _put("dark", 1, np.full((40, 40), 900, np.uint16))
    with ResultStore(tmp_path, {}) as store:
        run_batch(predictor, [Item("dark", url)], store)
    (row,) = [json.loads(line) for line in (tmp_path / "pending.jsonl").read_text("ascii").splitlines()]
    assert row["warning"].startswith(f"{url} has 16 bits a channel")
