"""The rows of Table 9: "End-to-end runtime", measured by the authors on a Tesla V100 with batches of one."""

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, Precision
from panoptic_deeplab.maps import Size
from panoptic_deeplab.profiling.inference import Subject, untrained_subject
from panoptic_deeplab.profiling.paper import PAPER_ROWS, PaperRow

_IMAGE_SIZES: dict[str, Size] = {"Cityscapes": (1024, 2048), "Mapillary Vistas": (2448, 3264), "COCO": (480, 640)}
"""Typical `(height, width)` of a data set's files. Those of Mapillary Vistas and COCO have many sizes."""

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
    """Configuration and classes of a network of Table 9, and the size of a picture for it."""
    return row.config, row.categories, _IMAGE_SIZES[row.row.partition(",")[0]]


def paper_subject(
    row: PaperRow,
    *,
    device: str,
    precision: Precision,
    compile: bool = False,  # noqa: A002 - torch's name
) -> tuple[Subject, Size]:
    """A network of Table 9 with random weights, ready to be measured, and the size of a picture for it."""
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
