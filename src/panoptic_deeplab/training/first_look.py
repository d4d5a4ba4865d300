"""The pictures to look at before anything else: what the labels hold, and what the network is fed."""

from collections import Counter
from pathlib import Path

import numpy as np

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.data.loader import Batch
from panoptic_deeplab.data.sample import PanopticSource
from panoptic_deeplab.files import written_whole
from panoptic_deeplab.visualize.curves import draw_label_statistics
from panoptic_deeplab.visualize.mosaic import draw_train_batch

MAX_IMAGES = 100
"""Number of images for the statistics of labels, evenly spread over the set."""


def write_label_statistics(source: PanopticSource, path: Path) -> None:
    """Draw how often each class is labeled, in at most `MAX_IMAGES` images of the set."""
    indices = np.unique(np.linspace(0, len(source) - 1, min(MAX_IMAGES, len(source))).round().astype(int)).tolist()
    names = {category.id: category.name for category in source.categories.categories}
    num_segments: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    num_pixels: Counter[str] = Counter(dict.fromkeys(names.values(), 0))
    for index in indices:
        for segment in source[index].segments_info:
            num_segments[names[segment.category_id]] += 1
            num_pixels[names[segment.category_id]] += segment.area
    title = f"Labels of {len(indices)} of {len(source)} training images"
    draw_label_statistics(num_segments, num_pixels, path, title=title)


def write_training_batch(batch: Batch, path: Path, *, categories: CategoryTable, config: InputConfig) -> None:
    """Draw a batch, on any device, as it enters the network, with its targets."""
    picture = draw_train_batch(batch.images, batch.targets, categories=categories, input_config=config)
    with written_whole(path) as temporary:
        picture.save(temporary)
