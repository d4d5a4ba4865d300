"""Training examples: pure functions of their key, and errors that name the image."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, DataConfig, TrainConfig
from panoptic_deeplab.data.dataset import Example, PanopticDataset, SampleKey
from panoptic_deeplab.data.sample import PanopticSource, Sample
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.panoptic_result import Segment

CONFIG = Config(data=DataConfig(crop_size=(17, 33), color_jitter=0.2))


class OneSample:
    """A source with a single sample."""

    categories = CategoryTable(
        name="two",
        categories=(
            Category(id=1, name="ground", isthing=False, color=(0, 0, 0)),
            Category(id=2, name="ball", isthing=True, color=(255, 0, 0)),
        ),
    )

    def __init__(self, panoptic_map: np.ndarray | None) -> None:
        self.image_ids = ["street_017"]
        segments = [
            Segment(id=i, category_id=c, name=name, isthing=c == 2, area=1, bbox=(0, 0, 1, 1))
            for i, c, name in [(1, 1, "ground"), (70000, 2, "ball")]
        ]
        image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
        image.flags.writeable = False
        self.sample = Sample(image_id="street_017", image=image, panoptic_map=None, segments_info=segments)
        object.__setattr__(self.sample, "panoptic_map", panoptic_map)  # after the types were checked: it may be broken

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        self.sample.__post_init__()  # what making it with this map checks
        return self.sample


def good_map() -> np.ndarray:
    panoptic_map = np.ones((24, 30), np.int32)
    panoptic_map[4:20, 6:25] = 70000
    panoptic_map.flags.writeable = False
    return panoptic_map


def make_dataset(panoptic_map: np.ndarray | None) -> PanopticDataset:
    source = OneSample(panoptic_map)
    assert isinstance(source, PanopticSource)
    return PanopticDataset(source, CONFIG)


def tensors(example: Example) -> list[torch.Tensor]:
    return [example.image, *example.targets]


def test_an_example_is_a_pure_function_of_its_key() -> None:
    dataset = make_dataset(good_map())
    first = dataset[SampleKey(0, 1)]
    torch.rand(5)
    again = dataset[SampleKey(0, 1)]
    other = dataset[SampleKey(0, 2**64 - 1)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert not torch.equal(first.image, other.image)


def test_shapes_and_dtypes() -> None:
    image, targets, image_id = make_dataset(good_map())[SampleKey(0, 3)]
    assert image_id == "street_017"
    assert (image.shape, image.dtype) == ((3, 17, 33), torch.float32)
    assert (targets.semantic.shape, targets.semantic.dtype) == ((17, 33), torch.uint8)
    assert (targets.offset.shape, targets.offset.dtype) == ((2, 17, 33), torch.float32)
    assert set(targets.semantic.unique().tolist()) <= {0, 1, 255}
    assert 1 in targets.semantic


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    make_dataset(good_map())[SampleKey(0, 1)]
    assert torch.equal(torch.get_rng_state(), before)


def test_it_travels_to_a_spawned_worker() -> None:
    dataset = make_dataset(good_map())
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[SampleKey(0, 1)].image, dataset[SampleKey(0, 1)].image)
    assert len(copy) == 1


def test_a_sample_without_labels_is_an_error() -> None:
    with pytest.raises(DatasetError, match="street_017 has no labels"):
        make_dataset(None)[SampleKey(0, 1)]


@pytest.mark.parametrize(
    ("panoptic_map", "message"),
    [
        (np.full((24, 30), 4711, np.int32), r"street_017.*id 4711"),
        (np.full((24, 30), -1, np.int32), r"street_017.*from -1"),
        (np.full((24, 30), 2**24, np.int32), r"street_017.*16777216"),
        (np.ones((24, 29), np.int32), r"street_017.*\(24, 29\)"),
    ],
)
def test_broken_labels_are_errors_that_name_the_image(panoptic_map: np.ndarray, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        make_dataset(panoptic_map)[SampleKey(0, 1)]


def test_a_plain_loader_asks_by_index() -> None:
    dataset = make_dataset(good_map())
    first, again, last = dataset[0], dataset[0], dataset[-1]
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert torch.equal(first.image, last.image)
    other = PanopticDataset(dataset.source, replace(CONFIG, train=TrainConfig(seed=7)))
    assert not torch.equal(first.image, other[0].image)
    assert torch.equal(first.image, dataset[np.int64(0)].image)
    for index in (1, -2):
        with pytest.raises(IndexError, match=f"There is no image {index}: the set has 1"):
            dataset[index]
    assert len(list(dataset)) == 1
    for num_workers in (0, 2):
        (batch,) = DataLoader(dataset, batch_size=1, num_workers=num_workers)
        assert torch.equal(batch.image[0], first.image)
        assert batch.targets.offset.shape == (1, 2, 17, 33)
        assert list(batch.image_id) == ["street_017"]
