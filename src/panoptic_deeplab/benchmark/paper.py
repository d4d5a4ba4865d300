"""The rows of Table 9: "End-to-end runtime", measured by the authors on a Tesla V100 with batches of one."""

from dataclasses import dataclass

from panoptic_deeplab.benchmark.inference import Subject, untrained_subject
from panoptic_deeplab.benchmark.scenes import make_categories
from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig, Precision
from panoptic_deeplab.maps import Size
from panoptic_deeplab.model.paper import PAPER_ROWS, PaperRow


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    num_things: int
    image_size: Size
    """Typical `(height, width)` of its files. Those of Mapillary Vistas and COCO have many sizes."""
    stuff_area_limit: int


_DATASETS = {
    "Cityscapes": _Dataset(num_things=8, image_size=(1024, 2048), stuff_area_limit=2048),
    "Mapillary Vistas": _Dataset(num_things=37, image_size=(2448, 3264), stuff_area_limit=4096),
    "COCO": _Dataset(num_things=80, image_size=(480, 640), stuff_area_limit=4096),
}

_MILLISECONDS = {
    "Cityscapes, MNV3": 63.0,
    "Cityscapes, ResNet-50": 117.0,
    "Cityscapes, Xception-71": 175.0,
    "Mapillary Vistas, MNV3": 148.0,
    "Mapillary Vistas, ResNet-50": 286.0,
    "Mapillary Vistas, Xception-71": 398.0,
    "COCO, MNV3": 38.0,
    "COCO, ResNet-50": 50.0,
    "COCO, Xception-71 at 641": 74.0,
    "COCO, Xception-71 at 1025": 132.0,
}
"""Table 9, "Speed (ms)"."""


def paper_rows() -> list[PaperRow]:
    """The networks of Table 9."""
    return [row for row in PAPER_ROWS if row.table == 9]


def paper_setting(row: PaperRow) -> tuple[Config, CategoryTable, Size]:
    """Configuration and classes of a network of Table 9, and the size of a picture for it.

    Args:
        row: one of `paper_rows()`.
    """
    dataset = _DATASETS[row.row.partition(",")[0]]
    fits = all(side - image_side in (0, 1) for side, image_side in zip(row.paper_size, dataset.image_size, strict=True))
    config = Config(
        model=row.model,
        input=InputConfig(longest_side=None if fits else max(row.paper_size), pad_to=row.paper_size),
        postprocess=PostprocessConfig(stuff_area_limit=dataset.stuff_area_limit),
    )
    return config, make_categories(row.num_classes, dataset.num_things), dataset.image_size


def paper_subject(
    row: PaperRow,
    *,
    device: str,
    precision: Precision,
    compile: bool = False,  # noqa: A002 - torch's name
) -> tuple[Subject, Size]:
    """A network of Table 9 with random weights, ready to be measured, and the size of a picture for it.

    Args:
        row: one of `paper_rows()`.
        device: `cpu`, `cuda`, ... or `auto`.
        precision: as for `PanopticPredictor`.
        compile: as for `PanopticPredictor`.
    """
    config, categories, image_size = paper_setting(row)
    published = _MILLISECONDS[row.row]
    subject = untrained_subject(
        row.row,
        config,
        categories,
        device=device,
        precision=precision,
        compile=compile,
        published_milliseconds=published,
    )
    return subject, image_size
