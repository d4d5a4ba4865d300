"""The configurations of deeplab2's published Panoptic-DeepLab models, by name.

Source: github.com/google-research/deeplab2 at 64bc1c1, `configs/{cityscapes,coco}/panoptic_deeplab/*.textproto` with
the defaults of `model.proto`, `trainer.proto` and `evaluator.proto`; `model/deeplab.py` (image pool, input). None of
these models was compared with a recording of the original code.

The MobileNets at output stride 32 have a configuration but no published weights; they are here for weights trained with
it.
"""

from dataclasses import replace
from typing import Literal

from panoptic_deeplab.config import (
    Config,
    DataConfig,
    InputConfig,
    LossConfig,
    ModelConfig,
    PostprocessConfig,
    TargetConfig,
)

_HALF = (0.5, 0.5, 0.5)
"""The network sees RGB / 127.5 - 1."""

_CITYSCAPES = Config(
    data=DataConfig(format="cityscapes", categories="cityscapes", crop_size=(1025, 2049)),
    input=InputConfig(pixel_mean=_HALF, pixel_std=_HALF, pad_to=(1025, 2049)),
    model=ModelConfig(
        backbone="deeplab2_resnet50",
        output_stride=32,
        atrous_conv="dense",
        separable_mid_norm=True,  # convolutions.py: BN and activation after both parts
        image_pool_size=(1025, 2049),  # deeplab.py: always the training crop, stride 1
        image_pool_norm=True,
        projections=(64, 32),
        instance_projections=(32, 16),
        concat_order="upsampled_first",
        align_corners=True,
        norm_eps=1e-3,  # batchnorm_epsilon
        norm_momentum=0.01,  # batchnorm_momentum 0.99 is the part that stays
        backbone_norm_eps=1e-3,
    ),
    target=TargetConfig(sigma=8.0),
    loss=LossConfig(top_k_fraction=0.2),
    postprocess=PostprocessConfig(center_threshold=0.1, nms_kernel=13, top_k=400, stuff_area_limit=2048),
)


def _with_backbone(config: Config, name: str, *, output_stride: Literal[16, 32]) -> Config:
    return replace(config, model=replace(config.model, backbone=f"deeplab2_{name}", output_stride=output_stride))


def _trained_as_os16(config: Config) -> Config:
    """What the MobileNets' newer configurations, at output stride 16, have in common."""
    return replace(
        config,
        model=replace(config.model, norm_eps=1e-5, backbone_norm_eps=1e-5),
        target=replace(config.target, small_instance_weight=1.0),
        postprocess=replace(config.postprocess, nms_kernel=7),
    )


def _on_coco(config: Config) -> Config:
    return replace(
        config,
        data=DataConfig(format="coco_panoptic", categories="coco", crop_size=(641, 641), min_scale=0.5, max_scale=1.5),
        input=replace(config.input, longest_side=641, pad_to=(641, 641)),
        model=replace(config.model, image_pool_size=(641, 641)),
        postprocess=replace(config.postprocess, nms_kernel=41, stuff_area_limit=4096),
    )


_SMALL, _LARGE, _BETA = "mobilenet_v3_small", "mobilenet_v3_large", "resnet50_beta"

DEEPLAB2_PRESETS: dict[str, Config] = {
    f"deeplab2/{_SMALL}_os16_cityscapes": _trained_as_os16(_with_backbone(_CITYSCAPES, _SMALL, output_stride=16)),
    f"deeplab2/{_SMALL}_os32_cityscapes": _with_backbone(_CITYSCAPES, _SMALL, output_stride=32),
    f"deeplab2/{_LARGE}_os16_cityscapes": _trained_as_os16(_with_backbone(_CITYSCAPES, _LARGE, output_stride=16)),
    f"deeplab2/{_LARGE}_os32_cityscapes": _with_backbone(_CITYSCAPES, _LARGE, output_stride=32),
    "deeplab2/resnet50_os32_cityscapes": _CITYSCAPES,
    f"deeplab2/{_BETA}_os32_cityscapes": _with_backbone(_CITYSCAPES, _BETA, output_stride=32),
    "deeplab2/resnet50_os32_coco": _on_coco(_CITYSCAPES),
    f"deeplab2/{_BETA}_os32_coco": _on_coco(_with_backbone(_CITYSCAPES, _BETA, output_stride=32)),
    "deeplab2/resnet50_os16_coco": _on_coco(_with_backbone(_CITYSCAPES, "resnet50", output_stride=16)),
    f"deeplab2/{_BETA}_os16_coco": _on_coco(_with_backbone(_CITYSCAPES, _BETA, output_stride=16)),
}
