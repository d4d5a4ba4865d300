from pathlib import Path

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data import look
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.look import Look, look_at


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_sample_is_read_and_errors_are_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.setattr(look, "_WORTH_WORKERS", 1)
    scenes = SyntheticSource(3, seed=1, size=(64, 96))
    write_coco_panoptic(scenes, tmp_path, "val")
    source = CocoPanopticSource(tmp_path, "val", CategoryTable.load("synthetic"))
    path = source[1].image_path
    assert path is not None
    path.write_bytes(path.read_bytes()[:200])
    looks = look_at(source, [2, 1], num_workers=num_workers)
    assert looks[0] == Look(labeled=True, segments=len(source[2].segments_info))
    assert looks[1].error is not None
    assert path.name in looks[1].error
    assert len(looks) == 2
