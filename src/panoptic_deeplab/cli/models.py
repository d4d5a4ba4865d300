"""`panoptic-deeplab models`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from panoptic_deeplab.cli.terminal import print_json, say_lines
from panoptic_deeplab.cli.verb import Flag, Verb
from panoptic_deeplab.results.text_table import text_table

if TYPE_CHECKING:
    from panoptic_deeplab.profiling.paper import CountedRow


@dataclass(frozen=True, kw_only=True)
class Models(Verb):
    """List the models that can be used by their name, or the networks of the paper with their sizes.

    A name of the list is a --model for every verb. First come the models in the package, with what this project
    measured on images that they were not trained on. The file of a published model is downloaded the first time,
    checked and converted; its numbers are those that the authors report for the validation split, in percent.

    With --json, the document is: cache, the folder of downloads; bundled, a list of {name, folder, purpose, measured
    {measure: fraction in [0, 1]}, measured_on and license, sentences}; models, a list of {name, recipe, dataset,
    backbone, parameters, reported {PQ, SQ, RQ, AP, mIoU: fractions in [0, 1], those that are reported}, note, license,
    page, url or null (nothing is published), verified (recorded outputs, names and shapes, or null), on_google_drive,
    size in bytes or null (before the first download), in_cache, verification, a sentence}; and unsupported, a list of
    {family, models, reason, page}.

    With --paper: every network of Tables 1, 5 and 9, with its parameters (in millions) and multiply-adds (in billions)
    as this package builds it, as the paper prints them, and the difference. No weights are read.

    With --paper --json, the document is a list of one object a row: table, row, backbone, input_size [height, width] at
    which the multiply-adds are counted, paper_input_size as the table says, params_m, paper_params_m (null where the
    table has none), madds_b, paper_madds_b.
    """

    paper: Flag = False
    """List the networks of the paper instead."""
    json: Flag = False
    """Write one JSON document to stdout instead of a table."""

    def execute(self) -> None:
        """Print the list; the paper's is counted first."""
        if not self.paper:
            from panoptic_deeplab.cli.zoo_listing import zoo_document, zoo_text

            print_json(zoo_document()) if self.json else say_lines(zoo_text())
            return
        from panoptic_deeplab.profiling.paper import count_paper_rows

        rows = count_paper_rows()
        if self.json:
            print_json([row.to_json() for row in rows])
        else:
            say_lines(_paper_table(rows))


def _paper_table(rows: "list[CountedRow]") -> str:
    lines = [("Table", "Row", "Backbone", "Input", "Params M", "paper", "diff", "M-Adds B", "paper", "diff")]
    footnotes: list[str] = []
    for paper, counts in rows:
        size = _size(paper.size)
        if paper.size != paper.paper_size:
            footnotes.append(f"* The table says {_size(paper.paper_size)}; its multiply-adds are those of {size}.")
            size += "*"
        parameters, multiply_adds = counts.parameters / 1e6, counts.multiply_adds / 1e9
        lines.append(
            (
                str(paper.table),
                paper.row,
                paper.config.model.backbone,
                size,
                f"{parameters:.2f}",
                "" if paper.paper_parameters is None else f"{paper.paper_parameters:.2f}",
                "" if paper.paper_parameters is None else _difference(parameters, paper.paper_parameters),
                f"{multiply_adds:.2f}",
                f"{paper.paper_multiply_adds:.2f}",
                _difference(multiply_adds, paper.paper_multiply_adds),
            )
        )
    return "\n".join([text_table(lines, left=range(4)), *dict.fromkeys(footnotes)])


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _difference(ours: float, printed: float) -> str:
    """The difference in percent; parameters that print the same digits differ by less than what is printed here."""
    return f"{100 * (ours / printed - 1):+.2f} %"
