"""A set without a single instance is refused, and one with instances is not read to its end."""

from dataclasses import replace

import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.instances import check_instances
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import DatasetError

SYNTHETIC = SyntheticSource(3, seed=1, size=(48, 64))


class Changed:
    """The synthetic set with other segments; it counts how often it is read."""

    def __init__(self, crowd: int, categories: CategoryTable = SYNTHETIC.categories) -> None:
        self.categories = categories
        self.image_ids = SYNTHETIC.image_ids
        self.crowd = crowd
        self.num_read = 0

    def __len__(self) -> int:
        return len(SYNTHETIC)

    def __getitem__(self, index: int) -> Sample:
        self.num_read += 1
        sample = SYNTHETIC[index]
        if index >= self.crowd:
            return sample
        return replace(sample, segments_info=[replace(s, iscrowd=s.isthing) for s in sample.segments_info])


def test_the_first_instance_is_enough():
    for crowd, num_read in ((0, 1), (2, 3)):
        source = Changed(crowd)
        check_instances(source)
        assert source.num_read == num_read


def test_crowds_alone_are_refused():
    with pytest.raises(DatasetError, match=r"None of the 3 labeled images has an instance.*'synthetic'"):
        check_instances(Changed(3))


def test_a_table_of_stuff_needs_none():
    stuff = tuple(c for c in SYNTHETIC.categories.categories if not c.isthing)
    source = Changed(3, CategoryTable(name="stuff", categories=stuff))
    check_instances(source)
    assert source.num_read == 0
