"""Blocks of neighbors are held out, always the same ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.held_out import choose_held_out, evenly
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.errors import ConfigError, DatasetError


@pytest.mark.parametrize("count", [2, 7, 8, 40, 199, 200, 1000])
def test_about_an_eighth_in_blocks(count: int) -> None:
    names = [f"img{number}.jpg" for number in range(count)]
    chosen = choose_held_out(names[::-1])
    assert chosen == choose_held_out(names)
    assert 0 < len(chosen) < count
    numbers = [int(name[3:-4]) for name in chosen]
    assert numbers == sorted(numbers)
    starts = sum(number - 1 not in numbers for number in numbers)
    assert starts == (5 if count >= 200 else 1)
    if count >= 8:
        assert count // 8 <= len(chosen) <= -(-count // 8)


def test_copies_of_an_image_stay_together() -> None:
    names = [f"{number}_png.rf.{copy}{number}.jpg" for number in range(30) for copy in "abc"]
    chosen = set(choose_held_out(names))
    kept = set(names) - chosen
    assert not {name.split(".rf.")[0] for name in chosen} & {name.split(".rf.")[0] for name in kept}


def test_one_image_cannot_be_divided() -> None:
    with pytest.raises(DatasetError, match="1 images cannot be divided"):
        choose_held_out(["a"])


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(
        format="synthetic", categories="synthetic", train_split="all:6", val_split="few", held_out=str(tmp_path / "l")
    )


def test_both_splits_are_parts_of_one(data: DataConfig, tmp_path: Path) -> None:
    whole = open_source(replace(data, held_out=None), "all:6")
    names = list(whole.image_ids)
    (tmp_path / "l").write_text(f"{names[4]}\n\n{names[1]}\n", "utf-8")
    training, validation = open_source(data, "all:6"), open_source(data, "few")
    assert list(validation.image_ids) == [names[1], names[4]]
    assert list(training.image_ids) == [names[i] for i in (0, 2, 3, 5)]
    assert len(training) == 4
    assert (validation[1].image == whole[4].image).all()
    assert len(open_source(data, "other:3")) == 3


@pytest.mark.parametrize(("lines", "message"), [("x", "lists 'x', which is no image of"), ("", "must list some")])
def test_a_wrong_list_is_refused(data: DataConfig, tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "l").write_text(lines, "utf-8")
    with pytest.raises(DatasetError, match=message):
        open_source(data, "few")


def test_evenly() -> None:
    scenes = SyntheticSource(10, size=(32, 32))
    assert list(evenly(scenes, 4).image_ids) == [scenes.image_ids[place] for place in (0, 2, 5, 7)]
    assert evenly(scenes, 10) is scenes


def test_both_splits_need_names() -> None:
    with pytest.raises(ConfigError, match=r"data.val_split"):
        DataConfig(train_split="a", val_split="a", held_out="list.txt")
