"""The networks whose size the paper prints (Tables 1, 5 and 9): the recipe of each, and the printed numbers.

`count_paper_rows` builds and counts each. Left out are the rows of other methods, and the ensemble of Table 5, whose
size is not printed.

What the printed numbers imply and the text does not say:
- The image pool keeps the window of the training crop at inference. In Table 1 this is the small crop up to "L-Crop",
  whose row repeats the multiply-adds of the row before, and again with "C_Ins = 256".
- Multiply-adds of Xception and Auto-DeepLab on Mapillary Vistas are those of 2161 x 2161 pixels; MobileNetV3 and
  ResNet-50 agree with the printed 2177 x 2177. HRNet is counted at 2161, next to its neighbors in the table.
- The HRNet family is not defined in public: `backbones/hrnet.py` says what is inferred.
- On COCO, the numbers of Xception-71 at 641 and 1025 pixels are in the ratio of their pixels, so one was not measured.
  At 641, MobileNetV3 and ResNet-50 are 6.8 and 2.1 % below the printed number. With an output for each of COCO's raw
  ids, 0 to 200, as in the authors' later code, instead of one for each of the 133 classes, they are 3.1 and 1.5 % below
  it and Xception-71 at 1025 0.5 instead of 1.0 % (at 641, 0.8 instead of 0.3 % above). Which it was is not said, so the
  classes are counted.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, ModelConfig
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.maps import Size
from panoptic_deeplab.profiling.counting import Counts, count


@dataclass(frozen=True)
class PaperRow:
    """One row of a table."""

    table: int
    row: str
    """What the paper calls it."""
    recipe: str
    """The packaged recipe that has its network and its data set."""
    size: Size
    """`(height, width)` at which the printed multiply-adds come out."""
    paper_size: Size
    """The one that the table names."""
    paper_parameters: float | None
    """Number in millions; Table 9 prints none."""
    paper_multiply_adds: float
    """Number in billions."""

    @property
    def config(self) -> Config:
        """The recipe's settings."""
        return _config_of(self.recipe)

    @property
    def categories(self) -> CategoryTable:
        """The classes of its data set."""
        return CategoryTable.load(self.config.data.categories)


@cache
def _config_of(recipe: str) -> Config:
    return load_config(recipe)


class CountedRow(NamedTuple):
    """A row with our counts."""

    paper: PaperRow
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """The document of `panoptic-deeplab models --paper --json`, one element."""
        return {
            "table": self.paper.table,
            "row": self.paper.row,
            "backbone": self.paper.config.model.backbone,
            "input_size": list(self.paper.size),
            "paper_input_size": list(self.paper.paper_size),
            "params_m": self.counts.parameters / 1e6,
            "paper_params_m": self.paper.paper_parameters,
            "madds_b": self.counts.multiply_adds / 1e9,
            "paper_madds_b": self.paper.paper_multiply_adds,
        }


def count_paper_rows(rows: tuple[PaperRow, ...] | None = None) -> list[CountedRow]:
    """Count the networks of all rows; None = `PAPER_ROWS`."""
    known: dict[tuple[ModelConfig, int, Size], Counts] = {}
    counted = []
    for row in PAPER_ROWS if rows is None else rows:
        network = (row.config.model, row.categories.num_classes, row.size)
        if network not in known:
            known[network] = count(*network)
        counted.append(CountedRow(row, known[network]))
    return counted


_CITYSCAPES, _MAPILLARY = (1025, 2049), (2177, 2177)
"""The input sizes of Tables 1, 5 and 9."""
_MAPILLARY_COUNTED = (2161, 2161)
_COCO_SMALL, _COCO_LARGE = (641, 641), (1025, 1025)


def _ablation(name: str, recipe: str, parameters: float, multiply_adds: float) -> PaperRow:
    return PaperRow(1, name, recipe, _CITYSCAPES, _CITYSCAPES, parameters, multiply_adds)


def _backbone(name: str, recipe: str, parameters: float, multiply_adds: float) -> PaperRow:
    return PaperRow(5, name, recipe, _MAPILLARY_COUNTED, _MAPILLARY, parameters, multiply_adds)


def _runtime(name: str, recipe: str, size: Size, multiply_adds: float, *, counted: Size | None = None) -> PaperRow:
    return PaperRow(9, name, recipe, counted or size, size, None, multiply_adds)


PAPER_ROWS: tuple[PaperRow, ...] = (
    _ablation("base", "cityscapes_table1_base", 41.85, 496.84),
    _ablation("+ Adam", "cityscapes_table1_adam", 41.85, 496.84),
    _ablation("+ MSE", "cityscapes_table1_mse", 41.85, 496.84),
    _ablation("+ De. x2", "cityscapes_table1_dual_decoder", 41.93, 501.88),
    _ablation("+ ASPP x2", "cityscapes_table1_dual_aspp", 43.37, 517.17),
    _ablation("+ L-Crop", "cityscapes_table1_large_crop", 43.37, 517.17),
    _ablation("+ C_Sem = 256", "cityscapes_xception71", 46.72, 547.49),
    _ablation("+ C_Ins = 256", "cityscapes_table1_instance_256", 46.88, 573.86),
    _ablation("Sem. Only", "cityscapes_table1_semantic_only", 43.60, 518.84),
    _backbone("Xception-65", "mapillary_xception65", 44.31, 1054.05),
    _backbone("Xception-71", "mapillary_xception71", 46.73, 1264.32),
    _backbone("HRNet-W48", "mapillary_hrnet_w48", 71.66, 2304.87),
    _backbone("HRNet-W48+", "mapillary_hrnet_w48_plus", 88.87, 2208.04),
    _backbone("HRNet-W48+ (Atrous)", "mapillary_hrnet_w48_plus_atrous", 88.87, 2972.02),
    _backbone("HRNet-Wider+", "mapillary_hrnet_wider_plus", 60.05, 1315.70),
    _backbone("HRNet-Wider+ (Atrous)", "mapillary_hrnet_wider_plus_atrous", 60.05, 1711.69),
    _backbone("Auto-DeepLab-L+", "mapillary_auto_deeplab_l_plus", 41.54, 1493.78),
    _backbone("Auto-DeepLab-XL+", "mapillary_auto_deeplab_xl_plus", 71.98, 2378.17),
    _backbone("Auto-DeepLab-XL++", "mapillary_auto_deeplab_xl_plus_plus", 72.16, 2386.81),
    _runtime("Cityscapes, MNV3", "cityscapes_mobilenet_v3", _CITYSCAPES, 54.17),
    _runtime("Cityscapes, ResNet-50", "cityscapes_resnet50", _CITYSCAPES, 381.39),
    _runtime("Cityscapes, Xception-71", "cityscapes_xception71", _CITYSCAPES, 547.49),
    _runtime("Mapillary Vistas, MNV3", "mapillary_mobilenet_v3", _MAPILLARY, 138.12),
    _runtime("Mapillary Vistas, ResNet-50", "mapillary_resnet50", _MAPILLARY, 910.47),
    _runtime("Mapillary Vistas, Xception-71", "mapillary_xception71", _MAPILLARY, 1264.32, counted=_MAPILLARY_COUNTED),
    _runtime("COCO, MNV3", "coco_mobilenet_v3", _COCO_SMALL, 12.24),
    _runtime("COCO, ResNet-50", "coco_resnet50", _COCO_SMALL, 77.79),
    _runtime("COCO, Xception-71 at 641", "coco_xception71_641", _COCO_SMALL, 109.21),
    _runtime("COCO, Xception-71 at 1025", "coco_xception71", _COCO_LARGE, 279.25),
)
"""The rows in the order of the paper."""
