"""Exported files: what they say of themselves, read without the runtime that runs them.

    .onnx   ONNX               metadata_props
    .xml    OpenVINO IR        rt_info (the weights are in the .bin beside it)
    .pt2    torch.export       extra file

Each holds one JSON document under the name `panoptic_deeplab`: what goes in and comes out, classes, label rules, the
whole configuration, version and commit. `ModelFileInfo` is that document. Clients in other languages need only the
parts `input`, `outputs`, `label_rules` and `categories`, which are explained in place.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import config_from_dict, config_to_dict
from panoptic_deeplab.errors import CheckpointError
from panoptic_deeplab.files import parse_json
from panoptic_deeplab.inference.exported.onnx_file import read_metadata
from panoptic_deeplab.inference.exported.torch_archive import open_archive
from panoptic_deeplab.results.ids import VOID_ID

SUFFIXES = (".onnx", ".xml", ".pt2")

INFO_KEY = "panoptic_deeplab"

Kind = Literal["network", "panoptic"]
"""`network`: normalized images to raw maps. `panoptic`: uint8 images to panoptic maps and segment tables."""


@dataclass(frozen=True, kw_only=True)
class ModelFileInfo:
    """What an exported file says of itself."""

    kind: Kind
    config: Config
    categories: CategoryTable
    version: str
    """Version of this package when the file was written."""
    commit: str | None
    """Commit of this package's source; None where it was no git checkout."""
    input_size: tuple[int, int] | None = None
    """`(height, width)` of the only images that the file takes, with padding if it holds the network; None = any."""
    precision: Literal["float32", "int8"] = "float32"

    def to_json(self) -> str:
        """The document that is written into the file."""
        document = {
            "kind": self.kind,
            "version": self.version,
            "commit": self.commit,
            "precision": self.precision,
            "input": _input_document(self),
            "outputs": _outputs(self),
            "label_rules": _label_rules(self.config),
            "categories": self.categories.to_json(),
            "config": config_to_dict(self.config),
        }
        return json.dumps(document, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> "ModelFileInfo":
        """The inverse of `to_json`; another text is a `CheckpointError`."""
        document = parse_json(text, where=f"What {where} says of itself", error=CheckpointError)
        try:
            size, version, commit = document["input"]["size"], document["version"], document["commit"]
            if document["kind"] not in ("network", "panoptic") or document["precision"] not in ("float32", "int8"):
                raise ValueError(f"kind {document['kind']!r}, precision {document['precision']!r}")
            if not isinstance(version, str) or not isinstance(commit, str | None):
                raise ValueError(f"version {version!r}, commit {commit!r}")
            if size is not None and (len(size) != 2 or any(type(side) is not int or side < 1 for side in size)):
                raise ValueError(f"input size {size!r}, which is no [height, width]")
            return cls(
                kind=document["kind"],
                config=config_from_dict(document["config"], where=where),
                categories=CategoryTable.from_json(document["categories"], where=where),
                version=version,
                commit=commit,
                input_size=None if size is None else (size[0], size[1]),
                precision=document["precision"],
            )
        except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:  # JSON of any shape
            raise CheckpointError(
                f"{where} describes itself in a way that this version does not know ({type(error).__name__}: {error})."
                " Export the model again."
            ) from error


def is_model_file(path: str | Path) -> bool:
    """Whether the name ends like that of an exported file."""
    return Path(path).suffix.lower() in SUFFIXES


def read_model_file_info(path: str | Path) -> ModelFileInfo:
    """What an exported file says of itself.

    Raises:
        CheckpointError: the file is missing, damaged, or was not written by this package.
    """
    path = Path(path)
    readers = {".onnx": _read_onnx, ".xml": _read_openvino, ".pt2": _read_torch}
    if not path.is_file():
        raise CheckpointError(f"There is no model file {path}. Expected a file that `panoptic-deeplab export` wrote.")
    try:
        text = readers[path.suffix.lower()](path)
    except CheckpointError:
        raise
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}: {error}). It may be truncated; copy or export it again."
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path} does not say what it takes and gives: it was not written by `panoptic-deeplab export`."
            " Export the model with this package."
        )
    return ModelFileInfo.from_json(text, where=str(path))


# ------------------------------------------------------------------------------------------------------- the document


def _input_document(info: ModelFileInfo) -> dict[str, Any]:
    config = info.config
    panoptic = info.kind == "panoptic"
    return {
        "name": "images",
        "layout": "B H W 3, uint8 RGB" if panoptic else "B 3 H W, float32 RGB, (pixel / 255 - pixel_mean) / pixel_std",
        "size": info.input_size,
        "channels_before": {
            "channels": config.input.channels,
            "how": "these channels of the image, from 0, become red, green and blue; null: gray three times, or RGB",
        },
        "range_before": {
            "range": config.input.range,
            "percentiles": config.input.percentiles,
            "how": "type: 0 and the highest number of the type become 0 and 255. percentile: these percentiles of all"
            " numbers of the image do. Two numbers, as its file has them: they do. What lies beyond is cut",
        },
        "resize_before": {
            "longest_side": config.input.longest_side,
            "scale": config.input.scale,
            "how": "bilinear, antialiased; to the size round(side * factor) with factor = longest_side / longest of"
            " the image, or scale",
        },
        "normalized_inside": panoptic,
        "padded_inside": panoptic,
        "pad_to": config.input.pad_to,
        "pixel_mean": config.input.pixel_mean,
        "pixel_std": config.input.pixel_std,
        "output_stride": config.model.output_stride,
        "align_corners": config.model.align_corners,
        "padded_size": "k * output_stride + 1" if config.model.align_corners else "k * output_stride",
    }


def _outputs(info: ModelFileInfo) -> dict[str, str]:
    if info.kind == "network":
        maps = {"semantic_logits": "B C h w, float32: class scores at a quarter of the size"}
        if info.config.model.instance_branch:
            maps["center_heatmap"] = "B 1 h w, float32: about 1 at the center of an instance"
            maps["offset"] = "B 2 h w, float32: (dy, dx) to the center, in pixels of this map"
        return maps
    return {
        "panoptic_map": "B H W, int32: segment ids 1 ... count, 0 = void",
        "semantic_map": "B H W, uint8: index into categories, before merging",
        "segment_ids": "B S, int32: 1 ... count, then zeros: row n - 1 describes segment n",
        "category_ids": "B S, int32: id of categories",
        "scores": "B S, float32: 0 to 1",
        "areas": "B S, int32: pixels",
        "boxes": "B S 4, int32: x, y, width, height in pixels",
        "count": "B, int32: segments of the image",
    }


def _label_rules(config: Config) -> dict[str, Any]:
    settings = config.postprocess
    return {
        "void_id": VOID_ID,
        "order": "instances, the strongest center first, then stuff in the order of the categories",
        "instance_class": "majority of the pixels; of equal counts the first category",
        "instance_score": "heatmap at the center x mean probability of the class",
        "score_calibration": settings.score_calibration,
        "stuff_score": "mean probability of the class",
        "center_threshold": settings.center_threshold,
        "nms_kernel": settings.nms_kernel,
        "top_k": settings.top_k,
        "stuff_area_limit": settings.stuff_area_limit,
        "instance_area_limit": settings.instance_area_limit,
        "join_border_fraction": settings.join_border_fraction,
    }


# ---------------------------------------------------------------------------------------------------- the three formats


def _read_torch(path: Path) -> str | None:
    with open_archive(path) as entries:
        name = f"extra/{INFO_KEY}"
        return entries.read(name).decode("utf-8") if name in entries else None


def _read_openvino(path: Path) -> str | None:
    entry = ElementTree.parse(path).getroot().find(f"./rt_info/{INFO_KEY}")
    return None if entry is None else entry.get("value")


def _read_onnx(path: Path) -> str | None:
    return read_metadata(path, INFO_KEY)
