"""A network that sees what is painted: as many objects in an image as it has red dots. It can be exported."""

import numpy as np
import torch
from torch import Tensor, nn

from panoptic_deeplab.categories import Category, CategoryTable
from panoptic_deeplab.config import Config, InputConfig, PostprocessConfig
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.maps import RawMaps

SIZE = 257
"""Height and width of `image_with`; dots lie 8 pixels apart, so there is room for 1,089."""

CATEGORIES = CategoryTable(
    name="dots",
    categories=(
        Category(id=10, name="ground", isthing=False, color=(0, 0, 255)),
        Category(id=20, name="dot", isthing=True, color=(255, 0, 0)),
    ),
)


class Dots(nn.Module):
    """Centers where red is, things where green is; every pixel belongs to the center nearest to it."""

    def forward(self, images: Tensor) -> RawMaps:
        pixels = images[:, :, ::4, ::4]  # exact for sizes k * 4 + 1 with aligned corners
        heatmap, thing = pixels[:, :1], pixels[:, 1:2]
        return RawMaps(torch.cat([1 - thing, thing], dim=1) * 10, heatmap, torch.zeros_like(pixels[:, :2]))


def predictor() -> PanopticPredictor:
    config = Config(
        input=InputConfig(pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)),
        postprocess=PostprocessConfig(stuff_area_limit=0, top_k=1000),
    )
    return PanopticPredictor.from_network(Dots(), CATEGORIES, config, device="cpu")


def image_with(num_objects: int) -> np.ndarray:
    """RGB uint8 `(257, 257, 3)`: things everywhere but in a corner, and `num_objects` centers."""
    image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    image[:, :, 1] = 255
    image[-10:, -10:, 1] = 0
    places = [(y, x) for y in range(0, SIZE, 8) for x in range(0, SIZE, 8)][:num_objects]
    for y, x in places:
        image[y, x, 0] = 200
    return image
