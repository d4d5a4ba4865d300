from typing import Any

import pytest

from panoptic_deeplab import config
from panoptic_deeplab.config import Config, DataConfig, InputConfig, ModelConfig, TrainConfig
from panoptic_deeplab.errors import ConfigError


def test_defaults_are_the_papers() -> None:
    defaults = Config()
    assert defaults.target.sigma == 8  # section 3.1
    assert (defaults.postprocess.nms_kernel, defaults.postprocess.center_threshold) == (7, 0.1)  # section 3.2
    assert defaults.postprocess.top_k == 200
    assert (defaults.loss.semantic_lambda, defaults.loss.heatmap_lambda, defaults.loss.offset_lambda) == (1, 200, 0.01)
    assert (defaults.target.small_instance_area, defaults.target.small_instance_weight) == (64 * 64, 3)  # section 4
    assert (defaults.train.optimizer, defaults.train.learning_rate, defaults.train.weight_decay) == ("adam", 1e-3, 0)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("DataConfig", {"crop_size": (0, 5)}, "`data.crop_size` must be two positive numbers. Got (0, 5) instead."),
        ("DataConfig", {"min_scale": 3.0}, "`data.min_scale` must be positive and at most max_scale"),
        ("DataConfig", {"flip_probability": 1.5}, "`data.flip_probability` must be between 0 and 1"),
        ("DataConfig", {"num_workers": -1}, "`data.num_workers` must be at least 0"),
        ("InputConfig", {"scale": 0.0}, "`input.scale` must be positive"),
        ("InputConfig", {"scale": 2.0, "longest_side": 641}, "`input.scale` must be 1 when input.longest_side is set"),
        ("ModelConfig", {"decoder_strides": (4, 8)}, "`model.decoder_strides` must be falling strides"),
        ("ModelConfig", {"projections": (64,)}, "`model.projections` must be one positive number for each"),
        ("ModelConfig", {"dual_decoder": False}, "`model.dual_aspp` must be false when model.dual_decoder is false"),
        ("ModelConfig", {"aspp_channels": 0}, "`model.aspp_channels` must be positive"),
        ("ModelConfig", {"instance_head_channels": -1}, "`model.instance_head_channels` must be positive"),
        (
            "ModelConfig",
            {"projections": (64, 0)},
            "`model.projections` must be one positive number for each of decoder_strides (8, 4). Got (64, 0) instead.",
        ),
        ("ModelConfig", {"atrous_rates": (6, 12, 0)}, "`model.atrous_rates` must be positive numbers"),
        ("ModelConfig", {"image_pool_size": (0, 65)}, "`model.image_pool_size` must be positive numbers"),
        ("CompatConfig", {"norm_eps": 0.0}, "`model.compat.norm_eps` must be positive"),
        ("CompatConfig", {"backbone_norm_eps": -1e-3}, "`model.compat.backbone_norm_eps` must be positive"),
        ("TargetConfig", {"sigma": 0.0}, "`target.sigma` must be positive"),
        ("TargetConfig", {"small_instance_area": -1}, "`target.small_instance_area` must be at least 0"),
        ("LossConfig", {"top_k_fraction": 0.0}, "`loss.top_k_fraction` must be above 0 and at most 1"),
        ("LossConfig", {"offset_lambda": -1.0}, "`loss.offset_lambda` must be at least 0"),
        ("PostprocessConfig", {"nms_kernel": 4}, "`postprocess.nms_kernel` must be a positive odd number. Got 4"),
        ("PostprocessConfig", {"top_k": 0}, "`postprocess.top_k` must be positive"),
        ("TrainConfig", {"max_steps": 0}, "`train.max_steps` must be positive"),
        ("TrainConfig", {"images_at_once": 0}, "`train.images_at_once` must be positive. Got 0"),
        ("TrainConfig", {"ema_decay": 1.0}, "`train.ema_decay` must be between 0 and 1"),
        ("TrainConfig", {"clip_gradient_norm": 0.0}, "`train.clip_gradient_norm` must be positive"),
        ("TrainConfig", {"weight_decay": -0.1}, "`train.weight_decay` must be at least 0"),
        ("TrainConfig", {"poly_power": -0.1}, "`train.poly_power` must be at least 0"),
        ("TrainConfig", {"backbone_learning_rate_factor": -1.0}, "`train.backbone_learning_rate_factor` must be at"),
        (
            "TrainConfig",
            {"max_steps": 5, "warmup_steps": 5},
            "`train.warmup_steps` must be at least 0 and below train.",
        ),
        ("EvaluationConfig", {"max_detections": 0}, "`evaluation.max_detections` must be positive"),
        ("EvaluationConfig", {"num_pictures": -1}, "`evaluation.num_pictures` must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused(section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        getattr(config, section)(**values)
    assert str(caught.value).startswith(message)


def test_valid_combinations_are_accepted() -> None:
    assert DataConfig(min_scale=1.0, max_scale=1.0, scale_step=0).max_scale == 1
    assert InputConfig(longest_side=641).scale == 1
    assert ModelConfig(dual_decoder=False, dual_aspp=False).dual_decoder is False
    assert ModelConfig(decoder_strides=(16, 8, 4), projections=(1, 2, 3), instance_projections=(1, 2, 3))
    assert TrainConfig(batch_size=3, images_at_once=2).batch_size == 3
    assert TrainConfig(max_steps=5, warmup_steps=4, weight_decay=0.0, clip_gradient_norm=0.1).warmup_steps == 4


def test_cross_entropy_of_the_heatmap_needs_a_probability() -> None:
    loss = config.LossConfig(heatmap_loss="cross_entropy")
    with pytest.raises(ConfigError, match=r"`loss.heatmap_loss` must be mse unless model"):
        Config(loss=loss)
    Config(loss=loss, model=ModelConfig(heatmap_activation="sigmoid"))
