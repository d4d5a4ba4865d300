"""`panoptic-deeplab doctor`."""

from dataclasses import dataclass

from panoptic_deeplab.cli.terminal import print_json, show_table
from panoptic_deeplab.cli.verb import Flag, Verb


@dataclass(frozen=True, kw_only=True)
class Doctor(Verb):
    """Look at this machine: versions, devices, optional packages, known problems.

    Ends with exit code 1 if there is a problem.

    With --json, the document is: version, python, platform, packages {name: version or null}, extras {module:
    installed}, cpu_count, torch_threads, gpus, bfloat16_on_gpu, problems (empty = ready).
    """

    json: Flag = False
    """Write one JSON document to stdout instead of a table."""

    def execute(self) -> None:
        """Inspect; print the findings."""
        from panoptic_deeplab.cli.doctor_run import inspect_machine

        report = inspect_machine()
        if self.json:
            print_json(report.to_json())
        else:
            show_table(report.rows())
        if report.problems:
            raise SystemExit(1)
