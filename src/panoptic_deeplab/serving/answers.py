"""A result as the bytes of an answer: which function of `results/` and `visualize/` makes which `?output=`."""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image

from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.images.intensity import Pixels
from panoptic_deeplab.images.write import encoded
from panoptic_deeplab.inference.predictor import UpsampledMaps
from panoptic_deeplab.results.coco import to_coco_panoptic, to_rles
from panoptic_deeplab.results.conversions import to_geojson, to_labels
from panoptic_deeplab.results.measurements import table_csv, to_json, to_table
from panoptic_deeplab.results.outlines import outlines
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.serving.options import Options
from panoptic_deeplab.visualize.colors import visible_ids
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_instances, draw_offset, thing_pixels

_PNG = "image/png"


class Seen(NamedTuple):
    """What answers are made of."""

    pixels: Pixels
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
            return _panoptic(result), _PNG
        case "labels":
            return _png(Image.fromarray(to_labels(result, things_only=options.things_only))), _PNG
        case "table":
            return table_csv(to_table(result, things_only=options.things_only)).encode(), "text/csv"
        case "geojson":
            document = to_geojson(result, things_only=options.things_only)
            return json.dumps(document, allow_nan=False).encode(), "application/geo+json"
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
    found = to_json(result)
    segments: list[dict[str, Any]] = found["segments_info"]
    document: dict[str, Any] = {**seen.about, "size": found["size"], "segments": segments}
    for segment, png_id in zip(segments, visible_ids(result), strict=True):
        segment["png_id"] = png_id
    if options.masks == "rle":
        for segment, rle in zip(segments, to_rles(result.panoptic_map, [s["id"] for s in segments]), strict=True):
            segment["segmentation"] = rle
    elif options.masks == "polygons":
        polygons = outlines(result.panoptic_map)
        for segment in segments:
            segment["segmentation"] = polygons[segment["id"]]
    elif options.masks == "png":
        document["panoptic_png"] = base64.b64encode(_panoptic(result)).decode("ascii")
    return json.dumps(document, allow_nan=False).encode()


def _panoptic(result: PanopticResult) -> bytes:
    return _png(Image.fromarray(to_coco_panoptic(result, 0, "", png_ids=visible_ids(result))[1]))


def _there(map_: Any) -> Any:
    if map_ is None:
        raise ConfigError("`output` must not be a map of the instance heads: this model has none, or keeps them.")
    return map_


def _png(picture: Image.Image) -> bytes:
    return encoded(picture, compress_level=1)  # less work than the usual 6, for a larger file
