"""An image of 4,096 x 4,096 pixels with all arrays on disk: objects are whole, and memory stays below a bound.

The bound is one of the system: a process that asks for more memory of its own fails. What it has in memory of the
arrays on disk is not counted, since the system takes that back when it is short.
"""

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
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]) * 2**20,) * 2)
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
    report.append([len(result.segments_info), sorted(areas)])
print(json.dumps(report))
"""


def _run(folder: Path, height: int, *, limit: int) -> tuple[int, list[int]]:
    """Number of segments, and areas of balls, of an image predicted in `limit` MiB."""
    command = [sys.executable, "-c", _SCRIPT, str(folder), json.dumps([height]), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((segments, areas),) = json.loads(done.stdout)
    return segments, areas


def test_an_image_of_4096_rows(tmp_path: Path) -> None:
    segments, areas = _run(tmp_path, 4096, limit=1300)  # 1,064 MiB were asked for
    assert segments == 128 * 128 + 1
    assert len(areas) == 1, areas  # balls that lie across seams are as whole as the others


def test_the_bound_is_felt(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?i)memory|alloc|map segment"):
        _run(tmp_path, 1024, limit=500)


@pytest.mark.slow
def test_an_image_of_16384_rows(tmp_path: Path) -> None:
    segments, areas = _run(tmp_path, 16384, limit=3000)
    assert (segments, len(areas)) == (512 * 128 + 1, 1)


_CENTERS = """
import numpy as np, torch
torch.set_num_threads(1)
from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.postprocess.large_maps import StoredMaps, find_centers_in_bands

class Bumps:
    # a peak in each 16 x 16 samples, made where it is read
    def __init__(self, height): self.shape = (5, height, 6145)
    def __getitem__(self, part):
        channels, rows = part
        y, x = np.arange(rows.start, min(rows.stop, self.shape[1])) % 16 - 8, np.arange(self.shape[2]) % 16 - 8
        heat = np.exp((y[:, None] ** 2 + x ** 2) / -8).astype(np.float32)
        return np.stack([heat] * (channels.stop - channels.start))

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

torch.empty(31 * 2**18).fill_(0)  # as a network does: from then on the C library keeps what is as large in its heap
seen = []
for height in (128, 1024):
    size = 4 * (height - 1) + 1, 4 * 6144 + 1
    maps = StoredMaps(maps=Bumps(height), num_classes=2, input_size=size, content_size=size, align_corners=True)
    centers = find_centers_in_bands(maps, maps.grid(), PostprocessConfig(nms_kernel=9, top_k=1000), area=1024)
    assert len(centers.points) == height // 16 * 384
    seen.append(resident())
print(seen[1] - seen[0])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux")
def test_the_search_for_centers_leaves_no_memory_in_pieces() -> None:
    """Small tensors kept between the large ones of each band once made the heap grow by megabytes a band."""
    done = subprocess.run([sys.executable, "-c", _CENTERS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60, "MiB more for eight times as many rows"
