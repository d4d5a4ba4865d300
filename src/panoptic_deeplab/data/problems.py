"""What is wrong with the files of a set, collected: `data check` lists all of it, everybody else is refused.

A reader looks at everything that can be known without opening an image, and notes what is wrong here. Without somebody
who collects, its constructor raises the first problem and says how many there are.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from panoptic_deeplab.errors import DatasetError

_PLACES = 3
"""So many further places are named where a fault repeats."""


_LONGEST_VALUE = 60
_VARIES = re.compile(r"""'[^']*'|"[^"]*"|\S*[/\\]\S*|\S+\.\w{2,5}\b|[\d.,%]+|#""")
"""What differs between messages of one kind: quoted words, paths, names of files, numbers."""
_SEVERAL = re.compile(r"#[\s#]*#")
"""Parts of one name, which may have blanks."""


class Problem(NamedTuple):
    """One fault at one place."""

    file: Path
    place: str
    """Where in the file, as `annotations[3]`; empty for the file as a whole."""
    fault: str
    """What is wrong and what was expected: the rest of the sentence."""
    image_id: str | None

    def sentence(self) -> str:
        """The message."""
        return f"{self.file}: {self.place} {self.fault}" if self.place else f"{self.file} {self.fault}"


@dataclass
class Problems:
    """Faults of one set, by kind, and remarks that do not stop anybody."""

    kinds: dict[str, list[Problem]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    image_ids: set[str] = field(default_factory=set)
    """Images that cannot be read because of a problem."""

    def add(self, kind: str, file: Path, fault: str, *, place: str = "", image_id: str | None = None) -> None:
        """Note a fault of a file (see `Problem`); faults of one kind are told together."""
        self.kinds.setdefault(kind, []).append(Problem(file, place, fault, image_id))
        if image_id is not None:
            self.image_ids.add(image_id)

    def messages(self) -> list[tuple[str, str | None]]:
        """One message a kind, with the image if it is about a single one."""
        return [_together(problems) for problems in self.kinds.values()]

    def raise_any(self) -> None:
        """Refuse a set that has a problem: the `DatasetError` is the first, and says how many others there are."""
        count = sum(len(problems) for problems in self.kinds.values())
        if count:
            (message, _), *_ = self.messages()
            others = len(self.kinds) - 1
            if others:
                kinds = "one other kind" if others == 1 else f"{others} other kinds"
                message += f" There are problems of {kinds} ({count} in all): `panoptic-deeplab data check` lists them."
            raise DatasetError(message)


@contextmanager
def collected(problems: Problems | None) -> Iterator[Problems]:
    """Give a reader something to note problems in: the list of whoever wants all of them; None raises at the end."""
    found = Problems() if problems is None else problems
    yield found
    if problems is None:
        found.raise_any()


def of_one_kind(faults: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Gather what is wrong with images by kind: messages that differ in names, numbers and quoted words alone.

    Args:
        faults: name of the image and message of each.

    Returns:
        The faults of each kind, in the order in which the kinds begin.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, message in faults:
        kind = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "#", message)
        kinds.setdefault(_SEVERAL.sub("#", _VARIES.sub("#", kind)), []).append((name, message))
    return list(kinds.values())


def integer_fault(entry: Mapping[str, Any], key: str, lowest: int, highest: int) -> str | None:
    """Tell what is wrong with a number of a JSON object: only integers count, as in category tables.

    Returns:
        The rest of a sentence that begins with the place; None if nothing is wrong.
    """
    if key not in entry:
        return f"has no `{key}`. Expected an integer."
    value = entry[key]
    if type(value) is int and lowest <= value <= highest:  # not `int(value)`, which would take "7", 1.7 and true
        return None
    return f"has the `{key}` {shown(value)}. Expected an integer from {lowest} to {highest}."


def flag_fault(entry: Mapping[str, Any], key: str) -> str | None:
    """Tell what is wrong with a 0 or 1 (or false or true) of a JSON object, where it is present.

    Returns:
        The rest of a sentence that begins with the place; None if nothing is wrong.
    """
    value = entry.get(key, 0)
    if type(value) in (int, bool) and value in (0, 1):
        return None
    return f"has the `{key}` {shown(value)}. Expected 0 or 1."


def shown(value: Any) -> str:
    """A value of a JSON file for a message, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _together(problems: Sequence[Problem]) -> tuple[str, str | None]:
    first, *others = problems
    message = first.sentence()
    if others:
        places = [_place(problem, first.file) for problem in others[:_PLACES]]
        more = len(others) - len(places)
        message += f" The same is wrong with {', '.join(places)}" + (f" and {more} more." if more else ".")
    image_ids = {problem.image_id for problem in problems}
    return message, first.image_id if len(image_ids) == 1 else None


def _place(problem: Problem, file: Path) -> str:
    """Where another problem is, for a message that has named a file."""
    parts = [problem.file.name] if problem.file != file or not problem.place else []
    return ": ".join([*parts, *([problem.place] if problem.place else [])])
