"""CVAT for images 1.1."""

from pathlib import Path

import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.data.formats.cvat import CvatSource
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError

pytest.importorskip("pycocotools")

TABLE = CategoryTable(
    name="street",
    categories=(
        Category(id=4, name="car", isthing=True, color=(1, 1, 1)),
        Category(id=2, name="road", isthing=False, color=(2, 2, 2)),
    ),
)


def write(root: Path, body: str, *, name: str = "train.xml", encoding: str = "utf-8", image: str = "a.png") -> Path:
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", (6, 4)).save(root / "images" / image)
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotations><version>1.1</version><meta/>{body}</annotations>", encoding)
    return path


def image(*shapes: str, name: str = "a.png", subset: str = "") -> str:
    return f'<image id="7" name="{name}" subset="{subset}" width="6" height="4">{"".join(shapes)}</image>'


def box(label: str, *corners: float, **others: object) -> str:
    places = " ".join(f'{k}="{v}"' for k, v in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    return f'<box label="{label}" {places} {" ".join(f"{k}={str(v)!r}" for k, v in others.items())}/>'


def read(root: Path, **options) -> list[list[int]]:
    return CvatSource(root, "train", TABLE, **options)[0].panoptic_map.tolist()


def problems_of(root: Path) -> Problems:
    problems = Problems()
    CvatSource(root, "train", TABLE, problems=problems)
    return problems


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_outlines_of_every_kind(tmp_path, encoding):
    polygon = '<polygon label="road" points="0,0;6,0;6,1;0,1"/>'
    mask = '<mask label="car" rle="1,2,1" left="0" top="2" width="2" height="2"/>'
    ellipse = '<ellipse label="car" cx="5" cy="3" rx="1" ry="1"/>'
    write(tmp_path, image(polygon, mask, box("car", 2, 2, 3, 4), ellipse), encoding=encoding)
    sample = CvatSource(tmp_path, "train", TABLE)[0]
    assert sample.image_id == "a"
    assert sample.panoptic_map.tolist() == [[1] * 6, [0] * 6, [0, 2, 3, 0, 4, 4], [2, 0, 3, 0, 4, 4]]
    assert [s.name for s in sample.segments_info] == ["road", "car", "car", "car"]


def test_boxes_and_ellipses_may_be_turned(tmp_path):
    write(tmp_path, image(box("car", 0.5, 1.5, 4.5, 2.5, rotation=90)))
    assert [sum(row) for row in read(tmp_path)] == [1, 1, 1, 1]  # one column
    write(tmp_path, image('<ellipse label="car" cx="2" cy="2" rx="2" ry="0.6" rotation="90"/>'))
    assert read(tmp_path)[0] == read(tmp_path)[3]


def test_groups_join_outlines_of_one_class(tmp_path):
    shapes = [
        box("car", 0, 0, 1, 4, group_id=3),
        box("road", 2, 0, 3, 4, group_id=3),
        box("car", 4, 0, 6, 4, group_id=3),
    ]
    write(tmp_path, image(*shapes))
    assert read(tmp_path) == [[1, 0, 2, 0, 1, 1]] * 4


def test_overlaps_follow_the_rule(tmp_path):
    write(tmp_path, image(box("car", 0, 0, 3, 4, z_order=2), box("car", 2, 0, 6, 4, z_order=1)))
    assert read(tmp_path)[0] == [1, 1, 1, 2, 2, 2]
    assert read(tmp_path, overlap="file")[0] == [1, 1, 2, 2, 2, 2]
    assert read(tmp_path, overlap="z_order")[0] == [1, 1, 1, 2, 2, 2]


def test_subsets_of_one_file(tmp_path):
    write(
        tmp_path,
        image(subset="val") + image(box("car", 0, 0, 6, 4), subset="train", name="b.png"),
        name="annotations.xml",
    )
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "b.png")
    source = CvatSource(tmp_path, "train", TABLE)
    assert list(source.image_ids) == ["b"]
    with pytest.raises(DatasetError, match="has no image of the subset 'test'"):
        CvatSource(tmp_path, "test", TABLE)


def test_all_that_is_wrong_is_named_at_once(tmp_path):
    broken = '<box label="car" xtl="a" ytl="0" xbr="1" ybr="1"/>'
    line = '<polyline label="car" points="0,0;1,1"/>'
    body = image(box("cars", 0, 0, 1, 1), broken, line, '<polygon label="car" points="0,0;1,1"/>')
    body += image(name="../b.png") + image(name="c.png") + image(name="a.png")
    write(tmp_path, body)
    problems = problems_of(tmp_path)
    messages = [message for message, _ in problems.messages()]
    assert any("image[0].box[0] names the class 'cars', which the table 'street' does not" in m for m in messages)
    assert any("image[0].box[1] is no box that can be read" in m for m in messages)
    assert any("image[0].polygon[3] has a polygon of 4 numbers" in m for m in messages)
    assert any("image[1] names the file '../b.png', which lies outside" in m for m in messages)
    assert any("image[2] names the file 'c.png', which is not in" in m for m in messages)
    assert any("image[3] names 'a.png', as an image before it" in m for m in messages)
    assert len(messages) == 6
    assert "1 of kind 'polyline', first" in problems.warnings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "has a document type"),
        ("<annotations>", "is no XML, or is truncated"),
        ("<annotation/>", "is no XML of CVAT, but <annotation>"),
        ("<annotations><track/></annotations>", "is of a video"),
    ],
)
def test_files_that_are_not_of_cvat(tmp_path, text, message):
    write(tmp_path, "").write_text(text)
    with pytest.raises(DatasetError, match=message):
        CvatSource(tmp_path, "train", TABLE)
    with pytest.raises(DatasetError, match="Split 'val' is not in"):
        CvatSource(tmp_path, "val", TABLE)


def test_an_image_of_another_size_is_refused(tmp_path):
    write(tmp_path, image(box("car", 0, 0, 6, 4)))
    Image.new("RGB", (4, 6)).save(tmp_path / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"\(4, 6\), but it has \(6, 4\)"):
        CvatSource(tmp_path, "train", TABLE)[0]
