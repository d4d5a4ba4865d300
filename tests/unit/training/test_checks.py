import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, DataConfig, EvaluationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import ConfigError, DatasetError, MissingDependencyError
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.results.panoptic_result import Segment
from panoptic_deeplab.training import checks
from panoptic_deeplab.training.checks import (
    check_batch,
    check_data,
    check_network,
    check_validation,
    images_normalized_together,
)

TWO = Process(world_size=2)


def _train(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))


def _model(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def test_batch_that_cannot_be_split_is_an_error(tiny_config: Config) -> None:
    config = _train(tiny_config, batch_size=9, images_at_once=4)
    check_batch(config, Process())
    with pytest.raises(ConfigError, match=r"divisible by the 2 processes\. Got 9 instead; use 10"):
        check_batch(config, TWO)


def test_synchronized_batch_norm_needs_gpus(tiny_config: Config) -> None:
    config = _train(tiny_config, batch_norm="sync")
    check_batch(config, Process())  # then it is plain batch normalization
    check_batch(config, Process(world_size=2, device="cuda:0"))
    with pytest.raises(ConfigError, match="needs GPUs"):
        check_batch(config, TWO)


@pytest.mark.parametrize("batch_norm", ["train", "frozen_backbone"])
def test_batch_norm_of_the_image_pool_needs_two_images(tiny_config: Config, batch_norm: str) -> None:
    config = _train(tiny_config, batch_norm=batch_norm, batch_size=2)
    check_batch(config, Process())
    for process, at_once in ((TWO, None), (Process(), 1)):
        with pytest.raises(ConfigError, match=r"at least 2 images at once\. Got 1 .*model\.image_pool_norm"):
            check_batch(_train(config, images_at_once=at_once), process)


def test_one_image_is_enough_where_the_pool_has_no_statistics_of_one_value(tiny_config: Config) -> None:
    one = _train(tiny_config, batch_size=2)
    check_batch(_train(one, batch_norm="frozen"), TWO)
    check_batch(_model(one, image_pool_norm=False), TWO)
    check_batch(_model(one, image_pool_size=(65, 65)), TWO)  # of a crop of 65 x 129
    with pytest.raises(ConfigError, match="at least 2 images"):
        check_batch(_model(one, image_pool_size=(65, 129)), TWO)


def test_shared_statistics_are_over_all_processes(tiny_config: Config) -> None:
    config = _train(tiny_config, batch_size=8, images_at_once=2)
    assert images_normalized_together(config, TWO) == 2
    assert images_normalized_together(_train(config, batch_norm="sync"), TWO) == 4


@pytest.mark.parametrize(("at_once", "fewest"), [(None, 10), (10, 10), (99, 10), (9, 5), (4, 3), (3, 2), (1, 1)])
def test_the_smallest_pass_counts_where_a_batch_cannot_be_split_evenly(
    tiny_config: Config, at_once: int | None, fewest: int
) -> None:
    config = _train(tiny_config, batch_size=10, images_at_once=at_once)
    assert images_normalized_together(config, Process()) == fewest


class Source:
    """Images of 4x4 pixels, all grass, with labels or without."""

    def __init__(
        self,
        categories: CategoryTable,
        *,
        num_images: int = 1,
        labeled: bool = True,
        damaged: int | None = None,
        segments: list[Segment] | None = None,
    ) -> None:
        self.categories = categories
        self.image_ids = [f"street_{index}" for index in range(num_images)]
        self.labeled = labeled
        self.damaged = damaged
        grass = Segment(id=1, category_id=1, name="grass", isthing=False, area=16, bbox=(0, 0, 4, 4))
        self.segments = [grass] if segments is None else segments
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index == self.damaged:
            raise DatasetError(f"{self.image_ids[index]} is cut.")
        return Sample(
            image_id=self.image_ids[index],
            image=np.zeros((4, 4, 3), np.uint8),
            panoptic_map=np.ones((4, 4), np.int32) if self.labeled else None,
            segments_info=self.segments if self.labeled else [],
        )


STUFF = CategoryTable(name="fields", categories=(Category(id=1, name="grass", isthing=False, color=(0, 0, 0)),))


def test_labeled_validation_split_is_accepted() -> None:
    check_validation(SyntheticSource(1, size=(32, 32)), Config(evaluation=EvaluationConfig(metric="AP")))
    check_validation(Source(STUFF), Config())


def test_validation_split_without_labels_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"street_0 of the validation split 'val' has no labels.*data\.val_split"):
        check_validation(Source(STUFF, labeled=False), Config())


def test_empty_validation_split_is_an_error() -> None:
    with pytest.raises(DatasetError, match="validation split has no image"):
        check_validation(Source(STUFF, num_images=0), Config())


def test_ap_needs_things() -> None:
    with pytest.raises(ConfigError, match=r"AP, but the categories fields have no thing"):
        check_validation(Source(STUFF), Config(evaluation=EvaluationConfig(metric="AP")))


def test_ap_needs_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str, purpose: str) -> None:
        raise MissingDependencyError(f"{purpose} needs {module} of {extra}")

    monkeypatch.setattr(checks, "require", missing)
    check_validation(Source(STUFF), Config())
    with pytest.raises(MissingDependencyError, match=r"`evaluation\.metric` AP needs pycocotools\.cocoeval of eval"):
        check_validation(Source(STUFF), Config(evaluation=EvaluationConfig(metric="AP")))


def _check(training: Any, validation: Any, *, metric: str = "PQ", num_workers: int = 0) -> None:
    config = Config(data=DataConfig(num_workers=num_workers), evaluation=EvaluationConfig(metric=metric))
    check_data(training, validation, config, Process())


def test_every_validation_image_is_read_before_the_first_step(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Source(STUFF, num_images=3), Source(STUFF, num_images=3, damaged=2)
    with caplog.at_level(logging.INFO):
        _check(good, good)
    assert "all 3 validation images and 3 of 3 training images" in caplog.text
    with pytest.raises(DatasetError, match=r"1 of 3 images of the split 'val'.*street_2 is cut.*data check"):
        _check(good, bad)
    with pytest.raises(DatasetError, match=r"1 of 3 images of the split 'train' cannot be used"):
        _check(bad, good)


def test_each_kind_of_damage_is_told_once_with_a_count() -> None:
    class Damaged(Source):
        def __getitem__(self, index: int) -> Sample:
            if index != 3:
                raise DatasetError(f"set/{index}.png " + ("is cut." if index % 2 else f"has id {index}."))
            return super().__getitem__(index)

    with pytest.raises(DatasetError) as caught:
        _check(Damaged(STUFF, num_images=8), Source(STUFF))
    assert str(caught.value) == (
        "7 of 8 images of the split 'train' cannot be used. 4 of them: set/0.png has id 0. 3 of them: set/1.png is cut."
        " List them all with: panoptic-deeplab data check"
    )


def test_many_training_images_are_read_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_TRAINING_IMAGES", 2)
    training = Source(STUFF, num_images=10)
    _check(training, Source(STUFF))
    assert training.read == [0, 5]


@pytest.mark.parametrize("split", ["train", "val"])
def test_splits_without_labels_are_an_error(split: str) -> None:
    sources = {name: Source(STUFF, labeled=name != split) for name in ("train", "val")}
    with pytest.raises(DatasetError, match=rf"street_0 of the split '{split}' has no labels.*data\.{split}_split"):
        _check(*sources.values())


def test_an_empty_training_split_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"training split has no image"):
        _check(Source(STUFF, num_images=0), Source(STUFF))


def test_labels_on_which_nothing_can_be_measured_are_an_error() -> None:
    void = Source(STUFF, segments=[])
    with pytest.raises(DatasetError, match=r"all 1 images of the validation split 'val' are void"):
        _check(Source(STUFF), void)


def test_computed_scenes_are_not_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _check(SyntheticSource(1, size=(32, 32)), SyntheticSource(1, size=(32, 32)))
    assert not caplog.text


class _Flat(nn.Module):
    """A network without a backbone, whose maps have these numbers of channels."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(3, count, 1, stride=4) for count in channels)

    def forward(self, images: torch.Tensor) -> RawMaps:
        semantic_logits, *instance = (head(images) for head in self.heads)
        return RawMaps(semantic_logits, *(instance or (None, None)))


def test_a_network_of_ones_own_must_fit(tiny_config: Config) -> None:
    table = CategoryTable.load("synthetic")
    check_network(_Flat(10, 1, 2), table, tiny_config, Process())
    check_network(_Flat(10), table, _model(tiny_config, instance_branch=False), Process())
    for wrong, said in (
        (_Flat(9, 1, 2), r"10 channels of classes, 1 of centers.*_Flat gives \[\(1, 9\)"),
        (_Flat(10, 2, 1), "2 of offsets"),
        (_Flat(10), "2 of offsets"),
        (nn.Conv2d(3, 10, 1), "Conv2d gives Tensor"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_network(wrong, table, tiny_config, Process())


def test_settings_that_a_network_of_ones_own_cannot_have(tiny_config: Config) -> None:
    network, table = _Flat(10, 1, 2), CategoryTable.load("synthetic")
    for config, said in (
        (_model(tiny_config, weights="runs/x/best"), "has its own weights"),
        (_train(tiny_config, batch_norm="frozen_backbone"), "_Flat has none"),
        (_train(tiny_config, backbone_learning_rate_factor=0.1), "_Flat has none"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_network(network, table, config, Process())
