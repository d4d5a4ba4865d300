"""Formats of other tools, and the round trip to disk."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.errors import DatasetError, OutputError
from panoptic_deeplab.results.coco import (
    to_coco_instances,
    to_coco_panoptic,
    to_rle,
    to_rles,
)
from panoptic_deeplab.results.ids import rgb_to_id
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.results.saved import load_result, save_result

CATEGORIES = CategoryTable(
    name="test",
    categories=(
        Category(id=7, name="road", isthing=False, color=(128, 64, 128), dataset_ids=(7, 8)),
        Category(id=26, name="car", isthing=True, color=(0, 0, 142)),
    ),
)


@pytest.fixture
def result() -> PanopticResult:
    panoptic_map = np.zeros((6, 8), np.int32)
    panoptic_map[3:] = 70_000  # an id that needs all three bytes
    panoptic_map[1:4, 1:3] = 2
    panoptic_map[2:5, 5:8] = 300
    return PanopticResult(
        panoptic_map=panoptic_map,
        segments_info=[
            Segment(id=2, category_id=26, name="car", isthing=True, area=6, bbox=(1, 1, 2, 3), score=0.25),
            Segment(id=300, category_id=26, name="car", isthing=True, area=9, bbox=(5, 2, 3, 3), score=0.5),
            Segment(id=70_000, category_id=7, name="road", isthing=False, area=16, bbox=(0, 3, 8, 3), score=0.75),
        ],
        categories=CATEGORIES,
        semantic_map=np.where(panoptic_map == 70_000, 0, 1).astype(np.uint8),
    )


def _decode(rle: dict) -> np.ndarray:
    from pycocotools import mask as coco_mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its compiled part, with NumPy 2
        return coco_mask.decode(rle)


def test_coco_panoptic_lists_every_id_of_its_png_but_void(result):
    annotation, rgb = to_coco_panoptic(result, 17, "17.png")
    assert annotation["image_id"] == 17
    assert annotation["file_name"] == "17.png"
    assert rgb.dtype == np.uint8
    assert np.array_equal(rgb_to_id(rgb), result.panoptic_map)
    assert {row["id"] for row in annotation["segments_info"]} == set(np.unique(result.panoptic_map)) - {0}
    assert annotation["segments_info"][0] == {
        "id": 2, "category_id": 26, "area": 6, "bbox": [1, 1, 2, 3], "iscrowd": 0, "score": 0.25,
    }  # fmt: skip


def test_coco_panoptic_of_truth_has_no_score(result):
    truth = replace(result, segments_info=[replace(s, score=None, iscrowd=True) for s in result.segments_info])
    rows = to_coco_panoptic(truth, 1, "1.png")[0]["segments_info"]
    assert all("score" not in row and row["iscrowd"] == 1 for row in rows)


def test_records_are_plain_python(result):
    records = [to_coco_panoptic(result, 1, "1.png")[0], to_coco_instances(result, 1)]
    assert json.loads(json.dumps(records)) == records


def test_coco_instances_are_things_best_first_with_exact_masks(result):
    records = to_coco_instances(result, 5)
    assert [(r["image_id"], r["category_id"], r["score"], r["bbox"]) for r in records] == [
        (5, 26, 0.5, [5, 2, 3, 3]),
        (5, 26, 0.25, [1, 1, 2, 3]),
    ]
    for record, id_ in zip(records, (300, 2), strict=True):
        assert np.array_equal(_decode(record["segmentation"]), result.panoptic_map == id_)


def test_coco_instances_leave_crowds_out_and_give_truth_score_one(result):
    crowd, car, road = result.segments_info
    truth = replace(result, segments_info=[replace(crowd, iscrowd=True), replace(car, score=None), road])
    assert [(r["bbox"], r["score"]) for r in to_coco_instances(truth, 5)] == [([5, 2, 3, 3], 1.0)]


def test_empty_result_gives_empty_lists():
    empty = PanopticResult(panoptic_map=np.zeros((2, 3), np.int32), segments_info=[], categories=CATEGORIES)
    assert to_coco_instances(empty, 1) == []
    assert to_coco_panoptic(empty, 1, "1.png")[0]["segments_info"] == []


def test_rle_counts_are_text_in_column_order():
    mask = np.array([[False, True, True], [False, False, True]])
    rle = to_rle(mask)
    assert rle["size"] == [2, 3]
    assert isinstance(rle["counts"], str)
    assert np.array_equal(_decode(rle), mask)


def test_one_pass_gives_the_run_lengths_of_pycocotools():
    from pycocotools import mask as coco_mask

    panoptic_map = np.random.default_rng(0).integers(0, 4, (13, 9)).astype(np.int32)
    panoptic_map[-1, -1] = 3  # a run that ends with the image
    panoptic_map[0, 0] = 1  # a run that begins with it
    for segment_id, rle in zip((3, 1, 7), to_rles(panoptic_map, [3, 1, 7]), strict=True):
        expected = coco_mask.encode(np.asfortranarray(panoptic_map == segment_id, np.uint8))
        assert rle == {"size": [13, 9], "counts": expected["counts"].decode("ascii")}
    assert to_rles(np.ones((2, 3), np.int32), []) == []


@pytest.mark.parametrize("count", [0, 1, 255, 256, 1000])
def test_any_number_of_objects(count):
    panoptic_map = np.zeros((40, 50), np.int32)
    panoptic_map.ravel()[:count] = np.arange(1, count + 1)
    segments = [
        Segment(id=n + 1, category_id=26, name="car", isthing=True, area=1, bbox=(n % 50, n // 50, 1, 1), score=0.5)
        for n in range(count)
    ]
    records = to_coco_instances(
        PanopticResult(panoptic_map=panoptic_map, segments_info=segments, categories=CATEGORIES), 1
    )
    assert len(records) == count
    for segment, record in zip(segments, records, strict=True):
        assert np.array_equal(_decode(record["segmentation"]), panoptic_map == segment.id)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((3, 4), bool),
        np.ones((1, 1), bool),
        np.ones((1, 300), bool),
        np.ones((300, 1), bool),
        np.ones((300, 400), bool),
        np.kron(np.indices((70, 70)).sum(0) % 2 == 0, np.eye(4, dtype=bool) | np.eye(4, dtype=bool)[::-1]),
        np.zeros((0, 4), bool),
        np.zeros((0, 0), bool),
    ],
)
def test_masks_of_any_size_and_number_of_parts(mask):
    assert np.array_equal(_decode(to_rle(mask)), mask)


def test_ids_of_the_png_may_be_others_and_link_to_ours(result):
    ids = [0x8090A0, 255, 77]
    annotation, rgb = to_coco_panoptic(result, 1, "1.png", png_ids=ids)
    rows = annotation["segments_info"]
    assert [(row["id"], row["segment_id"]) for row in rows] == list(zip(ids, (2, 300, 70_000), strict=True))
    assert np.array_equal(rgb_to_id(rgb) == 0x8090A0, result.panoptic_map == 2)
    assert np.array_equal(rgb_to_id(rgb) == 0, result.panoptic_map == 0)
    records = to_coco_instances(result, 1, png_ids=ids)
    assert [(record["id"], record["segment_id"]) for record in records] == [(255, 300), (0x8090A0, 2)]


@pytest.mark.parametrize("stem", ["street", "berlin/street.v2"])
def test_saved_result_comes_back_equal(result, tmp_path, stem):
    path = save_result(result, tmp_path / "new", stem)
    assert path == tmp_path / "new" / f"{stem}.json"
    assert path.with_name(f"{path.name[:-5]}.png").is_file()
    loaded = load_result(path)
    assert np.array_equal(loaded.panoptic_map, result.panoptic_map)
    assert loaded.panoptic_map.dtype == np.int32
    assert np.array_equal(loaded.semantic_map, result.semantic_map)
    assert loaded.segments_info == result.segments_info
    assert loaded.categories == result.categories


@pytest.mark.parametrize(
    "stem", ["../street", "/street", "a/../../street", "C:\\street", "~/street", "a\0b", 300 * "x", ""]
)
def test_a_stem_that_leads_elsewhere_or_names_no_file_is_refused(result, tmp_path, stem):
    with pytest.raises(DatasetError, match=r"The stem of a result names the file .*Expected|lies outside"):
        save_result(result, tmp_path / "inner", stem)
    assert list(tmp_path.iterdir()) == []


def test_results_know_the_home_folder_and_a_file_is_no_folder(result, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_result(result, "~/results", "a") == tmp_path / "results" / "a.json"
    assert load_result("~/results/a.json").segments_info == result.segments_info
    with pytest.raises(OutputError, match=r"a\.json cannot be written"):
        save_result(result, tmp_path / "results" / "a.json", "b")
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        save_result(result, "~/results", 253 * "x")


def test_truth_without_semantic_map_comes_back_equal(result, tmp_path):
    segments = [replace(s, score=None, iscrowd=s.isthing) for s in result.segments_info]
    loaded = load_result(save_result(replace(result, segments_info=segments, semantic_map=None), tmp_path, "a"))
    assert loaded.segments_info == segments
    assert loaded.semantic_map is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.png"]


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_files_that_contradict_each_other_are_errors(result, tmp_path):
    path = save_result(result, tmp_path, "a")
    rows = json.loads(path.read_text())["segments_info"]
    _edit(path, segments_info=rows[1:])
    with pytest.raises(DatasetError, match="has id 2 at"):
        load_result(path)
    _edit(path, segments_info=[rows[0] | {"category_id": 99}, *rows[1:]])
    with pytest.raises(DatasetError, match="category_id 99"):
        load_result(path)
    _edit(path, segments_info=rows, size=[6, 9])
    with pytest.raises(DatasetError, match=r"Expected mode RGB and 6 x 9"):
        load_result(path)


def test_result_never_reads_outside_its_folder(result, tmp_path):
    path = save_result(result, tmp_path / "inner", "a")
    Image.open(path.with_name("a.png")).save(tmp_path / "a.png")
    _edit(path, file_name="../a.png")
    with pytest.raises(DatasetError, match="plain name without a folder"):
        load_result(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format_version": 1}'])
def test_other_json_files_are_errors(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"a\.json"):
        load_result(path)


def test_missing_and_corrupt_files_and_later_versions_are_errors(result, tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json"):
        load_result(tmp_path / "none.json")
    path = save_result(result, tmp_path, "a")
    path.with_name("a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a\.png"):
        load_result(path)
    _edit(path, format_version=2)
    with pytest.raises(DatasetError, match="version 2"):
        load_result(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 2.0}, "entry 0 of segments_info is not a segment .* `id` must hold whole numbers, got 2.0"),
        ({"category_id": 26.9}, "`category_id` must hold whole numbers, got 26.9"),
        ({"area": None}, "`area` must hold whole numbers, got None"),
        ({"area": 7}, r"a\.json: segments_info says that segment 2 \(car\) has 7 pixels, but the map has 6"),
        ({"bbox": [1, 1, 2.5, 3]}, "`bbox` must hold whole numbers, got 2.5"),
        ({"bbox": [1, 1, 2]}, "entry 0 of segments_info is not a segment"),
        ({"bbox": [7, 1, 2, 3]}, "leaves the map"),
        ({"iscrowd": 0.9}, "`iscrowd` must be true or false, got 0.9"),
        ({"iscrowd": None}, "`iscrowd` must be true or false, got None"),
        ({"isthing": "no"}, "`isthing` must be true or false, got 'no'"),
        ({"score": "0.5"}, "`score` must be a number or null, got '0.5'"),
        ({"score": 1e999}, "Segment 2 has the score inf"),
        ({"name": 5}, "`name` must be text, got 5"),
        ({"id": 2**70}, "an id of more than 64 bits"),
    ],
)
def test_a_segment_that_is_not_what_was_saved_is_named(result, tmp_path, change, message):
    path = save_result(result, tmp_path, "a")
    first, *others = json.loads(path.read_text())["segments_info"]
    _edit(path, segments_info=[first | change, *others])
    with pytest.raises(DatasetError, match=message):
        load_result(path)


@pytest.mark.parametrize("change", [{"size": [6.5, 8]}, {"size": None}, {"segments_info": [7]}, {"file_name": None}])
def test_other_values_of_the_json_are_errors(result, tmp_path, change):
    path = save_result(result, tmp_path, "a")
    _edit(path, **change)
    with pytest.raises(DatasetError, match=r"a\.json"):
        load_result(path)


def test_a_link_out_of_the_folder_is_not_followed(result, tmp_path):
    path = save_result(result, tmp_path / "inner", "a")
    path.with_name("a.png").rename(tmp_path / "secret.png")
    path.with_name("a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DatasetError, match="lies outside"):
        load_result(path)


def test_a_result_that_contradicts_itself_is_not_written(result, tmp_path):
    wrong = replace(result, segments_info=[replace(result.segments_info[0], area=1), *result.segments_info[1:]])
    for write in (
        lambda: save_result(wrong, tmp_path, "a"),
        lambda: to_coco_panoptic(wrong, 1, "a.png"),
        lambda: to_coco_instances(wrong, 1),
    ):
        with pytest.raises(DatasetError, match=r"segment 2 \(car\) has 1 pixels, but the map has 6"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written(result, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"a\.png cannot be written: No space left on device"):
        save_result(result, tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


UNTYPED = """
import numpy as np
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.conversions import to_polygons
from panoptic_deeplab.results.coco import to_rle, to_rles
cube, flags, numbers = np.zeros((2, 2, 2), bool), np.zeros((2, 2), bool), np.full((2, 2), 255, np.uint8)
calls = [(f, (m,)) for f in (to_rle, to_polygons) for m in (cube, cube[0, 0], numbers, numbers / 255, None, [[True]])]
calls += [(to_rles, (m, [1])) for m in (cube.astype(int), cube[0, 0].astype(int), numbers / 255, flags, None, [[1]])]
for function, arguments in calls:
    try:
        function(*arguments)
    except DatasetError as error:
        print(error)
"""


def test_what_is_no_mask_or_map_is_one_sentence():
    """In a process without the type checks of the tests, as users have it."""
    done = subprocess.run([sys.executable, "-c", UNTYPED], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 18
    assert all("must be an array of" in line for line in lines)
