"""The page that predicts in the visitor's browser, as a folder of files for any web server: `write_site`.

    page/      look of both pages          ┐
    browser/   what predicts, in JavaScript ├─▶ FOLDER/index.html, *.js, models.json, models/*.onnx, runtime/
    models exported with the whole pipeline │
    onnxruntime-web (`web_runtime.py`)      ┘

`models.json` says what the page has to know of each model: how an image becomes its input, classes, and colors.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.export.exporter import describe, export_model, network_of
from panoptic_deeplab.files import file_name, make_folder, user_path, write_json
from panoptic_deeplab.inference.exported.model_file import is_model_file, read_model_file_info
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.serving.web_runtime import runtime_files
from panoptic_deeplab.visualize.colors import instance_palette
from panoptic_deeplab.weights.download import cache_folder

logger = logging.getLogger(__name__)

_PARTS = ("page", "browser")
"""Folders beside this file; of files that both have, the second one's counts."""


def write_site(folder: str | Path, models: Mapping[str, Path]) -> None:
    """Write the folder; other files in it stay.

    Args:
        folder: is made.
        models: name on the page -> a file that `pipeline_file` gave.

    Raises:
        MissingDependencyError: onnxruntime-web is not there.
        OutputError: the system refuses to write.
        ConfigError: a name of a model cannot be that of a file.
    """
    runtime, folder = runtime_files(), make_folder(folder)
    for part in _PARTS:
        shutil.copytree(Path(__file__).parent / part, folder, dirs_exist_ok=True)
    for path in runtime:
        shutil.copyfile(path, make_folder(folder / "runtime") / path.name)
    entries = []
    for name, path in models.items():
        file = file_name(name, where="A model", error=ConfigError, suffix=".onnx")
        shutil.copyfile(path, make_folder(folder / "models") / file)
        entries.append(
            {"name": name, "file": f"models/{quote(file)}", "bytes": path.stat().st_size, **_description(path)}
        )
    write_json(folder / "models.json", entries)


def pipeline_file(model: str) -> Path:
    """A model as an ONNX file with the whole pipeline: itself, or exported into the cache, once for each model.

    Args:
        model: as for `PanopticPredictor.from_pretrained`.

    Raises:
        ConfigError: it is an exported file of another kind.
        MissingDependencyError: a package for the export is not installed.
        ExportError: the model cannot be exported.
    """
    if is_model_file(model):
        path = user_path(model)
        if path.suffix.lower() != ".onnx" or read_model_file_info(path).kind != "panoptic":
            raise ConfigError(
                f"A browser runs ONNX files with the whole pipeline, and {model} is another one. Name the model folder,"
                " or export it with: panoptic-deeplab export --panoptic --output model.onnx --model FOLDER"
            )
        return path
    predictor = PanopticPredictor.from_pretrained(model, device="cpu")
    digest = hashlib.sha256(describe(predictor, kind="panoptic", size=None).to_json().encode())
    for name, weights in network_of(predictor).state_dict().items():
        digest.update(name.encode())
        digest.update(weights.numpy().tobytes())
    path = cache_folder() / "exported" / f"{digest.hexdigest()[:16]}.onnx"
    if not path.is_file():
        logger.info("Exporting %s with its whole pipeline.", model)
        export_model(predictor, path, format="onnx", kind="panoptic")
    return path


def _description(path: Path) -> dict[str, Any]:
    info = read_model_file_info(path)
    settings, categories = info.config.input, info.categories.categories
    palettes = {category.id: instance_palette(category.color) for category in categories if category.isthing}
    return {
        "input": {
            "size": info.input_size,
            "channels": settings.channels,
            "range": settings.range,
            "percentiles": settings.percentiles,
            "longest_side": settings.longest_side,
            "scale": settings.scale,
        },
        "score_calibration": info.config.postprocess.score_calibration,
        "categories": [
            {"id": category.id, "name": category.name, "isthing": category.isthing, "color": category.color}
            for category in categories
        ],
        "palettes": {
            id_: {"colors": palette.colors.tolist(), "places": palette.places.tolist()}
            for id_, palette in palettes.items()
        },
    }
