"""The published checkpoints by name, and the complete configuration of each (deeplab2's: `deeplab2_presets.py`).

Every choice that changes the outputs is a field of `Config`; a model differs from the base of its family in a few of
them. Sources, with the tags used below:

- B: github.com/bowenc0221/panoptic-deeplab at cf8e20b. `configs/panoptic_deeplab_*_cityscapes*.yaml`, one a model, with
  `segmentation/config/default.py`; `segmentation/model/{backbone,decoder}/`; `tools/test_net_single_core.py` (the image
  pool at test time). Its `tools_d2/` has the Xception and HRNet models of D's kind.
- D: github.com/facebookresearch/detectron2 at 02b5c4e. `projects/Panoptic-DeepLab/{configs,panoptic_deeplab}/`,
  `projects/DeepLab/deeplab/{resnet,semantic_seg}.py`, `detectron2/layers/aspp.py`.

Outputs of the models in `RECORDED_OUTPUTS` were compared with recordings of the original code; names and shapes of all
weights are known for those in `KNOWN_WEIGHTS`. The others follow the same code; nothing recorded of them is at hand.
"""

from dataclasses import replace

from panoptic_deeplab.config import (
    Config,
    DataConfig,
    InputConfig,
    LossConfig,
    ModelConfig,
    PostprocessConfig,
    TargetConfig,
)
from panoptic_deeplab.model.converters.deeplab2_presets import DEEPLAB2_PRESETS

KNOWN_WEIGHTS = frozenset(
    {
        "bowenc0221/R50_os32_cityscapes",
        "bowenc0221/X65_os32_cityscapes_lr_x10",
        "bowenc0221/MBNV2_100_os32_cityscapes_bs16_lr_x2",
        "bowenc0221/H48_os4_cityscapes",
        "detectron2/R52_os16_conv",
        "detectron2/R52_os16_dsconv",
        "detectron2/R52_os16_dsconv_coco",
    }
)
"""Models of which all names and shapes of the weights are known."""

RECORDED_OUTPUTS = frozenset({"bowenc0221/R50_os32_cityscapes", "detectron2/R52_os16_dsconv"})
"""Models whose outputs were compared with recordings of the original code."""

_HALF = (0.5, 0.5, 0.5)
_HALF_OF_256 = (128 / 255, 128 / 255, 128 / 255)
"""What the tools_d2 configurations subtract and divide by for Xception, 128 of 255."""

# --------------------------------------------------------------------------------------------- B: the author's PyTorch

_B = Config(
    data=DataConfig(format="cityscapes", categories="cityscapes", crop_size=(1025, 2049)),
    # Test images are padded to the test crop with the mean colour. RGB, ImageNet's mean and deviation.
    input=InputConfig(pad_to=(1025, 2049)),
    model=ModelConfig(
        backbone="resnet50",
        output_stride=32,
        atrous_rates=(3, 6, 9),
        atrous_conv="dense",  # aspp.py
        separable_mid_norm=True,  # conv_module.py: BN and ReLU after both parts
        aspp_dropout=0.5,  # aspp.py
        image_pool_size=(1025, 2049),  # test_net_single_core.py: TEST.CROP_SIZE; smaller images: all of them
        image_pool_norm=False,  # aspp.py: neither BN nor bias
        decoder_strides=(16, 8, 4),  # LOW_LEVEL_KEY res4, res3, res2
        projections=(128, 64, 32),
        instance_projections=(64, 32, 16),
        concat_order="upsampled_first",  # panoptic_deeplab.py
        align_corners=True,
        norm_momentum=0.01,  # BN_MOMENTUM
        backbone_norm_eps=1e-5,  # PyTorch's default in every backbone, Xception too
    ),
    target=TargetConfig(sigma=8.0, ignore_crowd_in_semantic=False),
    loss=LossConfig(top_k_fraction=0.2),
    postprocess=PostprocessConfig(center_threshold=0.1, nms_kernel=7, top_k=200, stuff_area_limit=2048),
)

# ------------------------------------------------------------------------------------- D: detectron2, and B's tools_d2

_D = Config(
    data=DataConfig(format="cityscapes", categories="cityscapes", crop_size=(512, 1024), padding="bottom_right"),
    # Whole images at their own, even size. RGB, ImageNet's mean and deviation (PIXEL_MEAN, PIXEL_STD over 255).
    input=InputConfig(),
    model=ModelConfig(
        backbone="resnet50s",  # "R52": STEM_TYPE deeplab, three 3x3 convolutions; STRIDE_IN_1X1 False
        output_stride=16,
        multi_grid=(1, 2, 4),  # RES5_MULTI_GRID, times RES5_DILATION 2
        atrous_rates=(6, 12, 18),
        atrous_conv="dense",
        separable_mid_norm=True,  # DepthwiseSeparableConv2d: norm and ReLU after both parts
        aspp_dropout=0.1,
        image_pool_size=(512, 1024),  # aspp.py: INPUT.CROP.SIZE, stride 1
        image_pool_norm=False,  # aspp.py: bias instead of BN
        image_pool_bias=True,
        projections=(64, 32),
        instance_projections=(64, 32),  # config.py: as in the semantic decoder
        decoder_conv="dense",
        concat_order="projection_first",  # semantic_seg.py
        center_head_conv="dense",  # panoptic_seg.py: in both variants
        align_corners=False,
        norm_momentum=0.1,
        backbone_norm_eps=1e-5,
    ),
    target=TargetConfig(sigma=10.0, ignore_crowd_in_semantic=False),  # config.py: GAUSSIAN_SIGMA
    loss=LossConfig(top_k_fraction=0.2, offset_lambda=0.02),  # 0.01 of the sum over dy and dx; ours is their mean
    postprocess=PostprocessConfig(center_threshold=0.1, nms_kernel=7, top_k=200, stuff_area_limit=2048),
)


def _with_model(config: Config, model: ModelConfig) -> Config:
    return replace(config, model=model)


def _separable(config: Config) -> Config:
    """USE_DEPTHWISE_SEPARABLE_CONV: the "DSConv" models."""
    return replace(config, model=replace(config.model, atrous_conv="separable", decoder_conv="separable"))


def _on_coco(config: Config, *, longest_side_limit: int) -> Config:
    """The COCO configurations: 640 x 640, other post-processing.

    Args:
        config: of the network on Cityscapes.
        longest_side_limit: MAX_SIZE_TRAIN. It is 960 now; the models of B were trained with 640, as its README tells.
    """
    return replace(
        config,
        data=DataConfig(
            format="coco_panoptic",
            categories="coco",
            crop_size=(640, 640),
            min_scale=0.5,  # MIN_SIZE_TRAIN: 0.5, 0.6, ..., 1.5 times 640
            max_scale=1.5,
            shortest_side=640,
            longest_side_limit=longest_side_limit,
            padding="bottom_right",
        ),
        # MIN_SIZE_TEST = MAX_SIZE_TEST = 640; SIZE_DIVISIBILITY 640.
        input=replace(config.input, longest_side=640, pad_to=(640, 640)),
        model=replace(config.model, image_pool_size=(640, 640)),
        target=replace(config.target, sigma=8.0),
        loss=replace(config.loss, top_k_fraction=1.0),
        postprocess=replace(config.postprocess, nms_kernel=41, stuff_area_limit=4096),
    )


_D_XCEPTION = replace(
    _D,
    input=InputConfig(pixel_mean=_HALF_OF_256, pixel_std=_HALF_OF_256),
    # tools_d2/d2/backbone.py: res5 is dilated as in B, without multi-grid.
    model=replace(_D.model, backbone="xception65", multi_grid=None, xception_taps="before_relu"),
)

_D_HRNET = replace(
    _D,
    model=replace(
        _D.model,
        backbone="hrnet_w48_branches",
        hrnet_exchange="bilinear_aligned",  # d2/backbone.py wraps B's hrnet.py, which aligns its resizes
        output_stride=32,  # of the fourth branch; "os16" in the names of the configurations is a remainder
        multi_grid=None,
        atrous_rates=(3, 6, 9),
        decoder_strides=(16, 8, 4),
        projections=(128, 64, 32),
        instance_projections=(128, 64, 32),
    ),
)

PRESETS: dict[str, Config] = {
    "bowenc0221/R50_os32_cityscapes": _B,
    "bowenc0221/R101_os32_cityscapes": _with_model(_B, replace(_B.model, backbone="resnet101")),
    "bowenc0221/X101_32x8d_os32_cityscapes": _with_model(_B, replace(_B.model, backbone="resnext101_32x8d")),
    "bowenc0221/X65_os32_cityscapes_lr_x10": replace(
        _B,
        input=replace(_B.input, pixel_mean=_HALF, pixel_std=_HALF),
        model=replace(
            _B.model,
            backbone="xception65",
            xception_taps="before_relu",  # xception.py; res4 is the end of the middle flow
            norm_momentum=0.001,
        ),
    ),
    "bowenc0221/MBNV2_100_os32_cityscapes_bs16_lr_x2": _with_model(_B, replace(_B.model, backbone="mobilenetv2_100")),
    "bowenc0221/H48_os4_cityscapes": _with_model(
        _B,
        replace(_B.model, backbone="hrnet_w48_branches", hrnet_exchange="bilinear_aligned"),  # hrnet.py
    ),
    "detectron2/R52_os16_conv": _D,
    "detectron2/R52_os16_dsconv": _separable(_D),
    "detectron2/R52_os16_dsconv_coco": _on_coco(_separable(_D), longest_side_limit=960),
    "detectron2/X65_os16_conv": _D_XCEPTION,
    "detectron2/X65_os16_dsconv": _separable(_D_XCEPTION),
    "detectron2/X65_os16_dsconv_coco": _on_coco(_separable(_D_XCEPTION), longest_side_limit=640),
    "detectron2/H48_conv": _D_HRNET,
    "detectron2/H48_dsconv": _separable(_D_HRNET),
    "detectron2/H48_dsconv_coco": _on_coco(_separable(_D_HRNET), longest_side_limit=640),
    **DEEPLAB2_PRESETS,
}
"""By the name that `convert --from`, `--model` and the zoo take."""


def verification(name: str) -> str:
    """How far the conversion of a checkpoint has been checked, as a sentence."""
    if name in RECORDED_OUTPUTS:
        return "Outputs agree with a recording of the original code."
    if name in KNOWN_WEIGHTS:
        return "All names and shapes of weights are those of the original code; outputs are not verified against it."
    return "Not verified against a recording of the original code."
