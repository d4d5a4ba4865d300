"""A result as the bytes of an answer: which function of `results/` and `visualize/` makes which `?output=`."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.inference.predictor import UpsampledMaps
from panoptic_deeplab.results.formats import to_coco_panoptic, to_polygons, to_rles
from panoptic_deeplab.results.ids import id_to_rgb
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.serving.options import Options
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_instances, draw_offset, thing_pixels

_PNG = "image/png"


class Seen(NamedTuple):
    """What answers are made of."""

    pixels: UInt8[np.ndarray, "H W 3"]
    result: PanopticResult
    maps: Callable[[], UpsampledMaps]
    """The heads' maps at the image's size; made only where a picture needs them."""
    about: dict[str, Any]
    """Further fields of the JSON: model, id, settings."""


def answer_bytes(seen: Seen, options: Options) -> tuple[bytes, str]:
    """The body of an answer and its media type.

    Raises:
        ConfigError: the model has no maps to draw.
    """
    result = seen.result
    match options.output:
        case "json":
            return _json(seen, options), "application/json"
        case "overlay":
            return _png(draw_panoptic(seen.pixels, result, alpha=options.alpha, labels=options.labels)), _PNG
        case "panoptic":
            return _png(Image.fromarray(to_coco_panoptic(result, 0, "")[1])), _PNG
        case "ids":
            return _ids(result), _PNG
        case "semantic":
            semantic = result.train_id_map() if result.semantic_map is None else result.semantic_map
            return _png(draw_semantic(semantic, result.categories)), _PNG
        case "instances":
            return _png(draw_instances(result)), _PNG
        case "heatmap":
            return _png(draw_heatmap(seen.pixels, _there(seen.maps().center_heatmap))), _PNG
        case "offset":
            return _png(draw_offset(_there(seen.maps().offset), mask=thing_pixels(result))), _PNG
    raise AssertionError(options.output)


def _json(seen: Seen, options: Options) -> bytes:
    result = seen.result
    segments: list[dict[str, Any]] = [asdict(segment) for segment in result.segments_info]
    document: dict[str, Any] = {**seen.about, "size": list(result.size), "segments": segments}
    if options.masks == "rle":
        for segment, rle in zip(segments, to_rles(result.panoptic_map, [s["id"] for s in segments]), strict=True):
            segment["segmentation"] = rle
    elif options.masks == "polygons":
        for segment in segments:
            segment["segmentation"] = to_polygons(result.panoptic_map == segment["id"])
    elif options.masks == "png":
        document["ids_png"] = base64.b64encode(_ids(result)).decode("ascii")
    return json.dumps(document, allow_nan=False).encode()


def _ids(result: PanopticResult) -> bytes:
    return _png(Image.fromarray(id_to_rgb(result.panoptic_map)))


def _there(map_: Any) -> Any:
    if map_ is None:
        raise ConfigError("`output` must not be a map of the instance heads: this model has none, or keeps them.")
    return map_


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # 5 times as fast as the usual 6, and a tenth larger
    return file.getvalue()
