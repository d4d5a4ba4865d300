"""`panoptic-deeplab demo`."""

from dataclasses import dataclass
from pathlib import Path

from panoptic_deeplab.cli.terminal import error_console, print_json, say, say_lines
from panoptic_deeplab.cli.verb import Flag, Folder, Verb


@dataclass(frozen=True, kw_only=True)
class Demo(Verb):
    """The tour: write synthetic street scenes, train a small model, measure it on unseen scenes, write a report.

    About three and a half minutes on two CPU cores; nothing is downloaded. Afterwards, segment any photograph with:
    panoptic-deeplab predict IMAGE --model runs/demo/best

    With --json, the document is: report (path of the HTML page), model (folder), evaluation (as of `evaluate --json`).
    """

    output: Folder = Path("runs/demo")
    """Folder for everything; an earlier demo there is replaced."""
    json: Flag = False
    """Write one JSON document to stdout instead of table and path."""

    def execute(self) -> None:
        """Run the demo; print the numbers and where the report is."""
        from panoptic_deeplab.cli.demo_run import run_demo

        result = run_demo(self.output, console=error_console())
        if self.json:
            document = {"report": str(result.report_path), "model": str(result.model_folder)}
            print_json({**document, "evaluation": result.evaluation.to_json()})
            return
        say_lines(result.evaluation.table())
        say(f"Report: {result.report_path.resolve()}")
        say(f"Try:    panoptic-deeplab predict IMAGE --model {result.model_folder} --output predictions")
