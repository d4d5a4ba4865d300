import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.images import prepare
from panoptic_deeplab.images.prepare import read_for
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.visualize.maps import thing_pixels
from panoptic_deeplab.weights.folder import save_pretrained

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
    expected = {"id", "category_id", "name", "isthing", "area", "bbox", "iscrowd", "score", "objectness_score"}
    assert all(set(segment) == expected for segment in image["segments_info"])
    assert sum(segment["area"] for segment in image["segments_info"]) <= 50 * 70


def test_all_files(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    save = ("--save", "overlay", "panoptic", "semantic", "instances", "maps")
    options = ("--output", output, *save, "--postprocess.stuff-area-limit", "0")
    outcome = run("predict", photo, "--model", model_folder, *options)
    names = [
        "photo_overlay.png",
        "photo_panoptic.png",
        "photo_semantic.png",
        "photo_heatmap.png",
        "photo_offset.png",
        "panoptic.json",
        "instances.json",
        "images.json",
    ]
    assert outcome.out.split() == [str(output / name) for name in names]
    assert sorted(file.name for file in output.iterdir()) == sorted(names)
    document = json.loads((output / "panoptic.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": str(photo), "height": 50, "width": 70}]
    ids = rgb_to_id(np.asarray(Image.open(output / "photo_panoptic.png")))
    listed = {segment["id"] for segment in document["annotations"][0]["segments_info"]}
    assert set(np.unique(ids)) - {0} == listed
    assert [c["id"] for c in document["categories"]] == list(range(1, 11))
    assert document["annotations"][0]["file_name"] == "photo_panoptic.png"
    assert isinstance(json.loads((output / "instances.json").read_text()), list)
    table = json.loads((output / "images.json").read_text())
    assert table == {"images": document["images"], "categories": document["categories"]}
    for name in names[:5]:
        with Image.open(output / name) as picture:
            assert picture.size == (70, 50)


def test_pattern_keeps_the_subfolders(run: Run, model_folder: Path, two_photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--output", output, "--save", "panoptic", "--batch-size", "2")
    outcome = run("predict", f"{two_photos}/**/*.jpg", "--model", model_folder, *options)
    assert outcome.code == 0
    first, second = (np.asarray(Image.open(output / name)) for name in ("a/1_panoptic.png", "b/1_panoptic.png"))
    assert (first == second).all()
    annotations = json.loads((output / "panoptic.json").read_text())["annotations"]
    assert [annotation["file_name"] for annotation in annotations] == ["a/1_panoptic.png", "b/1_panoptic.png"]


def test_image_named_twice_is_predicted_once(run: Run, model_folder: Path, photo: Path) -> None:
    outcome = run("predict", photo, photo.parent, "--model", model_folder, "--json")
    assert len(json.loads(outcome.out)["images"]) == 1


@pytest.mark.parametrize(
    ("other", "options", "words"),
    [
        ("photo.png", [], ["photo_overlay.png would be written for", "photo.jpg", "photo.png"]),
        ("photo_heatmap.png", ["--output", "."], ["photo_overlay.png would be written"]),
        ("photo_overlay.png", ["--output", "."], ["photo_overlay.png is one of the images to predict"]),
        ("photo_panoptic.png", ["--output", "../photos"], ["photo_panoptic.png is one of the images to predict"]),
    ],
)
def test_names_that_would_collide_are_refused_before_anything_is_written(
    run: Run,
    model_folder: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: str,
    options: list[str],
    words: list[str],
) -> None:
    folder = photo.parent / "photos"
    folder.mkdir()
    monkeypatch.chdir(folder)
    photo.rename(folder / photo.name)
    Image.open(photo.name).save(other)
    if other == "photo_heatmap.png":
        Image.open(photo.name).save("photo.webp")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    outcome = run("predict", folder, "--model", model_folder, *(options or ["--output", photo.parent / "out"]))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: ")
    assert all(word in outcome.err for word in words)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_names_that_become_too_long_are_refused_before_anything_is_written(
    run: Run, model_folder: Path, photo: Path
) -> None:
    long = photo.with_name(250 * "n" + photo.suffix)
    long.write_bytes(photo.read_bytes())
    outcome = run("predict", photo, long, "--model", model_folder, "--output", photo.parent / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: The result of ")
    assert "no name may have more than 255 bytes" in outcome.err
    assert list((photo.parent / "out").iterdir()) == []


def test_output_beside_the_image(run: Run, model_folder: Path, photo: Path) -> None:
    before = photo.read_bytes()
    assert run("predict", photo, "--model", model_folder, "--output", photo.parent).code == 0
    assert photo.read_bytes() == before
    names = {"photo.jpg", "photo_overlay.png", "photo_panoptic.png", "panoptic.json"}
    assert {path.name for path in photo.parent.iterdir()} == names


def test_paths_that_lead_upwards_stay_in_the_output_folder(
    run: Run, model_folder: Path, two_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (two_photos / "work" / "deep").mkdir(parents=True)
    monkeypatch.chdir(two_photos / "work" / "deep")
    outcome = run(
        "predict", "../../a/1.jpg", "../../b/1.jpg", "--model", model_folder, "--output", "out", "--save", "panoptic"
    )
    assert outcome.out.split() == ["out/a/1_panoptic.png", "out/b/1_panoptic.png", "out/panoptic.json"]
    written = {str(path.relative_to(two_photos)) for path in two_photos.rglob("*") if path.is_file()}
    assert written == {"a/1.jpg", "b/1.jpg", *(f"work/deep/{name}" for name in outcome.out.split())}


def test_semantic_picture_holds_train_ids_with_the_colors_of_the_classes(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "semantic")
    expected = PanopticPredictor.from_pretrained(model_folder).predict(photo)
    assert expected.semantic_map is not None
    with Image.open(tmp_path / "out" / "photo_semantic.png") as picture:
        assert (np.asarray(picture) == expected.semantic_map).all()
        assert (np.asarray(picture.convert("RGB")) == expected.categories.colors[expected.semantic_map]).all()


def test_offsets_are_painted_on_things_only(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "maps")
    things = thing_pixels(PanopticPredictor.from_pretrained(model_folder).predict(photo))
    assert 0 < things.mean() < 1
    with Image.open(tmp_path / "out" / "photo_offset.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[~things] == 255).all()
    assert (pixels[things] != 255).any()


def test_figure_shows_all_steps_side_by_side(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--output", tmp_path / "out", "--save", "figure")
    assert outcome.out.split() == [str(tmp_path / "out" / "photo_figure.png")]
    with Image.open(tmp_path / "out" / "photo_figure.png") as picture:
        assert picture.width > 6 * 420


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jpg", ["ImageError: ", "missing.jpg"]),
        ("folder", ["ImageError: ", "folder"]),
    ],
)
def test_no_image(run: Run, model_folder: Path, tmp_path: Path, name: str, words: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    outcome = run("predict", tmp_path / name, "--model", model_folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert all(word in outcome.err for word in words)


BROKEN = {"broken.jpg": b"\xff\xd8\xff\xe0 no image", "empty.png": b""}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_images_that_cannot_be_read_are_listed_and_all_others_predicted(
    run: Run, model_folder: Path, two_photos: Path, tmp_path: Path, batch_size: int
) -> None:
    for name, content in BROKEN.items():
        (two_photos / "a" / name).write_bytes(content)
    output = tmp_path / "out"
    options = ("--output", output, "--batch-size", batch_size, "--json")
    outcome = run("predict", two_photos / "a", two_photos / "b", "--model", model_folder, *options)
    assert outcome.code == 1
    document = json.loads(outcome.out)
    assert [image["image"] for image in document["images"]] == [str(two_photos / f"{x}/1.jpg") for x in "ab"]
    assert [failure["image"] for failure in document["failed"]] == [str(two_photos / "a" / name) for name in BROKEN]
    for failure in document["failed"]:
        assert f"ImageError: {failure['error']}\n" in outcome.err
    assert "2 of 4 images could not be predicted." in outcome.err
    panoptic = json.loads((output / "panoptic.json").read_text())
    assert [image["file_name"] for image in panoptic["images"]] == [str(two_photos / f"{x}/1.jpg") for x in "ab"]
    names = {"a/1_overlay.png", "a/1_panoptic.png", "b/1_overlay.png", "b/1_panoptic.png", "panoptic.json"}
    assert {str(path.relative_to(output)) for path in output.rglob("*.*")} == names


def test_interruption_leaves_the_table_of_what_was_done(
    run: Run, model_folder: Path, two_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, *settings: Any, **how: Any) -> Any:
        if path.parent.name == "b":
            raise KeyboardInterrupt
        return read_for(path, *settings, **how)

    monkeypatch.setattr(prepare, "read_for", interrupted)
    options = ("--output", tmp_path / "out", "--save", "panoptic")
    outcome = run("predict", f"{two_photos}/**/*.jpg", "--model", model_folder, *options)
    assert outcome.code == 130
    document = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [annotation["file_name"] for annotation in document["annotations"]] == ["a/1_panoptic.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "needs at least one image"),
        (["--batch-size", "0"], "`batch_size` must be positive"),
        (["--save", "panoptic"], "Name one with --output"),
        (["--save", "maps", "--output", "out", "--batch-size", "2"], "`save` maps goes image by image"),
        (["--save", "figure", "--output", "out", "--batch-size", "2"], "`save` figure goes image by image"),
    ],
)
def test_arguments_that_make_no_sense(
    run: Run, model_folder: Path, photo: Path, options: list[str], message: str
) -> None:
    outcome = run("predict", *([photo] if options else []), "--model", model_folder, *options)
    assert outcome.code == 2
    assert outcome.err.startswith("ConfigError: ")
    assert message in outcome.err


def test_a_batch_may_be_as_large_as_one_likes(run: Run, model_folder: Path, photo: Path) -> None:
    assert run("predict", photo, "--model", model_folder, "--batch-size", 10**20).code == 0


def test_maps_of_a_model_without_instance_heads(run: Run, photo: Path, tmp_path: Path, tiny_config: Config) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, instance_branch=False))
    categories = CategoryTable.load("synthetic")
    save_pretrained(tmp_path / "m", PanopticDeepLab(config.model, 10), config=config, categories=categories)
    command = ("predict", photo, "--model", tmp_path / "m", "--output", tmp_path / "out", "--save")
    for product in ("maps", "figure"):
        outcome = run(*command, product)
        assert outcome.code == 2
        assert outcome.err.startswith(f"ConfigError: `save` {product} needs a model with instance heads")
    assert run(*command, "semantic").code == 0


@pytest.mark.parametrize("name", ["photo.jpg", "photo.jpg/below"])
def test_output_that_is_a_file_is_refused_at_once(run: Run, model_folder: Path, photo: Path, name: str) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--output", photo.parent / name)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("ConfigError: `output`")
    assert outcome.err.count("\n") == 1


def test_a_missing_exported_file_is_called_a_file(run, photo, tmp_path):
    outcome = run("predict", photo, "--model", tmp_path / "nope.onnx", "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "There is no model file" in outcome.err


def _listed(folder: Path, name: str) -> list[tuple[int, str]]:
    return [(row["id"], Path(row["file_name"]).name) for row in json.loads((folder / name).read_text())["images"]]


def _copies(photo: Path, *names: str) -> list[Path]:
    paths = [photo.with_name(name) for name in names]
    for path in paths:
        path.write_bytes(photo.read_bytes())
    return paths


def test_a_second_call_adds_to_the_json_of_the_first(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    first, second, third = _copies(photo, "a.jpg", "b.jpg", "c.jpg")
    output = tmp_path / "out"
    command = ("--model", model_folder, "--output", output, "--postprocess.stuff-area-limit", "0", "--save")
    assert run("predict", first, *command, "panoptic").code == 0
    assert run("predict", second, third, *command, "panoptic", "instances").code == 0
    assert run("predict", first, *command, "instances").code == 0  # new files for an image listed in another one
    assert _listed(output, "panoptic.json") == [(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")]
    assert _listed(output, "images.json") == [(2, "b.jpg"), (3, "c.jpg"), (1, "a.jpg")]
    document = json.loads((output / "panoptic.json").read_text())
    assert [row["image_id"] for row in document["annotations"]] == [1, 2, 3]
    assert len(document["categories"]) == 10
    assert {row["image_id"] for row in json.loads((output / "instances.json").read_text())} <= {1, 2, 3}


def test_images_of_one_relative_path_in_two_folders_are_two_images(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("x", "y")]
    for folder in folders:
        folder.mkdir()
        (folder / "same.jpg").symlink_to(photo)
    command = ("--model", model_folder, "--output", tmp_path / "out", "--save", "instances")
    monkeypatch.chdir(folders[0])
    assert run("predict", "same.jpg", *command).code == 0
    monkeypatch.chdir(folders[1])
    assert run("predict", "same.jpg", *command).code == 0
    images = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    assert [(row["id"], row["file_name"]) for row in images] == [
        (number, str(folder / "same.jpg")) for number, folder in enumerate(folders, start=1)
    ]
    again = run("predict", "../x/same.jpg", *command)
    assert (again.code, "lists the image ../x/same.jpg of an earlier call" in again.err) == (2, True)


def test_nothing_of_an_earlier_call_is_replaced(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for products, file in ((("overlay",), "photo_overlay.png"), (("instances",), "images.json")):
        command = ("predict", photo, "--model", model_folder, "--output", output, "--save", *products)
        assert run(*command).code == 0
        before = {path: path.read_bytes() for path in output.iterdir()}
        outcome = run(*command)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("ConfigError: ")
        assert outcome.err.count("\n") == 1
        assert file in outcome.err
        assert {path: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("panoptic.json", "{", "is not valid JSON"),
        ("panoptic.json", "[]", "is not from `predict`"),
        ("panoptic.json", '{"images": [], "annotations": [], "categories": [], "info": {}}', "is not from `predict`"),
        ("panoptic.json", '{"images": [{"id": "a", "file_name": "a"}], "annotations": [], "categories": []}', "is not"),
        ("panoptic.json", '{"images": [], "annotations": [], "categories": []}', "lists other classes than those"),
        ("instances.json", "[]", "has only one of instances.json and images.json"),
    ],
)
def test_a_json_that_cannot_be_added_to_is_kept(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    outcome = run("predict", photo, "--model", model_folder, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == text


def test_a_call_without_a_result_writes_no_table(run: Run, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    options = ("--model", model_folder, "--output", tmp_path / "out", "--save", "panoptic", "instances")
    assert run("predict", tmp_path / "empty.png", *options).code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_whole_files_only(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = Image.Image.save

    def fills_up(picture: Image.Image, path: Path, **options: Any) -> None:
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        saved.append(str(path))
        save(picture, path, **options)

    _copies(photo, "a.jpg")
    monkeypatch.setattr(Image.Image, "save", fills_up)
    outcome = run("predict", f"{photo.parent}/*.jpg", "--model", model_folder, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert "photo_panoptic.png cannot be written: No space left on device" in outcome.err
    assert outcome.err.count("\n") == 1
    names = {"a_overlay.png", "a_panoptic.png", "photo_overlay.png", "panoptic.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert _listed(tmp_path / "out", "panoptic.json") == [(1, "a.jpg")]


def test_what_a_folder_holds_and_nobody_reads_is_named(
    run: Run, model_folder: Path, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / "a.jfif")
    (folder / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "broken.png").symlink_to(folder / "gone.png")
    outcome = run("predict", folder, "--model", model_folder, "--json")
    assert outcome.code == 1
    document = json.loads(outcome.out)
    assert [image["image"] for image in document["images"]] == [str(folder / "a.jfif")]
    assert [failure["image"] for failure in document["failed"]] == [str(folder / "b.heic"), str(folder / "broken.png")]


def test_what_was_left_out_is_said(run: Run, model_folder: Path, photo: Path, tmp_path: Path) -> None:
    limit = ("--postprocess.stuff-area-limit", "1000000")
    options = (photo, "--model", model_folder, *limit, "--explain")
    printed = run("predict", *options)
    assert printed.code == 0
    head, line, *_ = printed.out[printed.out.index("Left out of ") :].splitlines()
    assert head.startswith(f"Left out of {photo}, in pixels of the network's input of ")
    assert line.startswith("  stuff classes below stuff_area_limit 1000000: ")

    document = json.loads(run("predict", *options, "--json").out)
    (image,) = document["images"]
    dropped = image["dropped"]
    assert dropped["small_stuff"]
    assert not any(not segment["isthing"] for segment in image["segments_info"])
    assert dropped["settings"]["stuff_area_limit"] == 1000000

    files = run("predict", *options, "--output", tmp_path / "out", "--save", "maps")
    assert line in files.out
    assert (tmp_path / "out" / "photo_heatmap.png").is_file()
    assert "Left out" not in run("predict", photo, "--model", model_folder, *limit).out


def test_explanations_go_image_by_image(run: Run, model_folder: Path, photo: Path) -> None:
    outcome = run("predict", photo, "--model", model_folder, "--explain", "--batch-size", "2")
    assert outcome.code != 0
    assert "`explain` goes image by image" in outcome.err
