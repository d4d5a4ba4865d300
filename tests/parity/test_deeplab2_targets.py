"""Our targets against those that deeplab2 recorded for a Cityscapes-like image (sigma 8, void and crowd included)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import TargetConfig
from panoptic_deeplab.data.targets import make_targets
from panoptic_deeplab.maps import Targets
from panoptic_deeplab.results.panoptic_result import Segment

LABEL_DIVISOR = 1000
IGNORED_CLASS = 255
THINGS = range(11, 19)  # Cityscapes' train ids


@pytest.fixture
def folder(shared_folder: Path) -> Path:
    return shared_folder / "fixtures" / "deeplab2_targets" / "data" / "testdata" / "targets"


def read(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{name}.png"))


def recorded_crowd(folder: Path) -> np.ndarray:
    return np.load(folder / "is_crowd.npy")


def our_targets(folder: Path) -> Targets:
    categories = CategoryTable(
        name="cityscapes",
        categories=tuple(Category(id=i, name=f"{i}", isthing=i in THINGS, color=(i, i, i)) for i in range(19)),
    )
    labels = np.load(folder / "panoptic_target.npy")[..., 0]
    panoptic_map = np.zeros(labels.shape, np.int32)
    segments_info = []
    for label in np.unique(labels).tolist():
        train_id, instance_id = divmod(label, LABEL_DIVISOR)
        if train_id == IGNORED_CLASS:
            continue
        segment_id = label + 1  # class 0 would collide with void
        mask = labels == label
        panoptic_map[mask] = segment_id
        isthing = train_id in THINGS
        segments_info.append(
            Segment(
                id=segment_id,
                category_id=train_id,
                name=f"{train_id}",
                isthing=isthing,
                area=int(mask.sum()),
                bbox=(0, 0, 1, 1),
                iscrowd=isthing and instance_id == 0,
            )
        )
    assert any(s.iscrowd for s in segments_info)
    return make_targets(panoptic_map, segments_info, categories=categories, config=TargetConfig(sigma=8.0))


def test_heatmap_has_no_differing_pixel(folder: Path) -> None:
    ours = (255 * our_targets(folder).center_heatmap.numpy()).astype(np.uint8)
    recorded = read(folder, "center_target")
    assert recorded.max() == 255
    assert np.count_nonzero(ours != recorded) == 0


def test_semantic_and_its_weights_agree_outside_void_and_crowd(folder: Path) -> None:
    targets = our_targets(folder)
    semantic = read(folder, "semantic_target")
    compared = (semantic != IGNORED_CLASS) & ~recorded_crowd(folder)
    assert np.array_equal(targets.semantic.numpy()[compared], semantic[compared])
    assert (targets.semantic.numpy()[~compared] == IGNORED_CLASS).all()
    recorded = read(folder, "semantic_weights")
    assert set(np.unique(recorded[compared])) == {85, 255}
    assert np.array_equal((85 * targets.semantic_weight.numpy())[compared], recorded[compared])
    assert (targets.semantic_weight.numpy()[~compared] == 0).all()


@pytest.mark.parametrize("name", ["center_weight", "offset_weight"])
def test_masks_agree_everywhere(folder: Path, name: str) -> None:
    ours = 255 * getattr(our_targets(folder), name).numpy()
    assert np.array_equal(ours, read(folder, f"{name}s"))
