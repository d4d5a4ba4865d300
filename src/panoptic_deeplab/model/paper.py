"""The networks whose size the paper prints (Tables 1, 5 and 9), as configurations, and the printed numbers.

`count_paper_rows` builds and counts each. Left out are the rows of other methods, and the ensemble of Table 5, whose
size is not printed.

What the printed numbers imply and the text does not say:
- The image pool keeps the window of the training crop at inference. In Table 1 this is the small crop up to "L-Crop",
  whose row repeats the multiply-adds of the row before, and again with "C_Ins = 256".
- Multiply-adds of Xception and Auto-DeepLab on Mapillary Vistas are those of 2161 x 2161 pixels; MobileNetV3 and
  ResNet-50 agree with the printed 2177 x 2177. HRNet is counted at 2161, next to its neighbours in the table.
- The HRNet family is not defined in public: `backbones/hrnet.py` says what is inferred.
- On COCO, the numbers of Xception-71 at 641 and 1025 pixels are in the ratio of their pixels, so one was not measured.
  At 641, MobileNetV3 and ResNet-50 are 6.8 and 2.1 % below the printed number. With an output for each of COCO's raw
  ids, 0 to 200, as in the authors' later code, instead of one for each of the 133 classes, they are 3.1 and 1.5 % below
  it and Xception-71 at 1025 0.5 instead of 1.0 % (at 641, 0.8 instead of 0.3 % above). Which it was is not said, so the
  classes are counted.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.maps import Size
from panoptic_deeplab.model.counting import Counts, count


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One row of a table."""

    table: int
    row: str
    """What the paper calls it."""
    model: ModelConfig
    num_classes: int
    size: Size
    """`(height, width)` at which the printed multiply-adds come out."""
    paper_size: Size
    """The one that the table names."""
    paper_parameters: float | None
    """In millions; Table 9 prints none."""
    paper_multiply_adds: float
    """In billions."""


class CountedRow(NamedTuple):
    """A row with our counts."""

    paper: PaperRow
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """The document of `panoptic-deeplab models --paper --json`, one element."""
        return {
            "table": self.paper.table,
            "row": self.paper.row,
            "backbone": self.paper.model.backbone,
            "input_size": list(self.paper.size),
            "paper_input_size": list(self.paper.paper_size),
            "params_m": self.counts.parameters / 1e6,
            "paper_params_m": self.paper.paper_parameters,
            "madds_b": self.counts.multiply_adds / 1e9,
            "paper_madds_b": self.paper.paper_multiply_adds,
        }


def count_paper_rows(rows: tuple[PaperRow, ...] | None = None) -> list[CountedRow]:
    """Count the networks of all rows.

    Args:
        rows: None = `PAPER_ROWS`.
    """
    known: dict[tuple[ModelConfig, int, Size], Counts] = {}
    counted = []
    for row in PAPER_ROWS if rows is None else rows:
        network = (row.model, row.num_classes, row.size)
        if network not in known:
            known[network] = count(*network)
        counted.append(CountedRow(row, known[network]))
    return counted


_CITYSCAPES, _MAPILLARY, _COCO = 19, 65, 133
"""Classes."""

_XCEPTION71 = ModelConfig(backbone="xception71")
_XCEPTION65 = ModelConfig(backbone="xception65")
_RESNET50 = ModelConfig(backbone="resnet50_beta")
_MOBILENET = ModelConfig(backbone="mobilenet_v3_large_seg")
_AUTO_DEEPLAB_L = ModelConfig(backbone="auto_deeplab_l_plus", output_stride=8)
_AUTO_DEEPLAB_XL = replace(
    _AUTO_DEEPLAB_L,
    backbone="auto_deeplab_xl_plus",
    decoder_strides=(4,),
    projections=(32,),
    instance_projections=(16,),
)
_AUTO_DEEPLAB_XL2 = replace(_AUTO_DEEPLAB_L, backbone="auto_deeplab_xl_plus_plus")
_HRNET = ModelConfig(
    backbone="hrnet_w48_branches",
    hrnet_exchange="inferred",
    output_stride=32,
    decoder="hrnet",
    decoder_strides=(16, 8, 4),
    projections=(128, 64, 32),
    instance_projections=(64, 32, 16),
)
_HRNET_PLUS = ModelConfig(backbone="hrnet_w48_plus", hrnet_exchange="inferred", output_stride=32)
_HRNET_WIDER = replace(_HRNET_PLUS, backbone="hrnet_wider_plus")


def _ablation(name: str, model: ModelConfig, crop: Size, parameters: float, multiply_adds: float) -> PaperRow:
    return PaperRow(
        table=1,
        row=name,
        model=replace(model, image_pool_size=crop),
        num_classes=_CITYSCAPES,
        size=(1025, 2049),
        paper_size=(1025, 2049),
        paper_parameters=parameters,
        paper_multiply_adds=multiply_adds,
    )


def _backbone(name: str, model: ModelConfig, parameters: float, multiply_adds: float) -> PaperRow:
    return PaperRow(
        table=5,
        row=name,
        model=replace(model, image_pool_size=(1025, 1025)),
        num_classes=_MAPILLARY,
        size=(2161, 2161),
        paper_size=(2177, 2177),
        paper_parameters=parameters,
        paper_multiply_adds=multiply_adds,
    )


def _runtime(
    name: str,
    model: ModelConfig,
    num_classes: int,
    paper_size: Size,
    multiply_adds: float,
    *,
    crop: Size,
    size: Size | None = None,
) -> PaperRow:
    return PaperRow(
        table=9,
        row=name,
        model=replace(model, image_pool_size=crop),
        num_classes=num_classes,
        size=size or paper_size,
        paper_size=paper_size,
        paper_parameters=None,
        paper_multiply_adds=multiply_adds,
    )


_SMALL_CROP, _LARGE_CROP = (513, 1025), (1025, 2049)
_DUAL_128 = replace(
    _XCEPTION71,
    aspp_channels=128,
    instance_aspp_channels=128,
    decoder_channels=128,
    head_channels=128,
    projections=(32, 16),
)
_TWO_DECODERS = replace(_DUAL_128, dual_aspp=False)
_ONE_DECODER = replace(_TWO_DECODERS, dual_decoder=False)
_INSTANCE_256 = replace(
    _XCEPTION71, instance_decoder_channels=256, instance_projections=(64, 32), instance_head_channels=64
)
_WHOLE, _PATCH, _COCO_SMALL = (1025, 2049), (1025, 1025), (641, 641)
_MAPILLARY_SIZE = (2177, 2177)

PAPER_ROWS: tuple[PaperRow, ...] = (
    _ablation("base", _ONE_DECODER, _SMALL_CROP, 41.85, 496.84),
    _ablation("+ Adam", _ONE_DECODER, _SMALL_CROP, 41.85, 496.84),
    _ablation("+ MSE", _ONE_DECODER, _SMALL_CROP, 41.85, 496.84),
    _ablation("+ De. x2", _TWO_DECODERS, _SMALL_CROP, 41.93, 501.88),
    _ablation("+ ASPP x2", _DUAL_128, _SMALL_CROP, 43.37, 517.17),
    _ablation("+ L-Crop", _DUAL_128, _SMALL_CROP, 43.37, 517.17),
    _ablation("+ C_Sem = 256", _XCEPTION71, _LARGE_CROP, 46.72, 547.49),
    _ablation("+ C_Ins = 256", _INSTANCE_256, _SMALL_CROP, 46.88, 573.86),
    _ablation("Sem. Only", replace(_XCEPTION71, instance_branch=False), _LARGE_CROP, 43.60, 518.84),
    _backbone("Xception-65", _XCEPTION65, 44.31, 1054.05),
    _backbone("Xception-71", _XCEPTION71, 46.73, 1264.32),
    _backbone("HRNet-W48", _HRNET, 71.66, 2304.87),
    _backbone("HRNet-W48+", _HRNET_PLUS, 88.87, 2208.04),
    _backbone("HRNet-W48+ (Atrous)", replace(_HRNET_PLUS, output_stride=16), 88.87, 2972.02),
    _backbone("HRNet-Wider+", _HRNET_WIDER, 60.05, 1315.70),
    _backbone("HRNet-Wider+ (Atrous)", replace(_HRNET_WIDER, output_stride=16), 60.05, 1711.69),
    _backbone("Auto-DeepLab-L+", _AUTO_DEEPLAB_L, 41.54, 1493.78),
    _backbone("Auto-DeepLab-XL+", _AUTO_DEEPLAB_XL, 71.98, 2378.17),
    _backbone("Auto-DeepLab-XL++", _AUTO_DEEPLAB_XL2, 72.16, 2386.81),
    _runtime("Cityscapes, MNV3", _MOBILENET, _CITYSCAPES, _WHOLE, 54.17, crop=_LARGE_CROP),
    _runtime("Cityscapes, ResNet-50", _RESNET50, _CITYSCAPES, _WHOLE, 381.39, crop=_LARGE_CROP),
    _runtime("Cityscapes, Xception-71", _XCEPTION71, _CITYSCAPES, _WHOLE, 547.49, crop=_LARGE_CROP),
    _runtime("Mapillary Vistas, MNV3", _MOBILENET, _MAPILLARY, _MAPILLARY_SIZE, 138.12, crop=_PATCH),
    _runtime("Mapillary Vistas, ResNet-50", _RESNET50, _MAPILLARY, _MAPILLARY_SIZE, 910.47, crop=_PATCH),
    _runtime(
        "Mapillary Vistas, Xception-71",
        _XCEPTION71,
        _MAPILLARY,
        _MAPILLARY_SIZE,
        1264.32,
        crop=_PATCH,
        size=(2161, 2161),
    ),
    _runtime("COCO, MNV3", _MOBILENET, _COCO, _COCO_SMALL, 12.24, crop=_COCO_SMALL),
    _runtime("COCO, ResNet-50", _RESNET50, _COCO, _COCO_SMALL, 77.79, crop=_COCO_SMALL),
    _runtime("COCO, Xception-71 at 641", _XCEPTION71, _COCO, _COCO_SMALL, 109.21, crop=_COCO_SMALL),
    _runtime("COCO, Xception-71 at 1025", _XCEPTION71, _COCO, _PATCH, 279.25, crop=_PATCH),
)
"""In the order of the paper."""
