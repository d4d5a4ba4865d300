"""From configuration to source."""

import json
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
from PIL import Image

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.convert import write_coco_panoptic
from panoptic_deeplab.data.formats.coco_panoptic import CocoPanopticSource
from panoptic_deeplab.data.formats.folder import FolderSource
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.sources import FORMATS, open_source
from panoptic_deeplab.errors import ConfigError, DatasetError

SYNTHETIC = DataConfig(format="synthetic", categories="synthetic")


def test_each_format_of_the_settings_has_a_reader():
    assert {*FORMATS, "synthetic"} == set(get_args(get_type_hints(DataConfig)["format"]))


def test_synthetic_splits_share_no_scene():
    train, val = open_source(SYNTHETIC, "train"), open_source(SYNTHETIC, "val")
    assert isinstance(train, SyntheticSource)
    assert (len(train), len(val)) == (400, 40)
    assert not set(train.image_ids) & set(val.image_ids)
    assert (train[0].image != val[0].image).any()


def test_synthetic_split_with_a_number():
    few, all_ = open_source(SYNTHETIC, "val:3"), open_source(SYNTHETIC, "val")
    assert len(few) == 3
    assert list(few.image_ids) == list(all_.image_ids[:3])
    renamed = replace(SYNTHETIC, train_split="train:8")
    assert len(open_source(renamed, renamed.train_split)) == 8
    for wrong in ("val:0", "val:x", "val:-1"):
        with pytest.raises(ConfigError, match="name:count"):
            open_source(SYNTHETIC, wrong)


def test_synthetic_needs_its_table():
    with pytest.raises(ConfigError, match=r"`data.categories` to be `synthetic`"):
        open_source(DataConfig(format="synthetic"), "train")


def test_coco_and_own_table(tmp_path):
    write_coco_panoptic(SyntheticSource(1, size=(32, 32)), tmp_path, "val")
    data = DataConfig(format="coco_panoptic", root=str(tmp_path), categories=str(tmp_path / "categories.json"))
    source = open_source(data, "val")
    assert isinstance(source, CocoPanopticSource)
    assert source.categories.name == "synthetic"
    with pytest.raises(DatasetError, match=r"calls category 1 'road'.*'person'"):
        open_source(replace(data, categories="coco"), "val")


def test_folder_and_cityscapes(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    data = DataConfig(format="folder", root=str(tmp_path), categories="nuclei")
    assert isinstance(open_source(data, "val"), FolderSource)
    with pytest.raises(DatasetError, match="leftImg8bit"):
        open_source(replace(data, format="cityscapes", categories="cityscapes"), "val")


def test_unknown_table():
    with pytest.raises(ConfigError, match="Did you mean `synthetic`"):
        open_source(replace(SYNTHETIC, categories="synthetik"), "train")


@pytest.mark.parametrize("format_", ["coco_panoptic", "cityscapes", "mapillary_vistas", "folder"])
def test_a_folder_that_does_not_exist_is_said(tmp_path, format_):
    with pytest.raises(DatasetError, match=r"There is no folder .*/nope\. Set data\.root"):
        open_source(DataConfig(format=format_, root=str(tmp_path / "nope")), "train")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_coco_panoptic(SyntheticSource(1, size=(32, 32)), tmp_path / "set", "val")
    data = DataConfig(format="coco_panoptic", root="~/set", categories="synthetic")
    assert len(open_source(data, "val")) == 1


@pytest.mark.parametrize("format_", ["coco_panoptic", "cityscapes", "mapillary_vistas", "folder"])
def test_links_out_of_the_set_need_the_option_in_every_format(tmp_path, format_):
    root, far = tmp_path / "set", tmp_path / "far.png"
    Image.new("RGB", (4, 2)).save(far)
    tables = {"folder": "nuclei", "coco_panoptic": "coco", "mapillary_vistas": "mapillary_vistas_v1.2"}
    places = {
        "coco_panoptic": "test/a.png",
        "cityscapes": "leftImg8bit/test/ulm/a_leftImg8bit.png",
        "mapillary_vistas": "testing/images/a.png",
        "folder": "images/test/a.png",
    }
    path = root / places[format_]
    path.parent.mkdir(parents=True)
    path.symlink_to(far)
    if format_ == "coco_panoptic":
        (root / "annotations").mkdir()
        info = {"images": [{"id": 1, "file_name": "a.png"}]}
        (root / "annotations" / "image_info_test.json").write_text(json.dumps(info))
    data = DataConfig(format=format_, root=str(root), categories=tables.get(format_, format_))
    with pytest.raises(DatasetError, match=r"lies outside of .*set\. .*move the file there, .*data\.outside_root true"):
        open_source(data, "test")[0]
    assert open_source(replace(data, outside_root=True), "test")[0].size == (2, 4)


@pytest.mark.parametrize("format_", ["cityscapes", "mapillary_vistas"])
def test_images_of_other_suffixes_are_not_skipped(tmp_path, format_):
    folder = tmp_path / ("leftImg8bit/test/ulm" if format_ == "cityscapes" else "testing/images")
    folder.mkdir(parents=True)
    for name in ("a_leftImg8bit.png", "b_leftImg8bit.JPG", "._a_leftImg8bit.png"):
        Image.new("RGB", (4, 2)).save(folder / name)
    table = "cityscapes" if format_ == "cityscapes" else "mapillary_vistas_v1.2"
    source = open_source(DataConfig(format=format_, root=str(tmp_path), categories=table), "test")
    assert len(source) == 2
    assert source[1].size == (2, 4)


def test_a_picture_that_is_no_image_of_cityscapes_is_named(tmp_path):
    folder = tmp_path / "leftImg8bit" / "test" / "ulm"
    folder.mkdir(parents=True)
    for name in ("a_leftImg8bit.png", "b.png"):
        Image.new("RGB", (4, 2)).save(folder / name)
    data = DataConfig(format="cityscapes", root=str(tmp_path), categories="cityscapes")
    with pytest.raises(DatasetError, match=r"ulm/b.png is not read. Expected names that end in _leftImg8bit.png"):
        open_source(data, "test")
