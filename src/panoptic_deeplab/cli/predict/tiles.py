"""`panoptic-deeplab predict --tile`: images that are too large to be read whole, and their files."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panoptic_deeplab.cli.predict.files import PredictionFiles, Product
from panoptic_deeplab.errors import ConfigError

if TYPE_CHECKING:
    from panoptic_deeplab.inference.predictor import PanopticPredictor

IN_PARTS: tuple[Product, ...] = ("table", "labels", "geojson", "zarr")
"""What is written for an image of any size."""


def is_stored_image(source: str) -> bool:
    """Whether a folder is one image, a Zarr array or an OME-Zarr image."""
    path = Path(source).expanduser()
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def predict_large(
    predictor: "PanopticPredictor", path: Path, files: PredictionFiles, *, on_part: Callable[..., None], **how: Any
) -> dict[str, Any]:
    """Predict an image of any size into files, and give its entry of the document of --json.

    Args:
        predictor: the model.
        path: the image.
        files: where they go.
        on_part: a bar's function.
        how: `tile` and `overlap`.

    Raises:
        ConfigError: a file is asked for that needs the whole image in memory.
        ImageError: the image cannot be read.
    """
    from panoptic_deeplab.results.stored import Scratch

    other = next((product for product in files.products if product not in IN_PARTS), None)
    if other is not None:
        raise ConfigError(
            f"`save` {other} needs {path} in memory, which is too large for that. Choose from {', '.join(IN_PARTS)}."
        )
    with Scratch() as scratch:
        output = files.zarr_folder(path) if "zarr" in files.products else None
        result = predictor.predict_tiled(
            path,
            scratch=scratch,
            output=output,
            on_progress=lambda what, done, total: on_part(done, total, f"{path.name}: {what}"),
            **how,
        )
        files.add_large(path, result)
        segments = [asdict(segment) for segment in result.segments_info]
    return {"image": str(path), "size": list(result.size), "segments_info": segments}
