"""Exported files as models: ONNX Runtime, OpenVINO, and programs of torch.export.

    open_model_file("street.onnx")  ─▶ ExportedNetwork    normalized images ─▶ RawMaps, in place of the PyTorch model
                                    or ExportedPipeline   uint8 images ─▶ finished results (files made with --panoptic)

Writing these files is `export/`'s part. A file is data: nothing of it is executed but operators, see `torch_program.py`
and `onnx_file.py`. Several threads may call one open file; OpenVINO answers them one after the other.

Dimension letters: `B` images, `H W` their size, `C` classes, `h w` = stride 4.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    PanopticDeepLabError,
    first_line,
    require,
)
from panoptic_deeplab.inference.exported.model_file import ModelFileInfo, read_model_file_info
from panoptic_deeplab.inference.exported.onnx_file import check_contents
from panoptic_deeplab.inference.exported.torch_program import load_program
from panoptic_deeplab.maps import RawMaps
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment
from panoptic_deeplab.results.scores import predicted_scores

Run = Callable[[Tensor], list[Tensor]]
"""What a runtime makes of a file: the images in, the outputs in the file's order, on the device of the images."""


class _ExportedFile:
    """A file in its runtime, with what it says about itself."""

    def __init__(self, path: Path, info: ModelFileInfo, run: Run) -> None:
        self.path, self.info, self._run = path, info, run


class ExportedNetwork(_ExportedFile):
    """A network in an exported file; takes the place of the PyTorch model."""

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> RawMaps:
        """Predict the raw maps of normalized images.

        Raises:
            CheckpointError: the file cannot be run, or its outputs are not those of its description.
            ConfigError: the file takes images of one other size only.
        """
        _check_size(self.path, self.info, (images.shape[2], images.shape[3]))
        maps = _outputs(self.path, self._run, images.contiguous())
        shapes, are_floats = [tuple(map_.shape) for map_ in maps], all(map_.is_floating_point() for map_ in maps)
        _, classes, *place = shapes[0] if shapes and len(shapes[0]) == 4 else (0, 0)
        channels = (classes, 1, 2)[: 3 if self.info.config.model.instance_branch else 1]
        if not (classes and are_floats) or shapes != [(len(images), count, *place) for count in channels]:
            raise _other_outputs(self.path)
        return RawMaps(*maps, *[None] * (3 - len(maps)))


class ExportedPipeline(_ExportedFile):
    """The whole pipeline in an exported file: only the resizing of the image is left to do."""

    def __call__(self, images: UInt8[Tensor, "B H W 3"]) -> list[PanopticResult]:
        """Segment RGB images; results at their size.

        Raises:
            ConfigError: the file takes images of one other size only.
            CheckpointError: the file cannot be run, its outputs are not those of its description, or the scores are
                not finite, so the network's output was not.
        """
        _check_size(self.path, self.info, (images.shape[1], images.shape[2]))
        outputs = [output.cpu().numpy() for output in _outputs(self.path, self._run, images)]
        try:
            return self._results(outputs, images.shape[:3])
        except CheckpointError:
            raise
        except (DatasetError, LookupError, TypeError, ValueError) as error:
            raise _other_outputs(self.path) from error

    def _results(self, outputs: list[np.ndarray], shape: torch.Size) -> list[PanopticResult]:
        panoptic_maps, semantic_maps, *columns, counts = outputs
        if panoptic_maps.shape != shape or semantic_maps.shape != shape:
            raise ValueError("maps of another size")
        results = []
        for index, count in enumerate(counts.tolist()):
            ids, category_ids, scores, areas, boxes = (column[index, :count] for column in columns)
            map_ = panoptic_maps[index]
            if ids.tolist() != list(range(1, count + 1)) or map_.min() < 0 or map_.max() > count:
                raise ValueError("segments that are not those of the map")
            if not np.isfinite(scores).all():
                raise CheckpointError(
                    f"The scores that {self.path} gives are not finite (NaN or infinity). Its weights are broken, or"
                    " too large for this precision: try float32, or another checkpoint."
                )
            rows = zip(*(column.tolist() for column in (ids, category_ids, areas, boxes, scores)), strict=True)
            table = self.info.categories
            calibration = self.info.config.postprocess.score_calibration
            segments = []
            for number, category_id, area, box, score in rows:
                category = table[table.train_id_by_category_id[category_id]]
                shown = predicted_scores(score, isthing=category.isthing, calibration=calibration)
                segments.append(Segment.of(category, number, area, box, **shown))
            results.append(
                PanopticResult(
                    panoptic_map=map_, segments_info=segments, categories=table, semantic_map=semantic_maps[index]
                )
            )
        return results


def open_model_file(
    path: str | Path, *, device: str = "auto", precision: Precision = "float32"
) -> ExportedNetwork | ExportedPipeline:
    """Load an exported file into the runtime for its format.

    Args:
        path: `.onnx`, `.xml` or `.pt2` written by `panoptic-deeplab export`.
        device: `cpu`, `cuda`, `cuda:1`; `tensorrt`, `tensorrt:1` for ONNX; or `auto` = CUDA where runtime and machine
            have it.
        precision: `bfloat16` lets OpenVINO compute in that type where the processor has it; other runtimes compute in
            the type of the file.

    Raises:
        CheckpointError: the file is missing, damaged, or was not written by this package.
        ConfigError: the runtime has no such device or precision.
        MissingDependencyError: the runtime is not installed.
    """
    path = Path(path)
    if precision == "float16":
        raise ConfigError(f"`precision` float16 is for PyTorch networks on GPUs, not for {path}. Use float32.")
    info = read_model_file_info(path)
    suffix = path.suffix.lower()
    if precision != "float32" and suffix != ".xml":
        raise ConfigError(
            f"`precision` must be float32 for {path}: its runtime computes in the type of the file. Got {precision!r}."
        )
    if suffix == ".onnx":
        run = _onnx_runtime(path, device)
    elif suffix == ".xml":
        run = _openvino(path, device, precision)
    else:
        run = _torch_export(path, device)
    return ExportedNetwork(path, info, run) if info.kind == "network" else ExportedPipeline(path, info, run)


# ------------------------------------------------------------------------------------------------------- the runtimes


def _onnx_runtime(path: Path, device: str) -> Run:
    onnxruntime = require("onnxruntime", extra="onnx", purpose="running ONNX files")
    check_contents(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # warnings of operators that run on the CPU are no news to the user
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=_providers(device, onnxruntime.get_available_providers())
        )
    except ConfigError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise CheckpointError(f"ONNX Runtime cannot load {path} ({first_line(error)}).") from error
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> list[Tensor]:
        outputs = session.run(None, {name: images.cpu().numpy()})
        return [torch.from_numpy(output).to(images.device) for output in outputs]

    return run


def _providers(device: str, available: list[str]) -> list[Any]:
    """ONNX Runtime's words for a device; what a provider cannot run goes to the next one."""
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if "CUDAExecutionProvider" in available and torch.cuda.is_available() else "cpu"
    chains = {
        "cpu": ["CPUExecutionProvider"],
        "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    }
    if kind not in chains or (index and not index.isdecimal()):
        raise ConfigError(
            f"`device` must be auto, cpu, cuda, cuda:1, tensorrt or tensorrt:1 for ONNX. Got {device!r} instead."
        )
    if chains[kind][0] not in available:
        raise ConfigError(
            f"`device` is {device!r}, but the installed ONNX Runtime has only {', '.join(available)}. Use cpu, or"
            " install onnxruntime-gpu in the place of onnxruntime."
        )
    options = {"device_id": int(index or 0)}
    return [name if name == "CPUExecutionProvider" else (name, options) for name in chains[kind]]


def _openvino(path: Path, device: str, precision: Precision) -> Run:
    openvino = require("openvino", extra="openvino", purpose="running OpenVINO files")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"`device` must be auto or cpu for an OpenVINO file. Got {device!r} instead.")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"There is no {weights}, which holds the weights of {path}. Copy or export both files.")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise CheckpointError(f"OpenVINO cannot load {path} ({first_line(error)}).") from error

    request = compiled.create_infer_request()
    one_at_a_time = threading.Lock()  # a request has one place for its outputs; the processor is busy with one anyway

    def run(images: Tensor) -> list[Tensor]:
        array = images.cpu().numpy()
        with one_at_a_time:
            outputs = request.infer([array])
            # copies: the next call writes into the same memory
            copies = [np.array(outputs[port]) for port in compiled.outputs]
        return [torch.from_numpy(copy).to(images.device) for copy in copies]

    return run


def _torch_export(path: Path, device: str) -> Run:
    program = load_program(path, device)

    def run(images: Tensor) -> list[Tensor]:
        return [output.to(images.device) for output in program(images.to(program.device))]

    return run


def _outputs(path: Path, run: Run, images: Tensor) -> list[Tensor]:
    """Run a file; what its runtime says becomes one error."""
    try:
        return run(images)
    except (PanopticDeepLabError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the runtimes' exceptions have no common base
        raise CheckpointError(
            f"{path} cannot be run on images of shape {tuple(images.shape)} ({first_line(error)}). Export it again."
        ) from error


def _other_outputs(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} gives other outputs than its description says. Export the model again.")


def _check_size(path: Path, info: ModelFileInfo, size: tuple[int, int]) -> None:
    if info.input_size not in (None, size):
        assert info.input_size is not None
        height, width = info.input_size
        raise ConfigError(
            f"{path} takes images of {height} x {width} pixels only (height x width), and this one has"
            f" {size[0]} x {size[1]} after resizing by `input.longest_side` or `input.scale`"
            f"{' and padding' if info.kind == 'network' else ''}. Export the model without --size to take any, or"
            " change the size of the image."
        )
