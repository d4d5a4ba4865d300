"""Files of class names that are not as they should be are one sentence each."""

from pathlib import Path

import pytest

from panoptic_deeplab.data.recognize.class_names import class_names_in
from panoptic_deeplab.errors import DatasetError


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("class_dict.csv", "name,r,g,b\ncar,999,2,3\n", "gives 'car' the color 999, 2, 3"),
        ("class_dict.csv", "name,r,g,b\ncar,0,2,3\n" + "x" * 140_000, "cannot be read as CSV"),
        ("labelmap.txt", f"car:{'1' * 5000},0,0::\n", "entry 1 is"),
    ],
)
def test_what_is_no_color_or_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DatasetError, match=message):
        class_names_in([tmp_path])


def test_a_number_beyond_all_masks_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "_classes.csv").write_text(f"Pixel Value, Class\n1, car\n{'1' * 5000}, road\n", "utf-8")
    names = class_names_in([tmp_path])
    assert names is not None
    assert names.numbers == {1: "car"}
