"""Whether a labeled set has instances at all: without a single one, a network learns to find none, in silence."""

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.sample import PanopticSource, Sample
from panoptic_deeplab.errors import DatasetError


def check_instances(source: PanopticSource) -> None:
    """See that one of the images has an instance, if the table has thing classes; reads no further than that image.

    Raises:
        DatasetError: all things are crowd or absent, or a file that had to be read is wrong.
    """
    if not source.categories.thing_mask.any():
        return
    for index in range(len(source)):
        sample = source[index]
        if sample.panoptic_map is None or has_instance(sample):
            return
    if len(source):
        raise DatasetError(no_instances_message(source.categories, len(source)))


def has_instance(sample: Sample) -> bool:
    """Tell whether a thing is in the image that is no crowd."""
    return any(segment.isthing and not segment.iscrowd for segment in sample.segments_info)


def no_instances_message(categories: CategoryTable, num_images: int) -> str:
    """Say that a set has none, and what to do."""
    return (
        f"None of the {num_images} labeled images has an instance: all things of table {categories.name!r} are crowd"
        " or absent. Expected instance maps or segments without `iscrowd`; look for labels that are not read, or train"
        " with model.instance_branch false."
    )
