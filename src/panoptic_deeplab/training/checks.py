"""What can be known to be wrong before the first step, so that no hours are lost."""

from panoptic_deeplab.config import Config
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.distributed import Process
from panoptic_deeplab.errors import ConfigError, DatasetError, require


def check_batch(config: Config, process: Process) -> None:
    """See that the batch can be split, and that batch normalization has enough of it.

    Raises:
        ConfigError: it is not so.
    """
    settings = config.train
    if settings.batch_size % process.world_size:
        raise ConfigError(
            f"`train.batch_size` must be divisible by the {process.world_size} processes. Got {settings.batch_size}"
            f" instead; use {-(-settings.batch_size // process.world_size) * process.world_size}."
        )
    if settings.batch_norm == "sync" and process.world_size > 1 and not process.device.startswith("cuda"):
        raise ConfigError("`train.batch_norm` sync needs GPUs. Use train, frozen_backbone or frozen on the CPU.")
    if images_normalized_together(config, process) == 1 and _trains_norm_of_one_value(config):
        raise ConfigError(
            "The image pool of the ASPP gives one value a channel and image, so its batch normalization needs at least"
            f" 2 images at once. Got 1 (train.batch_size {settings.batch_size}, {process.world_size} processes,"
            f" train.images_at_once {settings.images_at_once}); use a larger batch or more images at once, or set"
            " model.image_pool_norm to false."
        )


def check_packages() -> None:
    """See that what writes the files of a run is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    require("torch.utils.tensorboard", extra="train", purpose="logging to TensorBoard")
    require("matplotlib.figure", extra="train", purpose="Drawing curves")


def images_normalized_together(config: Config, process: Process) -> int:
    """Over how many images batch normalization takes its statistics, in the pass that has fewest."""
    share = config.train.batch_size // process.world_size
    images = share // config.train.passes(share)
    return images * process.world_size if config.train.batch_norm == "sync" else images


def check_validation(source: PanopticSource, config: Config) -> None:
    """See that `evaluation.metric` can be measured on a validation split, as far as its first image tells.

    Raises:
        DatasetError: the split has no image, or no labels.
        ConfigError: there are no things to measure AP on.
        MissingDependencyError: AP needs pycocotools.
    """
    if len(source) == 0:
        raise DatasetError("The validation split has no image; see data.root and data.val_split.")
    first = source[0]
    if first.panoptic_map is None:
        raise DatasetError(
            f"{first.image_id} of the validation split {config.data.val_split!r} has no labels. Validation needs a"
            " split with labels; see data.val_split."
        )
    if config.evaluation.metric == "AP":
        require("pycocotools.cocoeval", extra="eval", purpose="`evaluation.metric` AP")
        if not any(category.isthing for category in source.categories.categories):
            raise ConfigError(
                f"`evaluation.metric` is AP, but the categories {source.categories.name} have no thing to measure it"
                " on. Use PQ or mIoU."
            )


def _trains_norm_of_one_value(config: Config) -> bool:
    """Whether the ASPP has a batch normalization in training mode behind a pool of the whole feature map."""
    model = config.model
    if not model.image_pool_norm or config.train.batch_norm == "frozen":
        return False
    if model.image_pool_size is None:
        return True
    stride = model.output_stride
    return all(
        -(-pool // stride) >= -(-side // stride)
        for pool, side in zip(model.image_pool_size, config.data.crop_size, strict=True)
    )
