"""`panoptic-deeplab export`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from panoptic_deeplab.cli.inference_options import InferenceVerb, options_of_model
from panoptic_deeplab.cli.verb import Flag, print_json
from panoptic_deeplab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Export(InferenceVerb):
    """Write a model as one file for another runtime: ONNX, OpenVINO IR or a program of torch.export.

    The file describes itself (categories, preprocessing, rules, version), and `predict` and `evaluate` take it after
    --model as they take a folder. It is loaded and compared with PyTorch before this command ends; a file that does not
    agree is removed.

    With --json, the document is: files; kind; format; input_size [height, width] or null; agreement {num_images,
    num_pixels, differing_pixels, score_difference, map_differences {name: in standard deviations}}.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The file: .onnx, .xml (its weights go to a .bin beside it) or .pt2."""
    format: Literal["onnx", "openvino", "torch"] = "onnx"
    """`torch` is a program of torch.export."""
    panoptic: Flag = False
    """The whole pipeline: uint8 images (height, width, RGB) to panoptic map and segments. Otherwise the network alone:
    normalised images to the three raw maps."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Of the images that the file takes, after resizing and before padding; default: any."""
    json: Flag = False
    """Write one JSON document to stdout."""

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Export | None":
        """The settings of the model's run."""
        found = options_of_model(arguments)
        return None if found is None else cls(output=Path("model.onnx"), **found.defaults)

    def execute(self) -> None:
        """Export; say what was written and how well it agrees."""
        from panoptic_deeplab.export.exporter import export_model

        if len(self.model) != 1:
            raise ConfigError(f"`export` writes one model. Got {len(self.model)} after --model.")
        report = export_model(
            self.load_predictor(),
            self.output,
            format=self.format,
            kind="panoptic" if self.panoptic else "network",
            size=self.size,
        )
        if not self.json:
            for file in report.files:
                print(file)
            return
        print_json(
            {
                "files": [str(file) for file in report.files],
                "kind": report.info.kind,
                "format": self.format,
                "input_size": report.info.input_size,
                "agreement": asdict(report.agreement),
            }
        )
