"""Category tables: the class, and the ones that come with the package."""

import json
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.categories import Category, CategoryTable, packaged_tables
from panoptic_deeplab.errors import ConfigError

ROWS = [
    {"id": 7, "name": "road", "isthing": False, "color": [128, 64, 128]},
    {"id": 3, "name": "animal", "isthing": True, "color": [1, 2, 3], "dataset_ids": [20, 21]},
]
TABLE = CategoryTable.from_json({"name": "farm", "categories": ROWS, "void_ids": [0, -1]})


def test_train_ids_follow_the_order_of_the_table():
    assert len(TABLE) == TABLE.num_classes == 2
    assert TABLE[1].name == "animal"
    assert TABLE.thing_mask.tolist() == [False, True]
    assert TABLE.colors.tolist() == [[128, 64, 128], [1, 2, 3]]
    assert TABLE.train_id_by_dataset_id == {7: 0, 20: 1, 21: 1}
    assert TABLE.train_id_by_category_id == {7: 0, 3: 1}


def test_json_round_trip():
    assert CategoryTable.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 7}, r"Each id .*farm.* must be unique. Listed twice: \[7\]"),
        ({"name": "road"}, r"Each name .*\['road'\]"),
        ({"dataset_ids": [7]}, r"Each dataset id .*\[7\]"),
        ({"dataset_ids": [0]}, r"Each dataset id .*\[0\]"),
        ({"color": [1, 2]}, "is not a category table"),
        ({"isthing": "yes"}, "is not a category table.*isthing"),
        ({"isthing": 7}, "is not a category table.*isthing"),
        ({"color": [1, 2, 256]}, r"Category 'animal' of table 'farm' must have a color .* 0 to 255. Got \(1, 2, 256\)"),
        ({"color": [1, 2, -1]}, "0 to 255"),
        ({"color": [1, 2, 3.5]}, "`color` must hold integers, got 3.5"),
        ({"id": -3}, r"must have ids of at least 0 and at most 2147483647. Got \[-3, 20, 21\]"),
        ({"dataset_ids": [20, -1]}, "must have ids of at least 0"),
        ({"id": "7"}, "`id` must hold integers, got '7'"),
        ({"id": 1.7}, "`id` must hold integers, got 1.7"),
        ({"id": True}, "`id` must hold integers, got True"),
        ({"dataset_ids": ["20"]}, "`dataset_ids` must hold integers, got '20'"),
    ],
)
def test_wrong_tables(changes, message):
    with pytest.raises(ConfigError, match=message):
        CategoryTable.from_json({"name": "farm", "categories": [ROWS[0], {**ROWS[1], **changes}], "void_ids": [0]})


def test_the_class_of_what_nobody_annotated():
    data = {"name": "farm", "categories": ROWS, "unlabeled": "road"}
    table = CategoryTable.from_json(data)
    assert table.unlabeled_id == 7
    assert CategoryTable.from_json(table.to_json()) == table
    assert TABLE.unlabeled_id is None
    joined = {**ROWS[0], "dataset_ids": [30, 31]}
    assert CategoryTable.from_json({**data, "categories": [joined, ROWS[1]]}).unlabeled_id == 30
    for wrong in ("animal", "raod"):
        with pytest.raises(ConfigError, match=r"must be the name of a stuff class. Got .*road"):
            CategoryTable.from_json({**data, "unlabeled": wrong})
    with pytest.raises(ConfigError, match=r"is not a category table.*`unlabeled` must be text"):
        CategoryTable.from_json({**data, "unlabeled": 7})


@pytest.mark.parametrize("count", [0, 256])
def test_number_of_categories(count):
    categories = tuple(Category(id=i, name=str(i), isthing=False, color=(0, 0, 0)) for i in range(count))
    with pytest.raises(ConfigError, match=f"1 to 255 categories. 'many' has {count}"):
        CategoryTable(name="many", categories=categories)


def test_load_from_a_file(tmp_path: Path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(TABLE.to_json()))
    assert CategoryTable.load(path) == CategoryTable.load(str(path)) == TABLE
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"own.json is not valid JSON"):
        CategoryTable.load(path)
    with pytest.raises(ConfigError, match="Did you mean `cityscapes`"):
        CategoryTable.load("cityscape")


@pytest.mark.parametrize(
    ("name", "things", "stuff"),
    [
        ("cityscapes", 8, 11),
        ("coco", 80, 53),
        ("coco27", 12, 15),
        ("mapillary_vistas_v1.2", 37, 28),
        ("mapillary_vistas_v2.0", 70, 46),
        ("facades", 4, 6),
        ("nuclei", 1, 1),
        ("synthetic", 4, 6),
    ],
)
def test_packaged_tables(name, things, stuff):
    table = CategoryTable.load(name)
    assert table.name == name
    assert (int(table.thing_mask.sum()), int((~table.thing_mask).sum())) == (things, stuff)
    if name != "mapillary_vistas_v2.0":  # its authors give kinds of one thing the same color
        assert len(np.unique(table.colors, axis=0)) == len(table)


def test_every_packaged_table_is_tested():
    mapillary = {"mapillary_vistas_v1.2", "mapillary_vistas_v2.0"}
    assert set(packaged_tables()) == {"cityscapes", "coco", "coco27", "facades", "nuclei", "synthetic"} | mapillary


def test_cityscapes_knows_every_label_id():
    table = CategoryTable.load("cityscapes")
    assert {*table.train_id_by_dataset_id, *table.void_ids} == set(range(-1, 34))
    assert [table[t].name for t in (0, 10, 11, 18)] == ["road", "sky", "person", "bicycle"]
    assert table.train_id_by_dataset_id[26] == 13


def test_coco27_joins_the_ids_of_coco():
    coco, merged = CategoryTable.load("coco"), CategoryTable.load("coco27")
    assert set(merged.train_id_by_dataset_id) == set(coco.train_id_by_dataset_id)
    assert [c.id for c in merged.categories] == list(range(1, 28))
    for dataset_id, train_id in coco.train_id_by_dataset_id.items():
        assert coco[train_id].isthing == merged[merged.train_id_by_dataset_id[dataset_id]].isthing


RECORDED = Path(__file__).resolve().parents[1] / "reference" / "class_tables"
Row = tuple[int, str, bool, tuple[int, ...]]


def rows_of(name: str) -> list[Row]:
    return [(c.id, c.name, c.isthing, c.color) for c in CategoryTable.load(name).categories]


def recorded(name: str) -> list[list[str]]:
    return [line.split(";") for line in (RECORDED / f"{name}.txt").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", ["cityscapes", "coco", "mapillary_vistas_v1.2", "mapillary_vistas_v2.0"])
def test_every_row_is_as_recorded_and_in_its_place(name: str) -> None:
    """Published weights depend on the order: two rows that change places would give every wall the name of a fence."""
    expected: list[Row] = []
    for category_id, label, kind, color, *_ in recorded(name):
        assert kind in ("thing", "stuff")
        expected.append((int(category_id), label, kind == "thing", tuple(map(int, color.split(",")))))
    assert rows_of(name) == expected


def test_cityscapes_equals_the_labels_of_its_scripts() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    evaluated = sorted((label for label in labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert [label.trainId for label in evaluated] == list(range(19))
    assert rows_of("cityscapes") == [(label.id, label.name, label.hasInstances, label.color) for label in evaluated]
    assert set(CategoryTable.load("cityscapes").void_ids) == {label.id for label in labels if label not in evaluated}


def test_both_versions_of_mapillary_vistas_agree_on_what_they_share() -> None:
    """Things of v2.0 have no other record. That trains ("On Rails") are stuff in v1.2 is an oddity of that version."""
    old, new = ({name: thing for _, name, thing, _ in rows_of(f"mapillary_vistas_{v}")} for v in ("v1.2", "v2.0"))
    assert {name for name in old.keys() & new.keys() if old[name] != new[name]} == {"On Rails"}


def test_coco27_is_made_of_the_supercategories() -> None:
    """Things first, each kind in the order of its names."""
    members: dict[tuple[bool, str], list[int]] = {}
    for category_id, _, kind, _, supercategory in recorded("coco"):
        members.setdefault((kind == "stuff", supercategory), []).append(int(category_id))
    expected = [(name, not is_stuff, tuple(ids)) for (is_stuff, name), ids in sorted(members.items())]
    assert [(c.name, c.isthing, c.dataset_ids) for c in CategoryTable.load("coco27").categories] == expected


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("nuclei", ["nucleus", "background"]),
        (
            "synthetic",
            ["road", "sidewalk", "building", "vegetation", "terrain", "sky", "person", "car", "bicycle", "ball"],
        ),
    ],
)
def test_tables_of_our_own_keep_their_order(name: str, rows: list[str]) -> None:
    """Checkpoints of ours were trained with it."""
    assert [(c.id, c.name) for c in CategoryTable.load(name).categories] == list(enumerate(rows, start=1))


def test_coco_tables_equal_their_sources(shared_folder):
    official = json.loads((shared_folder / "fixtures/panopticapi_sample/panoptic_coco_categories.json").read_text())
    table = CategoryTable.load("coco")
    assert [(c.id, c.name, c.isthing, list(c.color)) for c in table.categories] == [
        (row["id"], row["name"], bool(row["isthing"]), row["color"]) for row in official
    ]
    merged = json.loads((shared_folder / "data/coco128_panoptic/supercategories27.json").read_text())
    table = CategoryTable.load("coco27")
    assert [c.name for c in table.categories] == merged["names"]
    assert np.flatnonzero(table.thing_mask).tolist() == merged["things"]
    assert table.train_id_by_dataset_id == {int(i): t for i, t in merged["category_id_to_index"].items()}


def test_names_of_a_merged_table():
    row = {"id": 1, "name": "animal", "isthing": True, "color": [1, 2, 3], "dataset_ids": [16, 17]}
    named = row | {"dataset_names": ["bird", "cat"]}
    table = CategoryTable.from_json({"name": "merged", "categories": [named]})
    assert [table[0].dataset_name(i) for i in (16, 17)] == ["bird", "cat"]
    assert CategoryTable.from_json(table.to_json()) == table
    unnamed = CategoryTable.from_json({"name": "merged", "categories": [row]})
    assert unnamed[0].dataset_name(16) is None
    assert "dataset_names" not in unnamed.to_json()["categories"][0]
    for wrong in (["bird"], "bc", [1, 2], None):
        with pytest.raises(ConfigError, match="dataset_names"):
            CategoryTable.from_json({"name": "merged", "categories": [row | {"dataset_names": wrong}]})


def test_the_packaged_merged_table_names_what_it_merges():
    coco = {c.id: c.name for c in CategoryTable.load("coco").categories}
    for category in CategoryTable.load("coco27").categories:
        assert [coco[i] for i in category.dataset_ids] == list(category.dataset_names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "`name` must be text, got None"),
        ({"name": ["a"]}, r"`name` must be text, got \['a'\]"),
        ({"name": " "}, "`name` must be text"),
        ({"id": 10**30}, "ids of at least 0 and at most 2147483647"),
    ],
)
def test_names_are_text_and_ids_fit(change: dict[str, object], said: str) -> None:
    row = {"id": 1, "name": "a", "isthing": True, "color": [0, 0, 0]}
    with pytest.raises(ConfigError, match=said):
        CategoryTable.from_json({"name": "t", "categories": [row | change]})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_tables_in_any_encoding_of_unicode(tmp_path: Path, encoding: str) -> None:
    row = {"id": 1, "name": "Straße", "isthing": True, "color": [0, 0, 0]}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"name": "t", "categories": [row]}, ensure_ascii=False), encoding)
    if encoding == "latin-1":
        with pytest.raises(ConfigError, match=r"table\.json is no text in UTF-8.*Save it as UTF-8\.$"):
            CategoryTable.load(path)
    else:
        assert CategoryTable.load(path)[0].name == "Straße"
