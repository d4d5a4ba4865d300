"""Problems are grouped, and the first of them is raised where nobody collects."""

from pathlib import Path

import pytest

from panoptic_deeplab.data.problems import Problems, collected, of_one_kind
from panoptic_deeplab.errors import DatasetError

FILE = Path("set/a.json")


def test_nothing_wrong_is_no_error() -> None:
    with collected(None) as problems:
        assert problems.messages() == []


def test_the_first_problem_is_raised_with_the_number_of_others() -> None:
    problems = Problems()
    problems.add("one", FILE, "is no object.", place="images[0]")
    with pytest.raises(DatasetError) as caught:
        problems.raise_any()
    assert str(caught.value) == "set/a.json: images[0] is no object."
    problems.add("two", FILE, "is too long.")
    with pytest.raises(DatasetError) as caught:
        problems.raise_any()
    assert str(caught.value) == (
        "set/a.json: images[0] is no object. There are problems of one other kind (2 in all): `panoptic-deeplab data"
        " check` lists them."
    )


def test_without_somebody_who_collects_they_are_raised() -> None:
    with pytest.raises(DatasetError, match="is too long"), collected(None) as problems:
        problems.add("two", FILE, "is too long.")


def test_whoever_collects_gets_all() -> None:
    mine = Problems()
    with collected(mine) as problems:
        for place in range(6):
            problems.add("one", FILE, "is no object.", place=f"images[{place}]", image_id="7")
        problems.add("two", FILE, "is too long.")
    assert mine.messages() == [
        (
            "set/a.json: images[0] is no object. The same is wrong with images[1], images[2], images[3] and 2 more.",
            "7",
        ),
        ("set/a.json is too long.", None),
    ]
    assert mine.image_ids == {"7"}


def test_faults_of_images_are_of_one_kind_where_names_and_numbers_alone_differ() -> None:
    faults = [
        ("a1", "/set/labels/a1.png has id 255 at (y=0, x=3), which the table 'x' does not list."),
        ("b", "/set/b.jpg does not exist."),
        ("a2", "/set/labels/a2.png has id 7 at (y=10, x=33), which the table 'x' does not list."),
        ("c.tif", "/set/c.tif.jpg does not exist."),
        ("d", "Nothing is known."),
    ]
    kinds = of_one_kind(faults)
    assert [[name for name, _ in kind] for kind in kinds] == [["a1", "a2"], ["b", "c.tif"], ["d"]]
    assert kinds[0][0] == faults[0]
