"""What can be known to be wrong before the first step, so that no hours are lost."""

import logging
import time

import torch
from torch import nn

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config, TrainConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.data.instances import check_instances
from panoptic_deeplab.data.look import Look, look_at
from panoptic_deeplab.data.problems import of_one_kind
from panoptic_deeplab.data.sample import PanopticSource, image_ids
from panoptic_deeplab.distributed import Process, gather_objects
from panoptic_deeplab.errors import ConfigError, DatasetError, require
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.training.loggers.named import check_logger_packages

_KINDS = 4
"""So many kinds of fault are told by an example."""

logger = logging.getLogger(__name__)

MAX_TRAINING_IMAGES = 1000
"""So many are read before the first step, evenly over the set; the first epoch reads the others."""


def check_batch(config: Config, process: Process) -> None:
    """See that the batch can be split, and that batch normalization has enough of it; else that is a `ConfigError`."""
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


def check_packages(settings: TrainConfig) -> None:
    """See that what writes the files of a run is installed, or raise a `MissingDependencyError`."""
    check_logger_packages(settings.loggers)
    require("matplotlib.figure", extra="train", purpose="Drawing curves")


def images_normalized_together(config: Config, process: Process) -> int:
    """How many images batch normalization takes its statistics over, in the pass that has fewest."""
    share = config.train.batch_size // process.world_size
    images = share // config.train.passes(share)
    return images * process.world_size if config.train.batch_norm == "sync" else images


def check_training(source: PanopticSource, config: Config) -> None:
    """See that there are instances to learn, if the network has a branch for them; else that is a `DatasetError`."""
    if config.model.instance_branch:
        check_instances(source)


def check_validation(source: PanopticSource, config: Config) -> None:
    """See that there is something to validate on, and that `evaluation.metric` can be measured.

    Raises:
        DatasetError: the split has no image, no labels, or no instances for a network that finds them.
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
    if config.model.instance_branch:
        check_instances(source)
    if config.evaluation.metric == "AP":
        require("pycocotools.cocoeval", extra="eval", purpose="`evaluation.metric` AP")
        if not any(category.isthing for category in source.categories.categories):
            raise ConfigError(
                f"`evaluation.metric` is AP, but the categories {source.categories.name} have no thing to measure it"
                " on. Use PQ or mIoU."
            )


def check_network(network: nn.Module, categories: CategoryTable, config: Config, process: Process) -> None:
    """See that a network of one's own fits the settings, by one training crop in evaluation mode.

    Raises:
        ConfigError: its maps are not the `RawMaps` of the classes, or settings ask for a `backbone` that it has not.
    """
    name, settings = type(network).__name__, config.train
    if config.model.weights is not None:
        raise ConfigError("`model.weights` is for networks made from the configuration; `network` has its own weights.")
    needs_backbone = settings.batch_norm == "frozen_backbone" or settings.backbone_learning_rate_factor != 1
    if needs_backbone and not isinstance(getattr(network, "backbone", None), nn.Module):
        raise ConfigError(
            f"`train.batch_norm` frozen_backbone and `train.backbone_learning_rate_factor` need a network with an"
            f" attribute `backbone`. {name} has none."
        )
    network.to(process.device).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, *config.data.crop_size, device=process.device))
    shapes = [map_ if map_ is None else tuple(map_.shape[:2]) for map_ in maps] if isinstance(maps, RawMaps) else None
    instance = [(1, 1), (1, 2)] if config.model.instance_branch else [None, None]
    if shapes != [(1, categories.num_classes), *instance]:
        raise ConfigError(
            f"`network` must give RawMaps with {categories.num_classes} channels of classes"
            f"{', 1 of centers and 2 of offsets' if config.model.instance_branch else ' and nothing else'}"
            f" (`categories` and `model.instance_branch` say so). {name} gives {shapes or type(maps).__name__}."
        )


def check_data(training: PanopticSource, validation: PanopticSource, config: Config, process: Process) -> None:
    """Read every validation image and up to `MAX_TRAINING_IMAGES` training images with their labels, once.

    The first step comes after it, so that no image is found damaged when the run is over. All processes must call it
    together; each reads its share. Scenes that are computed are not looked at.

    Raises:
        DatasetError: an image or label cannot be used, or validation images have nothing to measure on; in every
            process.
    """
    if len(training) == 0:
        raise DatasetError("The training split has no image; see data.root and data.train_split.")
    count = min(MAX_TRAINING_IMAGES, len(training))
    chosen = [index * len(training) // count for index in range(count)]
    if isinstance(validation, SyntheticSource):
        return
    started = time.perf_counter()
    logger.info(
        "Reading all %d validation images and %d of %d training images with their labels once, to find damaged files"
        " before the first step.",
        len(validation),
        count,
        len(training),
    )
    looks = _looks(validation, list(range(len(validation))), config, process)
    _check_looks(looks, validation, split=config.data.val_split, setting="data.val_split")
    if not any(look.segments for look in looks.values()):
        raise DatasetError(
            f"The labels of all {len(looks)} images of the validation split {config.data.val_split!r} are void, so"
            " nothing can be measured. Label some of it, or see data.val_split and data.categories."
        )
    _check_looks(
        _looks(training, chosen, config, process), training, split=config.data.train_split, setting="data.train_split"
    )
    logger.info("They were read in %.0f s.", time.perf_counter() - started)


def _looks(source: PanopticSource, indices: list[int], config: Config, process: Process) -> dict[int, Look]:
    """A look at each of the samples, of all processes, by index."""
    own = indices[process.rank :: process.world_size]
    found = dict(zip(own, look_at(source, own, num_workers=config.data.num_workers), strict=True))
    of_all = {index: look for looks in gather_objects(found) for index, look in looks.items()}
    return {index: of_all[index] for index in indices}


def _check_looks(looks: dict[int, Look], source: PanopticSource, *, split: str, setting: str) -> None:
    names = image_ids(source)
    errors = [(names[index], look.error) for index, look in looks.items() if look.error is not None]
    if errors:
        kinds = of_one_kind(errors)
        said = [f"{len(kind)} of them: {kind[0][1]}" for kind in kinds[:_KINDS]] if len(kinds) > 1 else [errors[0][1]]
        more = f" And {len(kinds) - _KINDS} further kinds of fault." if len(kinds) > _KINDS else ""
        raise DatasetError(
            f"{len(errors)} of {len(looks)} images of the split {split!r} cannot be used."
            f" {'' if len(kinds) > 1 else 'The first one: '}{' '.join(said)}{more} List them all with:"
            " panoptic-deeplab data check"
        )
    without = [index for index, look in looks.items() if not look.labeled]
    if without:
        raise DatasetError(
            f"{names[without[0]]} of the split {split!r} has no labels. Training and validation need splits"
            f" with labels; see {setting}."
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
