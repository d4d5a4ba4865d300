r"""Lists of images: text files with a name a line, as people and programs of any system write them.

A line means what it names last: `a`, `a.png`, `images/a.PNG` and `C:\set\images\a.png` are one image. A name that leads
up (`../a.png`) means none, as everywhere in a set.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath

from panoptic_deeplab.data.label_files import read_lines
from panoptic_deeplab.data.problems import Problems


def id_of_line(line: str, available: Mapping[str, Path], suffixes: Collection[str] = ()) -> str | None:
    """The image that a line means; None where it means none of them.

    Args:
        line: a name, with or without folders in front and a suffix behind.
        available: id -> its file or folder.
        suffixes: what a name may end with, besides the suffix of that file; in small letters.
    """
    *folders, name = re.split(r"[/\\]", line.rstrip("/\\"))
    if ".." in folders or name in available:
        return name if ".." not in folders else None
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
    return stem if stem in available and suffix in {available[stem].suffix.lower(), *suffixes} else None


def read_names(
    path: Path,
    available: Mapping[str, Path],
    problems: Problems,
    *,
    absent: Callable[[str], str],
    suffixes: Collection[str] = (),
) -> list[str]:
    """Read which images a list names.

    Args:
        path: the list.
        available: id -> its file or folder.
        problems: takes lines that name nothing, or what another one names.
        absent: what does not exist, for a line that names nothing.
        suffixes: as for `id_of_line`.

    Returns:
        Ids, each once, in the order of the list.

    Raises:
        DatasetError: the list cannot be read.
    """
    names: dict[str, None] = {}
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        name, place = id_of_line(line, available, suffixes), f"entry {number}"
        if name is None:
            fault = f"names {line!r}, but {absent(line)} does not exist. Add it, or remove the line."
            problems.add("listed and absent", path, fault, place=place)
        elif name in names:
            problems.add("listed twice", path, f"lists {name!r} twice. Remove one.", place=place)
        else:
            names[name] = None
    if not lines:
        problems.add("empty list", path, "lists no image. Expected a name a line.")
    return list(names)
