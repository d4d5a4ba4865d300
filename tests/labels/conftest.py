"""A small set in every format of labels that people bring, written in the ways of different programs and systems.

Each has three images of 12 x 8 pixels (width x height) in the split `train`, and on each two objects and a road. Names
have spaces, umlauts, commas and Roboflow's `.rf.`; ids have gaps and 0.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.config import DataConfig
from panoptic_deeplab.data.sources import open_source

NAMES = ("a.rf.0a1b", "straße 2", "c")
PERSON, ROAD = "Fußgänger", "road, wet"
TABLE = {
    "name": "straße",
    "categories": [
        {"id": 3, "name": PERSON, "isthing": True, "color": [200, 0, 0]},
        {"id": 0, "name": ROAD, "isthing": False, "color": [0, 0, 200]},
    ],
    "void_ids": [255],
}
CELLS = {
    "name": "straße",
    "categories": [
        {"id": 1, "name": "Zelle", "isthing": True, "color": [200, 0, 0]},
        {"id": 2, "name": "Glas", "isthing": False, "color": [0, 0, 200]},
    ],
}
SIZE = 12, 8
"""`(width, height)`."""
BOXES = ((PERSON, (1, 1, 5, 5)), (PERSON, (7, 2, 11, 6)), (ROAD, (0, 6, 12, 8)))
"""Class, and left, top, right and bottom edge."""


class Style(NamedTuple):
    """How names are written."""

    suffix: str = ".png"
    """What images end with."""
    written: Callable[[str], str] = str
    """A name with folders, `train/a.png`, as it stands in annotations and lists."""
    label: str = "{}.png"
    """What a picture of labels is called; `{}` is the name of the image."""
    names: tuple[str, ...] = NAMES


@dataclass(kw_only=True)
class LabeledSet:
    """A set on disk."""

    root: Path
    format: str
    table: dict[str, Any] = field(default_factory=lambda: TABLE)
    style: Style = field(default_factory=Style)
    texts: list[Path] = field(default_factory=list)
    """Annotations, settings, and the category table."""
    lists: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    """Pictures."""

    @property
    def data(self) -> DataConfig:
        """The section `data` of a recipe for it."""
        table = self.root / "table.json"
        if table not in self.texts:
            self.text("table.json", json.dumps(self.table, ensure_ascii=False, indent=1))
        return DataConfig(format=self.format, root=str(self.root), categories=str(table))  # type: ignore[arg-type]

    def read(self) -> dict[str, Any]:
        """The label of each image."""
        source = open_source(self.data, "train")
        samples = [source[index] for index in range(len(source))]
        return {
            sample.image_id: (
                None if sample.panoptic_map is None else sample.panoptic_map.tolist(),
                [(segment.id, segment.name, segment.iscrowd) for segment in sample.segments_info],
            )
            for sample in samples
        }

    def text(self, place: str, content: str) -> None:
        """Write a text."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        self.texts.append(path)

    def list(self, place: str, folder: str = "") -> None:
        """Write a list of the images, which lie in a folder."""
        names = (f"{folder}{name}" for name in self.style.names)
        self.text(place, "".join(f"{self.style.written(name)}\n" for name in names))
        self.lists.append(self.texts.pop())

    def image(self, place: str, number: int) -> None:
        """Write a picture of something."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.full((SIZE[1], SIZE[0], 3), 40 + number % 200, np.uint8)
        values[:, ::3] = 90
        Image.fromarray(values).save(path, format="JPEG" if path.suffix.lower() == ".jpg" else None)
        self.images.append(path)

    def picture(self, place: str, values: np.ndarray) -> None:
        """Write labels."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
        self.labels.append(path)

    def label_name(self, name: str) -> str:
        """The name of a picture of labels."""
        return self.style.label.format(name)


def corners(box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Points `(x, y)` of a rectangle."""
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def painted(values: Mapping[int, Any], ground: Any = 0, dtype: type = np.uint8) -> np.ndarray:
    """A map with a value for each of `BOXES`."""
    shape = (SIZE[1], SIZE[0], 3) if isinstance(ground, tuple) else (SIZE[1], SIZE[0])
    array = np.zeros(shape, dtype)
    array[:] = ground
    for number, value in values.items():
        left, top, right, bottom = BOXES[number][1]
        array[top:bottom, left:right] = value
    return array


SEMANTIC, INSTANCES = {0: 3, 1: 3, 2: 0}, {0: 7, 1: 9}
COLORS = {0: (200, 0, 0), 1: (200, 0, 0), 2: (0, 0, 200)}


def coco(made: LabeledSet, json_path: str, folder: str, inner: str = "") -> None:
    """COCO instances; `inner` stands in front of the names in the JSON."""
    width, height = SIZE
    images, annotations = [], []
    for number, name in enumerate(made.style.names):
        made.image(f"{folder}{inner}{name}{made.style.suffix}", number)
        written = made.style.written(f"{inner}{name}{made.style.suffix}")
        images.append({"id": number + 5, "file_name": written, "width": width, "height": height})
        for class_, box in BOXES:
            outline = [float(value) for point in corners(box) for value in point]
            category = 3 if class_ == PERSON else 0
            annotations.append({"image_id": number + 5, "category_id": category, "segmentation": [outline]})
    categories = [{"id": 0, "name": ROAD}, {"id": 3, "name": PERSON}, {"id": 90, "name": "root"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    made.text(json_path, json.dumps(document, ensure_ascii=False, indent=1))


def coco_panoptic(made: LabeledSet) -> None:
    """COCO panoptic."""
    images, annotations = [], []
    for number, name in enumerate(made.style.names):
        made.image(f"train/sub/{name}{made.style.suffix}", number)
        ids = {0: (7, 0, 0), 1: (9, 0, 0), 2: (1, 0, 0)}
        made.picture(f"annotations/panoptic_train/sub/{made.label_name(name)}", painted(ids, (0, 0, 0)))
        images.append({"id": number, "file_name": made.style.written(f"sub/{name}{made.style.suffix}")})
        rows = [{"id": i, "category_id": c} for i, c in ((7, 3), (9, 3), (1, 0))]
        label = made.style.written(f"sub/{made.label_name(name)}")
        annotations.append({"image_id": number, "file_name": label, "segments_info": rows})
    categories = [{"id": 0, "name": ROAD, "isthing": 0}, {"id": 3, "name": PERSON, "isthing": 1}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    made.text("annotations/panoptic_train.json", json.dumps(document, ensure_ascii=False, indent=1))


def labelme(made: LabeledSet, folder: str, images: str, *, listed: bool = False) -> None:
    """LabelMe; `images` is where a JSON finds them."""
    for number, name in enumerate(made.style.names):
        file = f"{images}{name}{made.style.suffix}"
        made.image(str(Path(folder, file)), number)
        shapes = [{"label": label, "points": corners(box), "shape_type": "polygon"} for label, box in BOXES]
        document = {"shapes": shapes, "imagePath": made.style.written(file), "imageHeight": 8, "imageWidth": 12}
        made.text(f"{folder}/{name}.json", json.dumps(document, ensure_ascii=False, indent=1))
    if listed:
        made.list("train.txt", f"{folder}/")


def cvat(made: LabeledSet) -> None:
    """CVAT for images 1.1."""
    rows = []
    for number, name in enumerate(made.style.names):
        made.image(f"images/sub/{name}{made.style.suffix}", number)
        written = made.style.written(f"sub/{name}{made.style.suffix}")
        rows.append(f'<image id="{number}" name="{written}" width="12" height="8">')
        for label, box in BOXES:
            points = ";".join(f"{x}.0,{y}.0" for x, y in corners(box))
            rows.append(f'<polygon label="{label}" points="{points}" z_order="0"/>')
        rows.append("</image>")
    body = "\n".join(rows)
    made.text("train.xml", f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{body}\n</annotations>\n')


def yolo(made: LabeledSet, *, settings: bool = True) -> None:
    """YOLO, with data.yaml or classes.txt."""
    width, height = SIZE
    for number, name in enumerate(made.style.names):
        made.image(f"images/train/{name}{made.style.suffix}", number)
        lines = [
            " ".join([str(int(label == ROAD)), *(f"{x / width} {y / height}" for x, y in corners(box))])
            for label, box in BOXES
        ]
        made.text(f"labels/train/{name}.txt", "\n".join(lines) + "\n")
    if settings:
        folder = made.style.written("images/train")
        made.text("data.yaml", f"train: '{folder}'\nval: images/val\nnames:\n  0: {PERSON}\n  1: '{ROAD}'\n")
    else:
        made.text("classes.txt", f"{PERSON}\n{ROAD}\n")


def voc(made: LabeledSet, *, colored: bool) -> None:
    """Pascal VOC, by numbers or by the colors of labelmap.txt."""
    for number, name in enumerate(made.style.names):
        made.image(f"JPEGImages/{name}{made.style.suffix}", number)
        classes = painted(COLORS, (0, 0, 0)) if colored else painted(SEMANTIC, 255)
        made.picture(f"SegmentationClass/{made.label_name(name)}", classes)
        objects = painted({0: (9, 9, 9), 1: (0, 128, 0)}, (0, 0, 0)) if colored else painted(INSTANCES)
        made.picture(f"SegmentationObject/{made.label_name(name)}", objects)
    made.list("ImageSets/Segmentation/train.txt")
    if colored:
        made.text("labelmap.txt", f"# label:color_rgb:parts:actions\n{PERSON}:200,0,0::\n{ROAD}:0,0,200::\n")


def masks(made: LabeledSet, image: str, label: str, values: np.ndarray, *, listed: bool = False) -> None:
    """Masks of whole images, for images and labels at these places."""
    for number, name in enumerate(made.style.names):
        made.image(f"{image}/{name}{made.style.suffix}", number)
        made.picture(f"{label}/{made.label_name(name)}", values)
    if listed:
        made.list("train.txt")


def folder(made: LabeledSet, *, listed: bool) -> None:
    """Our folder format."""
    inner = "" if listed else "/train"
    for number, name in enumerate(made.style.names):
        made.image(f"images{inner}/{name}{made.style.suffix}", number)
        made.picture(f"instances{inner}/{made.label_name(name)}", painted(INSTANCES))
        made.picture(f"semantic{inner}/{made.label_name(name)}", painted(SEMANTIC, 255))
    if listed:
        made.list("train.txt", "images/" if made.style.written("a/b") != "a/b" else "")


def object_masks(made: LabeledSet, *, listed: bool) -> None:
    """One mask an object."""
    outer = "all" if listed else "train"
    for number, name in enumerate(made.style.names):
        made.image(f"{outer}/{name}/images/{name}{made.style.suffix}", number)
        for place in (0, 1):
            made.picture(f"{outer}/{name}/masks/{made.label_name(str(place))}", painted({place: 255}))
    if listed:
        made.list("train.txt", "all/" if made.style.written("a/b") != "a/b" else "")


FORMATS: dict[str, tuple[str, Callable[[LabeledSet], None]]] = {
    "coco_roboflow": ("coco_instances", lambda m: coco(m, "train/_annotations.coco.json", "train/")),
    "coco_cvat": ("coco_instances", lambda m: coco(m, "annotations/instances_train.json", "images/train/", "sub/")),
    "coco_label_studio": ("coco_instances", lambda m: coco(m, "train.json", "", "images/")),
    "coco_panoptic": ("coco_panoptic", coco_panoptic),
    "labelme_beside": ("labelme", lambda m: labelme(m, "train", "")),
    "labelme_apart": ("labelme", lambda m: labelme(m, "annotations/train", "../../images/train/")),
    "labelme_listed": ("labelme", lambda m: labelme(m, "annotations", "../images/", listed=True)),
    "cvat": ("cvat", cvat),
    "yolo": ("yolo", yolo),
    "yolo_classes": ("yolo", lambda m: yolo(m, settings=False)),
    "voc_numbers": ("voc", lambda m: voc(m, colored=False)),
    "voc_colors": ("voc", lambda m: voc(m, colored=True)),
    "color_masks": ("color_masks", lambda m: masks(m, "train/images", "train/masks", painted(COLORS, (0, 0, 0)))),
    "color_listed": (
        "color_masks",
        lambda m: masks(m, "images", "masks", painted(COLORS, (0, 0, 0)), listed=True),
    ),
    "label_png": ("label_images", lambda m: masks(m, "images/train", "masks/train", painted(INSTANCES))),
    "label_tiff": (
        "label_images",
        lambda m: masks(_tiff(m), "train", "train_labels", painted(INSTANCES, 0, np.uint16)),
    ),
    "folder": ("folder", lambda m: folder(m, listed=False)),
    "folder_listed": ("folder", lambda m: folder(m, listed=True)),
    "object_masks": ("object_masks", lambda m: object_masks(m, listed=False)),
    "object_masks_listed": ("object_masks", lambda m: object_masks(m, listed=True)),
}
"""Name of a way to write a set -> `data.format`, and what writes it."""


def _tiff(made: LabeledSet) -> LabeledSet:
    made.style = made.style._replace(label=made.style.label.replace(".png", ".tif"))
    return made


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., LabeledSet]:
    """Write a set, in a folder of its own, in one of the ways of `FORMATS` and with fields of `Style`."""
    count = 0

    def write(way: str, **style: Any) -> LabeledSet:
        nonlocal count
        count += 1
        format_, build = FORMATS[way]
        table = CELLS if format_ in ("label_images", "object_masks") else TABLE
        made = LabeledSet(root=tmp_path / f"set {count}", format=format_, table=table, style=Style(**style))
        build(made)
        return made

    return write


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `way` is for every way to write a set."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", FORMATS)
