"""Validation images for a set with one split only: some of its images, which training then does without.

Images with neighboring names often show one place or one specimen, so whole blocks of neighbors are held out.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.data.sample import PanopticSource, Sample, image_ids
from panoptic_deeplab.errors import DatasetError

RULE = "of the sorted names, cut into blocks of neighbors, every eighth block"
_BLOCKS = 40
_EVERY = 8
_COPIES = ".rf."
"""Roboflow names augmented copies of an image `NAME.rf.HASH`."""


class PartOfSource:
    """Some images of a source.

    Args:
        source: the whole.
        indices: places of the images in it.
    """

    def __init__(self, source: PanopticSource, indices: Sequence[int]) -> None:
        self.categories = source.categories
        self._source = source
        self._indices = indices
        names = image_ids(source)
        self.image_ids: Sequence[str] = [names[index] for index in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[self._indices[index]]


def evenly(source: PanopticSource, most: int) -> PanopticSource:
    """So many images of a source at most, spread over it evenly."""
    count = len(source)
    return source if count <= most else PartOfSource(source, [place * count // most for place in range(most)])


def part_of(source: PanopticSource, list_path: Path, *, held_out: bool) -> PanopticSource:
    """The images that a list names, or all others.

    Args:
        source: the whole split.
        list_path: text file, an image id a line.
        held_out: True = those of the list.

    Raises:
        DatasetError: the list cannot be read, or names an image that the split does not have, or all of them.
    """
    names, listed = list(image_ids(source)), read_lines(list_path)
    unknown = sorted(set(listed) - set(names))
    if unknown or not listed or len(set(listed)) == len(names):
        what = f"lists {unknown[0]!r}, which is no image of" if unknown else "must list some, but not all images of"
        raise DatasetError(
            f"{list_path} {what} the split ({len(names)} images). Expected an id a line; see data.held_out."
        )
    chosen = set(listed)
    return PartOfSource(source, [index for index, name in enumerate(names) if (name in chosen) == held_out])


def choose_held_out(names: Sequence[str]) -> list[str]:
    """The images to hold out: about an eighth, in whole blocks of neighbors; always the same ones.

    Copies of one image stay together.

    Args:
        names: ids of all images of the split.

    Raises:
        DatasetError: there are too few to divide.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=_natural):
        groups.setdefault(name.partition(_COPIES)[0], []).append(name)
    if len(groups) < 2:
        raise DatasetError(f"A split of {len(groups)} images cannot be divided into training and validation.")
    count = _BLOCKS if len(groups) >= 5 * _BLOCKS else min(_EVERY, len(groups))
    blocks = [list(groups.values())[i * len(groups) // count : (i + 1) * len(groups) // count] for i in range(count)]
    chosen = blocks[_EVERY - 1 :: _EVERY] or blocks[-1:]
    return [name for block in chosen for group in block for name in group]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `a9` before `a10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
