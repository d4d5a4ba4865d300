"""The example that lays nuclei out as Kaggle and cellpose do: what is read from there is what was there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.config.data import Format
from panoptic_deeplab.data.samples import NUCLEI
from panoptic_deeplab.data.sources import open_source

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "nuclei_as_kaggle.py"


@pytest.mark.parametrize(("layout", "format_"), [("kaggle", "object_masks"), ("cellpose", "label_images")])
def test_same_nuclei(tmp_path: Path, layout: str, format_: Format) -> None:
    command = [sys.executable, SCRIPT, NUCLEI, tmp_path / "set", "--layout", layout, "--splits", "dev", "--limit", "3"]
    subprocess.run(command, check=True, capture_output=True)
    ours = open_source(DataConfig(format="folder", root=str(NUCLEI), categories="nuclei"), "dev")
    theirs = open_source(DataConfig(format=format_, root=str(tmp_path / "set"), categories="nuclei"), "dev")
    assert len(theirs) == 3
    names = {name: index for index, name in enumerate(ours.image_ids)}
    for sample in (theirs[index] for index in range(3)):
        original = ours[names[sample.image_id]]
        assert np.array_equal(sample.image, original.image)
        truths = [one.truth(ours.categories) for one in (sample, original)]
        masks = [{(truth.panoptic_map == segment.id).tobytes() for segment in truth.instances()} for truth in truths]
        assert len(masks[0]) > 1
        assert masks[0] == masks[1]
