"""What other people's programs, systems and accidents make of label files, in every format.

Each fault is either read right (the labels equal those of the clean set) or told in one sentence: where it is, what was
expected, what to do. `data check` names all of them in one run.
"""

import codecs
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from panoptic_deeplab.cli import main
from panoptic_deeplab.data.check import CheckReport, check_source
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import ConfigError, DatasetError

pytest.importorskip("pycocotools")

Write = Callable[..., Any]


def checked(made: Any) -> CheckReport | str:
    """What `data check` finds; the sentence alone where the set cannot be opened."""
    problems = Problems()
    try:
        source = open_source(made.data, "train", problems)
    except (DatasetError, ConfigError) as error:
        return str(error)
    return check_source(
        source, labels_needed=True, instances_needed=False, top_k=9, max_detections=9, problems=problems
    )


def errors(made: Any) -> list[str]:
    """The lines with which `data check` names what is wrong, each a sentence or a few."""
    report = checked(made)
    lines = [report] if isinstance(report, str) else re.findall(r"^error.*", report.table(), re.M)
    for line in lines:
        assert "\n" not in line
        assert line.endswith((".", "?")), line
        assert len(line) < 1200, line
    return lines


def check_named(made: Any, *words: str, count: int = 1) -> None:
    """See that a fault is told in so many sentences, the first of which has these words, and that training refuses."""
    lines = errors(made)
    assert len(lines) == count, lines
    for word in words:
        assert word in lines[0], (word, lines)
    with pytest.raises((DatasetError, ConfigError)):
        made.read()


def test_the_clean_sets_are_read(way: str, write_set: Write) -> None:
    made = write_set(way)
    assert errors(made) == []
    found = made.read()
    assert len(found) == 3
    for map_, segments in found.values():
        areas = sorted((name, sum(row.count(id_) for row in map_), crowd) for id_, name, crowd in segments)
        if made.format == "color_masks":
            assert areas == [("Fußgänger", 32, True), ("road, wet", 24, False)]
        elif made.table["categories"][0]["name"] == "Zelle":
            assert areas == [("Glas", 64, False), ("Zelle", 16, False), ("Zelle", 16, False)]
        else:
            assert areas == [("Fußgänger", 16, False), ("Fußgänger", 16, False), ("road, wet", 24, False)]


READ_RIGHT: dict[str, Callable[[str], bytes]] = {
    "mark of UTF-8": lambda text: codecs.BOM_UTF8 + text.encode(),
    "two marks of UTF-8": lambda text: 2 * codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16, big-endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines at the end": lambda text: text.encode() + b"\n \n\n",
}


@pytest.mark.parametrize("kind", READ_RIGHT)
def test_text_of_every_system_is_read_right(way: str, kind: str, write_set: Write) -> None:
    made = write_set(way)
    expected = made.read()
    for path in (*made.texts, *made.lists):
        path.write_bytes(READ_RIGHT[kind](path.read_text("utf-8")))
    assert made.read() == expected
    assert errors(made) == []


def _folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _truncated(path: Path) -> None:
    content = path.read_bytes()
    cut = content[: len(content) * 3 // 5]
    if path.suffix == ".txt" and path.parent.parent.name == "labels":
        cut = content[: content.rindex(b" ")]  # between x and y: elsewhere, nobody could know
    path.write_bytes(cut)


SPOILED: dict[str, Callable[[Path], object]] = {
    "UTF-16 without a mark": lambda path: path.write_bytes(path.read_text("utf-8").encode("utf-16-le")),
    "UTF-32": lambda path: path.write_bytes(path.read_text("utf-8").encode("utf-32")),
    "latin-1": lambda path: path.write_bytes(path.read_text("utf-8").encode("latin-1")),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": _truncated,
    "a folder in its place": _folder_in_its_place,
    "a picture": lambda path: Image.new("RGB", (4, 4)).save(path, format="PNG"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_text_that_is_spoiled_is_named(way: str, fault: str, write_set: Write) -> None:
    clean = write_set(way)
    clean.data  # noqa: B018 (writes the table)
    for place in (path.relative_to(clean.root) for path in (*clean.texts, *clean.lists)):
        made = write_set(way)
        made.data  # noqa: B018
        path = made.root / place
        if fault == "empty" and "labels" in place.parts:
            continue  # an image without objects, as YOLO means it
        if fault == "latin-1" and path.read_bytes().isascii():
            continue
        SPOILED[fault](path)
        lines = errors(made)
        assert lines, (place, fault)
        assert len(lines) == 1 or (fault == "truncated" and path.suffix != ".json"), lines
        assert path.stem in lines[0], (place, lines)
        with pytest.raises((DatasetError, ConfigError)):
            made.read()


@pytest.mark.parametrize("fault", ["truncated", "empty", "a folder in its place", "a text", "zeros"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_picture_that_is_spoiled_is_named(way: str, kind: str, fault: str, write_set: Write) -> None:
    made = write_set(way)
    if not getattr(made, kind):
        return
    path = getattr(made, kind)[0]
    content = path.read_bytes()
    if fault == "a folder in its place":
        _folder_in_its_place(path)
    else:
        spoiled = {"truncated": content[: len(content) * 2 // 3], "empty": b"", "a text": b"a text", "zeros": bytes(99)}
        path.write_bytes(spoiled[fault])
    lines = errors(made)
    assert 1 <= len(lines) <= 3, lines  # labels whose image is absent are named too
    assert path.stem in lines[0], lines
    with pytest.raises((DatasetError, ConfigError)):
        made.read()
    report = checked(made)
    if kind == "labels" and isinstance(report, CheckReport):
        assert report.statistics.images == 2  # the others are read all the same


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".jpeg", ".Tif"])
def test_suffixes_of_every_kind_are_read(way: str, suffix: str, write_set: Write) -> None:
    assert write_set(way, suffix=suffix).read() == write_set(way).read()


def test_upper_case_suffixes_of_texts_and_labels_are_read_or_named(way: str, write_set: Write) -> None:
    expected = write_set(way).read()
    for kind in ("texts", "lists", "labels"):
        made = write_set(way)
        for path in getattr(made, kind):
            if path.name != "table.json":
                path.rename(path.with_suffix(path.suffix.upper()))
        if way == "coco_panoptic" and kind == "labels":  # the JSON names each PNG
            check_named(made, "panoptic_train", "There is", ".PNG'")
        else:
            assert made.read() == expected, kind


def test_images_whose_suffix_is_in_other_letters_than_their_name(way: str, write_set: Write) -> None:
    made, expected = write_set(way), write_set(way).read()
    for path in made.images:
        path.rename(path.with_suffix(".PNG"))
    if made.format in ("coco_instances", "coco_panoptic", "cvat"):  # two files can differ so
        check_named(made, NAMED_FILE[made.format], ".PNG'")
    else:
        assert made.read() == expected


NAMED_FILE = {"coco_instances": ".json", "coco_panoptic": "", "cvat": "train.xml"}


@pytest.mark.parametrize("label", ["{}_mask.png", "{}_label.PNG", "{}-seg.png"])
def test_labels_with_a_tail_behind_the_name_are_read(way: str, label: str, write_set: Write) -> None:
    assert write_set(way, label=label).read() == write_set(way).read()


WRITTEN: dict[str, Callable[[str], str]] = {
    "backslashes": lambda name: name.replace("/", "\\"),
    "a dot in front": lambda name: f"./{name}",
    "a dot and a backslash": lambda name: ".\\" + name.replace("/", "\\"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_paths_of_windows_are_read(way: str, kind: str, write_set: Write) -> None:
    assert write_set(way, written=WRITTEN[kind]).read() == write_set(way).read()


@pytest.mark.parametrize("before", ["C:\\Users\\me\\set\\", "/home/me/set/", "D:/set/", "\\\\server\\set\\"])
def test_absolute_paths_of_another_machine_are_read_or_named(way: str, before: str, write_set: Write) -> None:
    made = write_set(way, written=lambda name: before + name.replace("../", "").replace("/", before[-1]))
    if made.format in ("coco_instances", "coco_panoptic", "cvat"):
        check_named(made, NAMED_FILE[made.format], "Expected a path inside of it", "The same is wrong with")
    else:
        assert made.read() == write_set(way).read()


@pytest.mark.parametrize("suffix", ["", ".png", ".PNG"])
def test_lists_with_and_without_suffixes(way: str, suffix: str, write_set: Write) -> None:
    made = write_set(way)
    if made.lists:
        path = made.lists[0]
        path.write_text("".join(f"{line.strip()}{suffix}\n" for line in path.read_text("utf-8").splitlines()), "utf-8")
        assert made.read() == write_set(way).read()


def test_a_name_in_a_list_that_is_not_there(way: str, write_set: Write) -> None:
    made = write_set(way)
    if made.lists:
        path = made.lists[0]
        path.write_text(path.read_text("utf-8") + "d\n\nc\ne.png\n", "utf-8")
        lines = errors(made)
        assert len(lines) == 2, lines
        assert any("entry 4" in line and "'d'" in line and "entry 6" in line for line in lines), lines
        assert any("entry 5" in line and "twice" in line for line in lines), lines


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e300", "1" + 40 * "0"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_no_coordinates(way: str, number: str, write_set: Write) -> None:
    made = write_set(way)
    places = {
        "coco_instances": ("1.0", "annotations[0]"),
        "labelme": ("1", "shapes[0]"),
        "cvat": ("1.0", "image[0].polygon[0]"),
        "yolo": (f"{1 / 12} ", "line 1"),
    }
    if made.format not in places:
        return
    path, (old, place) = made.texts[0], places[made.format]
    text = path.read_text("utf-8")
    start = text.index('"points"') if made.format == "labelme" else text.index("points") if way == "cvat" else 0
    if made.format == "coco_instances":
        start = text.index('"segmentation"')
    at = text.index(old, start)
    path.write_text(text[:at] + number.lower().replace("infinity", "inf") + text[at + len(old.strip()) :], "utf-8")
    if path.suffix == ".json":
        path.write_text(text[:at] + number + text[at + len(old) :], "utf-8")
    check_named(made, path.name, place)


@pytest.mark.parametrize("number", [*NUMBERS, '"7"', "null", "-1", "true", "[]", "{}", "1.5"])
@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "height", "width", "iscrowd", "area", "bbox"])
def test_numbers_of_coco_that_are_no_ids(key: str, number: str, write_set: Write) -> None:
    for way in ("coco_roboflow", "coco_panoptic"):
        made = write_set(way)
        path = made.texts[0]
        document = json.loads(path.read_text("utf-8"))
        for part in ("images", "annotations"):
            entry = document[part][0]
            if part == "annotations" and "segments_info" in entry and key != "image_id":
                entry = entry["segments_info"][0]
            entry.setdefault(key, "placeholder") if key in ("iscrowd", "area", "bbox", "height", "width") else None
            if key in entry:
                entry[key] = "placeholder"
        path.write_text(json.dumps(document).replace('"placeholder"', number), "utf-8")
        lines = errors(made)  # none is a traceback
        if key in ("image_id", "category_id") and number not in ("-1", '"7"'):
            assert any("annotations[0]" in line for line in lines), lines


@pytest.mark.parametrize("attribute", ["width", "height", "z_order", "group_id", "rotation"])
@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "", "x", "-1", "99999999999"])
def test_attributes_of_cvat_that_are_no_numbers(attribute: str, number: str, write_set: Write) -> None:
    made = write_set("cvat")
    path = made.texts[0]
    text = path.read_text("utf-8").replace('z_order="0"', 'z_order="0" group_id="0" rotation="0"', 1)
    path.write_text(re.sub(f'{attribute}="[^"]*"', f'{attribute}="{number}"', text, count=1), "utf-8")
    lines = errors(made)
    assert all("train.xml" in line for line in lines)
    if number in ("nan", "x") and attribute != "rotation":
        assert lines


def test_a_mask_of_cvat_that_claims_a_gigantic_size(write_set: Write) -> None:
    made = write_set("cvat")
    path = made.texts[0]
    mask = f'<mask label="Fußgänger" left="0" top="0" width="1000000" height="1000000" rle="{10**12}"/>'
    text = path.read_text("utf-8")
    path.write_text(text.replace("</image>", f"{mask}</image>", 1), "utf-8")
    check_named(made, "image[0].mask[3]")


def test_files_that_differ_in_case_alone(way: str, write_set: Write) -> None:
    made = write_set(way, names=("a", "A", "b"))
    assert len(made.read()) == 3
    assert errors(made) == []


def test_two_files_of_one_name_that_differ_in_their_suffix(way: str, write_set: Write) -> None:
    for kind in ("texts", "images", "labels"):
        made = write_set(way)
        made.data  # noqa: B018
        paths = [path for path in getattr(made, kind) if path.suffix in (".png", ".json", ".txt", ".tif")]
        single = ("_annotations.coco", "instances_train", "train", "panoptic_train", "classes", "labelmap", "table")
        if not paths or paths[0].stem in single:
            continue
        shutil.copy(paths[0], paths[0].with_suffix(paths[0].suffix.upper()))
        if made.format in ("coco_instances", "coco_panoptic") or (kind == "labels" and made.format == "object_masks"):
            continue  # the JSON names its files; each mask is an object
        if kind == "images" and made.format in ("cvat", "labelme"):
            continue  # named with their suffix
        lines = errors(made)
        assert lines, (kind, paths[0])
        assert any(paths[0].stem in line for line in lines), lines


MANY = 2000
MANY_AT_ONCE = ("coco_roboflow", "coco_cvat", "labelme_beside", "cvat", "yolo")


def test_one_broken_entry_among_thousands(way: str, write_set: Write) -> None:
    count = MANY if way in MANY_AT_ONCE else 50  # where each image has files of its own, reading them takes long
    names = tuple(f"n{number:04}" for number in range(count))
    broken = f"n{count * 2 // 3:04}"
    made = write_set(way, names=names)
    if made.labels:
        path = next(path for path in made.labels if broken in str(path))
        path.write_bytes(path.read_bytes()[:40])
    elif made.format == "coco_instances":
        path = made.texts[0]
        document = json.loads(path.read_text("utf-8"))
        document["annotations"][count * 2]["segmentation"] = [[1, 2, 3]]
        path.write_text(json.dumps(document), "utf-8")
        broken = f"annotations[{count * 2}]"
    elif made.format == "cvat":
        path = made.texts[0]
        lines = path.read_text("utf-8").splitlines()
        at = next(number for number, line in enumerate(lines) if broken in line)
        lines[at + 1] = lines[at + 1].replace(".0,", ".0;", 1)
        path.write_text("\n".join(lines), "utf-8")
        broken = f"image[{count * 2 // 3}].polygon[0]"
    else:
        path = next(path for path in made.texts if broken in path.name)
        path.write_text(path.read_text("utf-8")[:-5], "utf-8")
    if way in MANY_AT_ONCE:
        problems = Problems()
        assert len(open_source(made.data, "train", problems)) == count
        ((line, _),) = problems.messages()
    else:
        (line,) = errors(made)
    assert broken in line


def test_three_faults_in_three_files_are_named_in_one_run(
    way: str, write_set: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"n{number:02}" for number in range(20))
    made = write_set(way, names=names)
    made.images[0].write_bytes(b"\x89PNG\r\n\x1a\n")  # corrupt
    (tmp_path / "gone").mkdir()
    made.images[1].rename(tmp_path / "gone" / "image")  # absent
    for number, path in enumerate(made.images[5:15], start=5):  # ten times one fault
        if made.format == "yolo":  # whose numbers fit images of any size
            made.texts[number].write_text("0 .1 .1 .9 .9\n")
        else:
            Image.new("RGB", (7, 7)).save(path)
    expected = ["n00", "n01", "n05"]
    options = [
        *("--data.format", made.format, "--data.root", str(made.root)),
        *("--data.categories", made.data.categories, "--data.train-split", "train"),
    ]
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", *options])
    printed = capfd.readouterr()
    assert ended.value.code == 1, printed
    lines = re.findall(r"^error.*", printed.out, re.M)
    for name in expected:
        assert any(name in line for line in lines), (name, lines)
    assert 3 <= len(lines) <= 5, lines  # labels whose image is absent are named too
    assert any("9 others" in line or "and 6 more" in line for line in lines), lines
    assert "Traceback" not in printed.out + printed.err
