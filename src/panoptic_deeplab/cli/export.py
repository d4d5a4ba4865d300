"""`panoptic-deeplab export`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from panoptic_deeplab.cli.inference_options import InferenceOnData
from panoptic_deeplab.cli.option_values import DataChanges
from panoptic_deeplab.cli.terminal import print_json, say
from panoptic_deeplab.cli.verb import Flag, make_folder, progress_bar
from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.inference.exported.model_file import ModelFileInfo
    from panoptic_deeplab.inference.predictor import PanopticPredictor

_CALIBRATION = 100
"""Images."""


@dataclass(frozen=True, kw_only=True)
class Export(InferenceOnData):
    """Write a model as one file for another runtime: ONNX, OpenVINO IR or a program of torch.export.

    The file describes itself (categories, preprocessing, rules, version), and `predict` and `evaluate` take it after
    --model as they take a folder. It is loaded and compared with PyTorch before it takes its name; one that does not
    agree is not written.

    --int8 quantizes the convolutions with images of data.train_split, and measures PQ before and after on
    data.val_split; a file that loses more than one PQ point is not written. INT8 is quicker where the processor has
    instructions for it.

    With --json, the document is: files; kind; format; precision; input_size [height, width] or null; agreement
    {num_images, num_pixels, differing_pixels, score_difference, map_differences {name: in standard deviations}}, null
    with --int8; quantization {pq_before, pq_after (fractions in [0, 1]), num_images}, null without it.
    """

    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The file: .onnx, .xml (its weights go to a .bin beside it) or .pt2."""
    format: Literal["onnx", "openvino", "torch"] = "onnx"
    """`torch` is a program of torch.export."""
    panoptic: Flag = False
    """The whole pipeline: uint8 images (height, width, RGB) to panoptic map and segments. Otherwise the network alone:
    normalized images to the three raw maps."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Size of the images that the file takes, after resizing and before padding; default: any."""
    precision: Precision = "float32"
    """Only float32: the file is float32, or INT8 with --int8. A runtime may compute in another one (`predict`)."""
    compile: Flag = False
    """With `torch`, write machine code of AOTInductor for this kind of processor and one --size, for programs of
    yours. It is code, so --model does not take it (`export.compiled.load_compiled` loads it); it needs a C++
    compiler."""
    int8: Flag = False
    """Convolutions with 8-bit integers, for the formats onnx and openvino."""
    calibration: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """With --int8: this many images of data.train_split show in which range numbers lie. Default: 100."""
    data: DataChanges = field(default_factory=DataChanges)
    """With --int8: the labeled set."""
    json: Flag = False
    """Write one JSON document to stdout."""

    def execute(self) -> None:
        """Export; say what was written and how well it agrees."""
        self._check_options()
        self._check_output()
        predictor = replace(self, compile=False).load_predictor()  # the file is compiled, the model only compared
        if self.panoptic and self.test_time_augmentation and not predictor.config.test_time_augmentation.is_plain:
            raise ConfigError(
                "`test_time_augmentation` needs the raw maps, which a file with the whole pipeline keeps to itself."
                " Leave it or --panoptic out."
            )
        document = self._quantized(predictor) if self.int8 else self._plain(predictor)
        if self.json:
            print_json(document)
        else:
            for file in document["files"]:
                say(file)

    def _check_options(self) -> None:
        """What is asked for has to show in the file."""
        if len(self.model) != 1:
            raise ConfigError(f"`export` writes one model. Got {len(self.model)} after --model.")
        if self.precision != "float32":
            raise ConfigError(
                "`precision` must be float32: an exported file is float32, or INT8 with --int8; OpenVINO can compute in"
                f" bfloat16 when it runs the file. Got {self.precision}; leave it out."
            )
        if self.compile and self.int8:
            raise ConfigError("`compile` is for the format torch, which has no INT8 form. Leave one of both out.")
        if self.calibration is not None and self.calibration < 1:
            raise ConfigError(f"`calibration` must be positive. Got {self.calibration} instead.")
        if not self.int8 and (self.calibration is not None or self.data):
            raise ConfigError(
                "`calibration` and `data` are for --int8: a file in float32 needs no images. Leave them out, or add"
                " --int8."
            )

    def _check_output(self) -> None:
        from panoptic_deeplab.export.exporter import check_path

        check_path(self.output, self.format)
        make_folder(self.output.parent)
        if self.output.is_dir():
            raise ConfigError(f"`output` must be a file, but {self.output} is a folder. Choose another name.")

    def _plain(self, predictor: "PanopticPredictor") -> dict[str, Any]:
        from panoptic_deeplab.export.exporter import export_model

        report = export_model(
            predictor, self.output, format=self.format, kind=self._kind(), size=self.size, compiled=self.compile
        )
        return self._document(report.files, report.info, agreement=asdict(report.agreement))

    def _quantized(self, predictor: "PanopticPredictor") -> dict[str, Any]:
        from panoptic_deeplab.export.quantized import export_quantized

        data = self.data_config(predictor.config)
        training = self.open_split(data, data.train_split)
        count = min(self.calibration or _CALIBRATION, len(training))
        chosen = [index * len(training) // count for index in range(count)]  # evenly over the set
        with progress_bar("evaluate") as on_image:
            report = export_quantized(
                predictor,
                self.output,
                format=self.format,
                calibration=[training[index].pixels for index in chosen],
                labeled=self.open_split(data, data.val_split),
                kind=self._kind(),
                size=self.size,
                on_image=on_image,
            )
        quantization = {
            "pq_before": report.before.metric("PQ"),
            "pq_after": report.after.metric("PQ"),
            "num_images": report.after.num_images,
        }
        return self._document(report.files, report.info, quantization=quantization)

    def _kind(self) -> Literal["network", "panoptic"]:
        return "panoptic" if self.panoptic else "network"

    def _document(
        self,
        files: Sequence[Path],
        info: "ModelFileInfo",
        *,
        agreement: dict[str, Any] | None = None,
        quantization: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {
            "files": [str(file) for file in files],
            "kind": info.kind,
            "format": self.format,
            "precision": info.precision,
            "input_size": info.input_size,
            "agreement": agreement,
            "quantization": quantization,
        }
