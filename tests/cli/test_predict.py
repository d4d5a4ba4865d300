import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.encoding import rgb_to_id

Run = Callable[..., Any]


@pytest.fixture
def two_photos(photo: Path) -> Path:
    """A folder with two images in two subfolders, and one of them again at the top."""
    folder = photo.parent / "photos"
    for name in ("a/1.jpg", "b/1.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(photo.read_bytes())
    return folder


def test_segments_are_printed(run: Run, model_folder: Path, photo: Path) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--postprocess.stuff-area-limit", "0")
    assert outcome.code == 0
    assert "50 x 70 (height x width)" in outcome.out
    assert "stuff" in outcome.out or "thing" in outcome.out


def test_json_covers_the_image(run: Run, model_folder: Path, photo: Path) -> None:
    options = ("--postprocess.stuff-area-limit", "0", "--device", "cpu", "--json")
    document = json.loads(run("predict", photo, "--model", model_folder, *options).out)
    (image,) = document["images"]
    assert (image["image"], image["size"], document["files"]) == (str(photo), [50, 70], [])
    assert image["segments_info"]
    expected = {"id", "category_id", "name", "isthing", "area", "bbox", "iscrowd", "score"}
    assert all(set(segment) == expected for segment in image["segments_info"])
    assert sum(segment["area"] for segment in image["segments_info"]) <= 50 * 70


def test_all_files(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    save = ("--save", "overlay", "panoptic", "instances", "maps")
    options = ("--output", output, *save, "--postprocess.stuff-area-limit", "0")
    outcome = run("predict", photo, "--model", model_folder, *options)
    names = [
        "photo_overlay.png",
        "photo.png",
        "photo_heatmap.png",
        "photo_offset.png",
        "panoptic.json",
        "instances.json",
    ]
    assert outcome.out.split() == [str(output / name) for name in names]
    assert sorted(file.name for file in output.iterdir()) == sorted(names)
    document = json.loads((output / "panoptic.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": str(photo), "height": 50, "width": 70}]
    ids = rgb_to_id(np.asarray(Image.open(output / "photo.png")))
    listed = {segment["id"] for segment in document["annotations"][0]["segments_info"]}
    assert set(np.unique(ids)) - {0} == listed
    assert [c["id"] for c in document["categories"]] == list(range(1, 11))
    assert isinstance(json.loads((output / "instances.json").read_text()), list)
    for name in names[:4]:
        with Image.open(output / name) as picture:
            assert picture.size == (70, 50)


def test_pattern_keeps_the_subfolders(run: Run, model_folder: Path, two_photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--output", output, "--save", "panoptic", "--batch-size", "2")
    outcome = run("predict", f"{two_photos}/**/*.jpg", "--model", model_folder, *options)
    assert outcome.code == 0
    first, second = (np.asarray(Image.open(output / name)) for name in ("a/1.png", "b/1.png"))
    assert (first == second).all()
    annotations = json.loads((output / "panoptic.json").read_text())["annotations"]
    assert [annotation["file_name"] for annotation in annotations] == ["a/1.png", "b/1.png"]


def test_image_named_twice_is_predicted_once(run: Run, model_folder: Path, photo: Path) -> None:
    outcome = run("predict", photo, photo.parent, "--model", model_folder, "--json")
    assert len(json.loads(outcome.out)["images"]) == 1


def test_names_that_would_collide_are_refused(run: Run, model_folder: Path, photo: Path) -> None:
    Image.open(photo).save(photo.with_suffix(".png"))
    outcome = run("predict", photo.parent, "--model", model_folder)
    assert outcome.code == 2
    assert outcome.err.startswith("ImageError: ")
    assert "differ only in their suffix" in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jpg", None, ["ImageError: ", "missing.jpg"]),
        ("broken.jpg", b"\xff\xd8\xff\xe0 no image", ["ImageError: ", "broken.jpg", "cannot be read"]),
        ("empty.png", b"", ["ImageError: ", "empty.png"]),
    ],
)
def test_unreadable_image(
    run: Run, model_folder: Path, tmp_path: Path, name: str, content: bytes | None, words: list[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    outcome = run("predict", path, "--model", model_folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert all(word in outcome.err for word in words)


@pytest.mark.parametrize("options", [[], ["--batch-size", "0"]])
def test_arguments_that_make_no_sense(run: Run, model_folder: Path, photo: Path, options: list[str]) -> None:
    images = [photo] if options else []
    outcome = run("predict", *images, "--model", model_folder, *options)
    assert outcome.code == 2
    assert outcome.err.startswith("ConfigError: ")
