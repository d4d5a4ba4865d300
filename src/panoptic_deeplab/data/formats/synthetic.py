"""Street scenes with exact labels, computed from `(seed, index)`: for the demo, the tests and the docs.

A street leads to a vanishing point between sidewalks, grass, houses and trees. Cars, persons, bicycles and balls of
many sizes stand on it and hide one another; some scenes have a crowd of people that nobody separated, and void areas
(signs, the hood of the own car). Only numpy and Pillow are needed, and no file is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.data.formats.synthetic_drawing import (
    DRAW_THING,
    Camera,
    Canvas,
    Color,
    draw_person,
    draw_sign,
    draw_tree,
    lighter,
    random_color,
)
from panoptic_deeplab.data.labels import RawSegment, translate_labels
from panoptic_deeplab.data.sample import Sample
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.results.ids import VOID_ID

_ROAD, _SIDEWALK, _BUILDING, _VEGETATION, _TERRAIN, _SKY = 1, 2, 3, 4, 5, 6
"""Stuff ids of the table `synthetic`; they serve as segment ids too."""
_FIRST_THING_ID = 101
_THING_DATASET_IDS = {"person": 7, "car": 8, "bicycle": 9, "ball": 10}

_TEXTURE = {
    _ROAD: (0.055, 0.03),
    _SIDEWALK: (0.045, 0.03),
    _BUILDING: (0.04, 0.04),
    _VEGETATION: (0.20, 0.12),
    _TERRAIN: (0.13, 0.09),
    _SKY: (0.005, 0.05),
}
"""Strength of fine and coarse texture of each stuff class; things have the last row of `_texture_table`."""


class SyntheticSource:
    """A set of computed scenes; `source[i]` is the same at any time, in any process.

    Args:
        num_images: how many there are.
        seed: sets with different seeds share no scene.
        size: `(height, width)` in pixels, at least 32 each.
        categories: table whose dataset ids are those of the packaged table `synthetic` (the default).

    Raises:
        ConfigError: the table has other dataset ids, or number or size is too small.
    """

    def __init__(
        self,
        num_images: int,
        *,
        seed: int = 0,
        size: tuple[int, int] = (128, 256),
        categories: CategoryTable | None = None,
    ) -> None:
        if num_images < 1 or min(size) < 32 or seed < 0:
            raise ConfigError(
                "A synthetic set needs at least one image of at least 32x32 pixels and a seed of at least 0."
                f" Got {num_images} images of size {size} and seed {seed} instead."
            )
        own = CategoryTable.load("synthetic")
        self.categories = categories or own
        known = {*self.categories.train_id_by_dataset_id, *self.categories.void_ids}
        if known != set(own.train_id_by_dataset_id):
            raise ConfigError(
                f"The synthetic set needs `data.categories` to be `synthetic`, or a table that lists the same dataset"
                f" ids 1 to {len(own)}. Got {self.categories.name!r} instead."
            )
        self.image_ids: Sequence[str] = [f"scene_{seed}_{index:05d}" for index in range(num_images)]
        self._seed, self._size = seed, size

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Compute one scene."""
        image_id = self.image_ids[index]
        scene = _Scene(np.random.default_rng([self._seed, range(len(self))[index]]), self._size)
        panoptic_map, segments_info = translate_labels(
            scene.raw_map, scene.raw_segments, categories=self.categories, where=image_id
        )
        return Sample(image_id=image_id, image=scene.image, panoptic_map=panoptic_map, segments_info=segments_info)


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One side of the street: where its strips begin and end, in meters from the middle."""

    sign: int
    road: float
    sidewalk: float
    building: float


class _Scene:
    """Draws one scene, back to front."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._rng, self._size = rng, size
        height, width = size
        self._unit = height / 128
        self._camera = Camera(
            horizon=height * rng.uniform(0.34, 0.46),
            vanishing_x=width * rng.uniform(0.3, 0.7),
            height=rng.uniform(2.1, 3.2),
        )
        self._nearest = (height - self._camera.horizon) / self._camera.height
        self._canvas = Canvas(size)
        self._sky = random_color(rng, [(120, 170, 225), (165, 190, 215), (205, 205, 210), (235, 190, 160)])
        self._dataset_ids: dict[int, tuple[int, bool]] = {i: (i, False) for i in _TEXTURE}
        self._sides = [self._random_side(sign) for sign in (-1, 1)]

        self._draw_ground()
        for side in self._sides:
            self._draw_buildings(side)
        self._draw_standing()
        self._draw_hood()
        self.raw_map = self._labels()
        self.raw_segments = self._segments()
        self.image = self._textured()

    def _random_side(self, sign: int) -> _Side:
        road = self._rng.uniform(2.8, 5.0)
        sidewalk = road + self._rng.uniform(1.4, 3.0)
        return _Side(sign=sign, road=road, sidewalk=sidewalk, building=sidewalk + self._rng.uniform(0.3, 4.5))

    def _draw_ground(self) -> None:
        height, width = (float(side) for side in self._size)
        canvas, camera, rng = self._canvas, self._camera, self._rng
        canvas.polygon([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)], self._sky, _SKY)
        grass = random_color(rng, [(110, 140, 70), (135, 140, 80), (90, 125, 65)])
        base = camera.horizon
        canvas.polygon([(0.0, base), (width, base), (width, height), (0.0, height)], grass, _TERRAIN)
        for _ in range(12):  # woods and houses far away
            x, r = rng.uniform(0, width), rng.uniform(3, 9) * self._unit
            if rng.random() < 0.3:
                wall = [(x - r, base + 1), (x - r, base - 1.6 * r), (x + r, base - 1.6 * r), (x + r, base + 1)]
                canvas.polygon(wall, lighter(self._sky, -0.3), _BUILDING)
            else:
                canvas.ellipse((x, base - 0.2 * r), (1.8 * r, r), random_color(rng, [(110, 140, 110)]), _VEGETATION)
        asphalt, paving = random_color(rng, [(95, 95, 100), (115, 112, 110)]), random_color(rng, [(165, 155, 145)])
        left, right = self._sides
        self._strip(-left.sidewalk, right.sidewalk, paving, _SIDEWALK)
        self._strip(-left.road, right.road, asphalt, _ROAD)
        middle = (right.road - left.road) / 2
        first, last = 0.5 / self._nearest, 1.2 / self._unit
        for depth in np.arange(first, last, 1.0 / self._nearest).tolist():  # dashes of equal length on the ground
            dash = depth, depth + 0.4 / self._nearest
            self._strip(middle - 0.09, middle + 0.09, (225, 225, 215), None, 1 / dash[1], 1 / dash[0])

    def _strip(
        self,
        begin: float,
        end: float,
        color: Color,
        segment_id: int | None,
        far_scale: float = 0.0,
        near_scale: float | None = None,
    ) -> None:
        """A strip along the street, from `begin` to `end` meters right of the middle."""
        near_scale = near_scale or 2 * self._nearest
        corners = [(begin, far_scale), (end, far_scale), (end, near_scale), (begin, near_scale)]
        self._canvas.polygon([self._camera.point(a, 0.0, s) for a, s in corners], color, segment_id)

    def _draw_buildings(self, side: _Side) -> None:
        rng, scale = self._rng, 1.0 * self._unit
        across = side.sign * side.building
        density = rng.choice([0.0, 0.6, 0.9, 0.9])
        while scale < 1.5 * self._nearest and abs(scale * across) < 2 * self._size[1]:
            ahead = scale * rng.uniform(1.3, 1.9)
            if rng.random() < density:
                self._draw_building(across, side.sign, scale, ahead, tall=rng.uniform(4.0, 14.0))
            scale = ahead

    def _draw_building(self, across: float, sign: int, far: float, near: float, *, tall: float) -> None:
        canvas, point = self._canvas, self._camera.point
        self._set_haze(near)
        wall = random_color(
            self._rng, [(175, 110, 85), (200, 180, 150), (150, 150, 155), (190, 140, 110), (120, 105, 100)]
        )
        glass = random_color(self._rng, [(70, 85, 105), (50, 55, 65), (200, 190, 130)])
        facade = [
            point(across, 0.0, far),
            point(across, tall, far),
            point(across, tall, near),
            point(across, 0.0, near),
        ]
        outer = across + sign * 30
        front = [point(across, 0.0, near), point(across, tall, near), point(outer, tall, near), point(outer, 0.0, near)]
        canvas.polygon(front, lighter(wall, -0.3), _BUILDING)
        canvas.polygon(facade, wall, _BUILDING)
        if near * tall < 14 * self._unit:
            return
        columns = max(2, min(6, round((1 / far - 1 / near) * 1000 / 25)))
        edges = 1 / np.linspace(1 / far, 1 / near, 4 * columns + 1)
        for story in range(int(tall // 2.8)):
            low, high = 2.8 * story + 0.9, 2.8 * story + 2.2
            for column in range(columns):
                a, b = edges[4 * column + 1], edges[4 * column + 3]
                pane = [point(across, low, a), point(across, high, a), point(across, high, b), point(across, low, b)]
                canvas.polygon(pane, glass)

    def _draw_standing(self) -> None:
        """Trees, signs, things and the crowd, the far ones first."""
        rng = self._rng
        items: list[tuple[float, str, float]] = []
        for side in self._sides:
            for _ in range(rng.integers(0, 5)):
                items.append(
                    (self._random_scale(2.0, 0.8), "tree", side.sign * (side.sidewalk + rng.uniform(-0.3, 2.5)))
                )
        for _ in range(rng.integers(0, 3)):
            side = self._sides[rng.integers(2)]
            items.append((self._random_scale(4.0, 0.7), "sign", side.sign * (side.road + 0.3)))
        if rng.random() < 0.3:
            side = self._sides[rng.integers(2)]
            across = side.sign * rng.uniform(side.road, side.sidewalk)
            items.append((self._random_scale(4.0, 0.35), "crowd", across))
        kinds, weights = list(_THING_DATASET_IDS), [0.36, 0.3, 0.14, 0.2]
        for _ in range(rng.integers(4, 13)):
            kind = str(rng.choice(kinds, p=weights))
            scale = self._random_scale({"car": 3.0, "person": 5.0, "bicycle": 8.0, "ball": 9.0}[kind], 0.85)
            across = self._random_place(kind)
            items.append((scale, kind, across))
            if rng.random() < 0.35:  # a neighbor that is partly hidden
                items.append(
                    (scale * rng.uniform(0.8, 0.95), kind, across + rng.choice([-1, 1]) * rng.uniform(0.3, 1.4))
                )
        for scale, kind, across in sorted(items, key=lambda item: item[0]):
            self._set_haze(scale)
            self._draw_item(kind, across, scale)

    def _draw_item(self, kind: str, across: float, scale: float) -> None:
        canvas, camera, rng = self._canvas, self._camera, self._rng
        if kind == "tree":
            draw_tree(canvas, camera, rng, across=across, scale=scale, id_=_VEGETATION)
        elif kind == "sign":
            draw_sign(canvas, camera, rng, across=across, scale=scale, id_=VOID_ID)
        elif kind == "crowd":
            id_ = self._new_thing("person", iscrowd=True)
            for member in sorted(rng.uniform(0.85, 1.1, rng.integers(7, 13))):
                place = across + rng.uniform(-1.8, 1.8)
                draw_person(canvas, camera, rng, across=place, scale=scale * member, id_=id_)
        else:
            DRAW_THING[kind](canvas, camera, rng, across=across, scale=scale, id_=self._new_thing(kind))

    def _new_thing(self, kind: str, *, iscrowd: bool = False) -> int:
        id_ = _FIRST_THING_ID + len(self._dataset_ids) - len(_TEXTURE)
        self._dataset_ids[id_] = (_THING_DATASET_IDS[kind], iscrowd)
        return id_

    def _random_scale(self, farthest: float, nearest_share: float) -> float:
        """Pixels a meter; small things are as frequent as large ones, by factors."""
        low, high = farthest * self._unit, max(nearest_share * self._nearest, farthest * self._unit * 1.2)
        return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))

    def _random_place(self, kind: str) -> float:
        left, right = self._sides
        if kind == "car":
            return self._rng.uniform(0.8 - left.road, right.road - 0.8)
        return self._rng.uniform(-left.sidewalk, right.sidewalk)

    def _set_haze(self, scale: float) -> None:
        self._canvas.haze = (0.45 * np.exp(-scale / (4 * self._unit)), self._sky)

    def _draw_hood(self) -> None:
        height, width = self._size
        if self._rng.random() < 0.3:
            self._canvas.haze = (0.0, self._sky)
            center = (width / 2, height * 1.06)
            self._canvas.ellipse(center, (0.6 * width, 0.15 * height), (38, 40, 46), VOID_ID)
            self._canvas.ellipse(center, (0.45 * width, 0.11 * height), (60, 63, 70))

    def _labels(self) -> Int32[np.ndarray, "H W"]:
        raw_map = self._canvas.ids()
        areas = np.bincount(raw_map.reshape(-1))
        too_small = areas < 16 * self._unit**2  # what is left of hidden things; an annotator would not find it either
        too_small[:_FIRST_THING_ID] = False
        raw_map[too_small[raw_map]] = VOID_ID
        return raw_map

    def _segments(self) -> list[RawSegment]:
        present = np.flatnonzero(np.bincount(self.raw_map.reshape(-1))).tolist()
        return [RawSegment(id_, *self._dataset_ids[id_]) for id_ in present if id_ != VOID_ID]

    def _textured(self) -> UInt8[np.ndarray, "H W 3"]:
        height = self._size[0]
        rng = self._rng
        ids = np.minimum(self._canvas.ids(), len(_TEXTURE) + 1)
        fine, coarse = (_crop(noise, rng, self._size) for noise in _noise())
        strength = _texture_table()[ids]
        light = 1 + strength[..., 0] * fine + strength[..., 1] * coarse
        rows = np.arange(height, dtype=np.float32) / height
        light *= np.where(ids == _SKY, 0.85 + 0.35 * rows[:, None], 1.0)
        light *= rng.uniform(0.85, 1.15)
        cast = rng.uniform(0.94, 1.06, 3).astype(np.float32)
        grain = 2.0 * _crop(_noise()[0], rng, self._size)
        pixels = self._canvas.colors() * (light[..., None] * cast) + grain[..., None]
        image: UInt8[np.ndarray, "H W 3"] = np.clip(pixels, 0, 255).astype(np.uint8)
        return image


@cache
def _texture_table() -> Float32[np.ndarray, "ids 2"]:
    """Texture strengths by `min(id, last)`: void, the stuff classes, things."""
    return np.array([(0.05, 0.03), *_TEXTURE.values(), (0.05, 0.03)], np.float32)


@cache
def _noise() -> tuple[Float32[np.ndarray, "512 512"], Float32[np.ndarray, "512 512"]]:
    """Two periodic patterns of mean 0 and deviation 1, with details of about 1 and 16 pixels."""
    rng = np.random.default_rng(2020)
    grain = rng.standard_normal((512, 512), dtype=np.float32)
    fine = grain + 0.6 * (np.roll(grain, 1, axis=0) + np.roll(grain, 1, axis=1))
    small = Image.fromarray(np.pad(rng.standard_normal((32, 32), dtype=np.float32), 2, mode="wrap"))
    coarse = np.asarray(small.resize((576, 576), Image.Resampling.BICUBIC))[32:544, 32:544]
    return fine / fine.std(), coarse / coarse.std()


def _crop(
    noise: Float32[np.ndarray, "512 512"], rng: np.random.Generator, size: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    (y, x), (height, width) = rng.integers(0, 512, 2), size
    rows, columns = np.arange(y, y + height) % 512, np.arange(x, x + width) % 512
    window: Float32[np.ndarray, "H W"] = noise[rows[:, None], columns]
    return window
