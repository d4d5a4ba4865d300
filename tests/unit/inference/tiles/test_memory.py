"""An image of 4,096 x 4,096 pixels with all arrays on disk: objects are whole, and memory stays below a bound."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("zarr")
pytest.importorskip("resource")

_SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
from torch import Tensor, nn
torch.set_num_threads(1)
from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig
from panoptic_deeplab.images.regions import Regions
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.results.stored import Scratch

class Balls(Regions):
    # a square ball in each 32 x 32 pixels, made where it is read
    def __init__(self, size): self.size = size
    def read(self, rows, columns):
        y, x = (np.arange(part.start, part.stop) % 32 for part in (rows, columns))
        inside = ((y >= 8) & (y < 24))[:, None] & ((x >= 8) & (x < 24))
        return np.stack([inside * np.uint8(255)] * 3, axis=-1)

class Reader(nn.Module):
    def forward(self, images: Tensor) -> RawMaps:
        inside = (images[:, :1, ::4, ::4] > 0.5).float()
        padded = nn.functional.pad(inside, (2, 2, 2, 2))
        near = nn.functional.conv2d(padded, torch.ones(1, 1, 5, 5))
        up, down = padded[:, :, :-4, 2:-2], padded[:, :, 4:, 2:-2]
        left, right = padded[:, :, 2:-2, :-4], padded[:, :, 2:-2, 4:]
        logits = torch.cat([1 - inside, inside], dim=1) * 10
        return RawMaps(logits, near / 16 - 0.05, torch.cat([down - up, right - left], dim=1))

classes = (Category(id=1, name="ground", isthing=False, color=(0, 0, 0)),
           Category(id=2, name="ball", isthing=True, color=(255, 0, 0)))
config = Config(input=InputConfig(pixel_mean=(0.0,) * 3, pixel_std=(1.0,) * 3),
                postprocess=PostprocessConfig(top_k=1500, stuff_area_limit=0, center_threshold=0.5))
table = CategoryTable(name="balls", categories=classes)
predictor = PanopticPredictor.from_network(Reader(), table, config, device="cpu")
report = []
for height in json.loads(sys.argv[2]):
    folder = Path(sys.argv[1]) / str(height)
    with Scratch(folder, in_memory=0) as scratch:
        result = predictor.predict_tiled(Balls((height, 4096)), tile=512, overlap=64, scratch=scratch,
                                         output=folder / "result.zarr")
    areas = {s.area for s in result.segments_info if s.isthing}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    report.append([len(result.segments_info), sorted(areas), peak])
print(json.dumps(report))
"""


def _run(folder: Path, heights: list[int]) -> list[list]:
    """For each height: number of segments, areas of balls, and the peak of memory so far in MiB."""
    command = [sys.executable, "-c", _SCRIPT, str(folder), json.dumps(heights)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_image_of_4096_rows(tmp_path: Path) -> None:
    (small, _, peak_of_small), (large, areas, peak) = _run(tmp_path, [1024, 4096])
    assert small == 32 * 128 + 1
    assert large == 128 * 128 + 1
    assert len(areas) == 1, areas  # balls that lie across seams are as whole as the others
    # measured: 923 MiB for 1,024 rows, then 1,020 MiB for 4,096 with four times the segments
    assert peak - peak_of_small < 200
    assert peak < 1300


@pytest.mark.slow
def test_an_image_of_16384_rows(tmp_path: Path) -> None:
    ((large, areas, peak),) = _run(tmp_path, [16384])
    assert (large, len(areas)) == (512 * 128 + 1, 1)
    assert peak < 3000
