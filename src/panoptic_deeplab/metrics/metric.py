"""What every metric is: `Metric` counts over images, `MetricReport` carries its numbers, columns and JSON.

`evaluate` and its report go through these two, so a metric of one's own needs nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from panoptic_deeplab.results.panoptic_result import PanopticResult


class MetricReport:
    """The numbers of a metric over a set, a frozen dataclass; fractions in [0, 1], None = nothing to measure on."""

    numbers: ClassVar[Mapping[str, str]] = {}
    """Name -> field. `EvaluationReport.metric` takes these names, which no other metric has."""
    heads: ClassVar[Mapping[str, str]] = {}
    """Name -> head of its column in the printed table, where that is another one."""
    row_name: ClassVar[str] = ""
    """Name of the row in the printed table."""
    class_numbers: ClassVar[Mapping[str, str]] = {}
    """Head of a column in the table of classes -> field of the rows `per_class`: a fraction or, as int, a count."""
    per_class: tuple[Any, ...]
    """Rows with `category_id`; only where there are `class_numbers`."""

    def values(self) -> dict[str, float | None]:
        """The numbers by name."""
        return {name: getattr(self, field) for name, field in self.numbers.items()}

    def table(self) -> list[list[str]]:
        """Cells of the printed table; the first row is the head, the first cell of a row its name."""
        values = self.values()
        return [["", *(self.heads.get(name, name) for name in values)], [self.row_name, *map(percent, values.values())]]

    def class_columns(self) -> dict[str, dict[int, float | int | None]]:
        """Head -> category id -> fraction or count."""
        return {
            head: {row.category_id: getattr(row, field) for row in self.per_class}
            for head, field in self.class_numbers.items()
        }

    def remark(self) -> str:
        """A sentence below the tables, where the classes are not listed; empty = none."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """Plain data: the fields by name; rows are objects."""
        return {
            name: [vars(row).copy() for row in value] if name == "per_class" else value
            for name, value in vars(self).items()
        }


class Metric(ABC):
    """Accumulates over images; each process has one, sees its share of the images, and joins what all have counted."""

    name: ClassVar[str]
    """Key of the report in report.json."""
    note: ClassVar[str] = ""
    """A sentence on how the numbers are made, for report.json; empty = none."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that compute the numbers, whose versions belong into report.json."""

    @abstractmethod
    def update(self, prediction: PanopticResult, truth: PanopticResult, image_id: str) -> None:
        """Add one image.

        Args:
            prediction: what the model says.
            truth: the label, at the same size.
            image_id: unique in the evaluation.

        Raises:
            DatasetError: the two cannot be compared.
        """

    @abstractmethod
    def counted(self) -> Any:
        """What was counted so far, as `merge` takes it: tensors, arrays and plain data, which can be pickled."""

    @abstractmethod
    def merge(self, parts: Sequence[Any]) -> None:
        """Replace what was counted by the sum of several parts.

        Args:
            parts: what `counted` of metrics of this class gave, each over other images; their order is the same in all
                processes.

        Raises:
            DatasetError: an image is in two parts.
        """

    @abstractmethod
    def compute(self) -> MetricReport:
        """The numbers of all images so far."""


def percent(fraction: float | None) -> str:
    """The text of a number in a table; `-` where there was nothing to measure."""
    return "-" if fraction is None else f"{100 * fraction:.2f}"
