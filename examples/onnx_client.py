"""Panoptic segmentation with one .onnx file: NumPy, Pillow and ONNX Runtime, without the package panoptic_deeplab.

    panoptic-deeplab export --model runs/street/best --panoptic --output street.onnx    # once, with the package
    pip install numpy pillow onnxruntime                                                # on the machine that predicts
    python onnx_client.py street.onnx photo.jpg --overlay overlay.png

The file describes itself: classes and colors, how to stretch and resize an image before, what its outputs mean.
Normalization, padding and the whole post-processing are inside. This page is all that another program needs; copy it.
"""

import argparse
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model, and what it says of itself."""
    session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    info = json.loads(session.get_modelmeta().custom_metadata_map["panoptic_deeplab"])
    if info["kind"] != "panoptic":
        raise SystemExit(f"{path} holds the network alone. Export it with --panoptic.")
    return session, info


def stretched(image: Image.Image, info: dict) -> Image.Image:
    """The image with the black and white that the model was trained with."""
    rule = info["input"]["range_before"]
    if rule["range"] == "type":
        return image
    pixels = np.asarray(image)
    if rule["range"] == "percentile":
        ranks = np.sort(pixels, axis=None)
        low, high = (float(ranks[int(p / 100 * (ranks.size - 1))]) for p in rule["percentiles"])
        high = max(high, low + 1)
    else:  # two numbers, for all images
        low, high = rule["range"]
    return Image.fromarray(np.rint(255 * np.clip((pixels - low) / (high - low), 0, 1)).astype(np.uint8))


def resized(image: Image.Image, info: dict) -> Image.Image:
    """The image at the size that the model was trained for."""
    rule = info["input"]["resize_before"]
    factor = rule["scale"] if rule["longest_side"] is None else rule["longest_side"] / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def predict(session: onnxruntime.InferenceSession, info: dict, image: Image.Image) -> tuple[np.ndarray, list[dict]]:
    """Segment ids (H, W) at the size of the image, 0 = nothing, and a list of the segments."""
    pixels = np.asarray(resized(stretched(image, info), info), np.uint8)[None]  # (1, H, W, 3)
    names = [output.name for output in session.get_outputs()]
    outputs = {name: array[0] for name, array in zip(names, session.run(None, {"images": pixels}), strict=True)}
    category_of = {category["id"]: category for category in info["categories"]["categories"]}
    segments = []
    for row in range(int(outputs["count"])):
        category = category_of[int(outputs["category_ids"][row])]
        segment = {
            "id": int(outputs["segment_ids"][row]),
            "name": category["name"],
            "isthing": category["isthing"],
            "score": round(float(outputs["scores"][row]), 4),
            "area": int(outputs["areas"][row]),  # area and box in pixels of the resized image
            "bbox": outputs["boxes"][row].tolist(),
            "color": category["color"],
        }
        segments.append(segment)
    id_map = Image.fromarray(outputs["panoptic_map"]).resize(image.size, Image.Resampling.NEAREST)
    return np.asarray(id_map), segments


def overlay(image: Image.Image, id_map: np.ndarray, segments: list[dict]) -> Image.Image:
    """The image, tinted by class; instances of a class differ a little, borders are white."""
    colors = np.zeros((len(segments) + 1, 3))
    for segment in segments:
        shade = 1 - 0.1 * (segment["id"] % 4) if segment["isthing"] else 1
        colors[segment["id"]] = np.array(segment["color"]) * shade
    tinted = 0.5 * np.asarray(image, float) + 0.5 * colors[id_map]
    border = np.zeros(id_map.shape, bool)
    border[:, 1:] |= id_map[:, 1:] != id_map[:, :-1]
    border[1:] |= id_map[1:] != id_map[:-1]
    tinted[border] = 255
    return Image.fromarray(tinted.astype(np.uint8))


def main() -> None:
    """Print the segments of an image; draw them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help=".onnx file written by `panoptic-deeplab export --panoptic`")
    parser.add_argument("image")
    parser.add_argument("--overlay", help="picture to write")
    arguments = parser.parse_args()
    session, info = load(arguments.model)
    image = ImageOps.exif_transpose(Image.open(arguments.image)).convert("RGB")
    id_map, segments = predict(session, info, image)
    print(json.dumps(segments, indent=2))
    if arguments.overlay:
        overlay(image, id_map, segments).save(arguments.overlay)


if __name__ == "__main__":
    main()
