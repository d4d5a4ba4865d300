"""Pens and shapes of the synthetic scenes: everything is drawn twice, once in color and once as segment ids.

Shapes are given in meters on a flat ground and projected by a `Camera`; image points are `(x, y)`, Pillow's order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, ImageDraw

Point = tuple[float, float]
Color = tuple[int, int, int]

_OVERSAMPLING = 2
"""Colors are drawn so many times finer and averaged, which smooths edges."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A level pinhole camera over a flat ground. Depth is given as `scale`: pixels a meter at that depth."""

    horizon: float
    """Image row, pixels."""
    vanishing_x: float
    """Image column to which the street leads, pixels."""
    height: float
    """Meters above the ground."""

    def point(self, across: float, up: float, scale: float) -> Point:
        """Image point of a place `across` meters to the right and `up` meters above the ground."""
        return self.vanishing_x + scale * across, self.horizon + scale * (self.height - up)


class Canvas:
    """Two pictures of one scene: colors and segment ids."""

    def __init__(self, size: tuple[int, int]) -> None:
        height, width = (side * _OVERSAMPLING for side in size)
        self._colors = Image.new("RGB", (width, height))
        self._ids = Image.new("I", (width, height))
        self._color_pen = ImageDraw.Draw(self._colors, "RGBA")
        self._id_pen = ImageDraw.Draw(self._ids)
        self.haze: tuple[float, Color] = (0.0, (255, 255, 255))
        """Share and color of the air between the camera and what is drawn next."""

    def polygon(self, points: Sequence[Point], color: Color, segment_id: int | None = None) -> None:
        """Fill a polygon; without a segment id it is a detail of what lies below."""
        scaled = [(x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in points]
        self._color_pen.polygon(scaled, fill=self._hazy(color))
        if segment_id is not None:
            self._id_pen.polygon(scaled, fill=segment_id)

    def ellipse(self, center: Point, radii: Point, color: Color, segment_id: int | None = None) -> None:
        """Fill an axis-parallel ellipse."""
        box = self._box(center, radii)
        self._color_pen.ellipse(box, fill=self._hazy(color))
        if segment_id is not None:
            self._id_pen.ellipse(box, fill=segment_id)

    def ring(self, center: Point, radius: float, thickness: float, color: Color, segment_id: int) -> None:
        """Draw a circle of some thickness; its inside stays as it is."""
        box, width = self._box(center, (radius, radius)), self._width(thickness)
        self._color_pen.ellipse(box, outline=self._hazy(color), width=width)
        self._id_pen.ellipse(box, outline=segment_id, width=width)

    def line(self, points: Sequence[Point], thickness: float, color: Color, segment_id: int) -> None:
        """Draw a polyline."""
        scaled = [(x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in points]
        self._color_pen.line(scaled, fill=self._hazy(color), width=self._width(thickness), joint="curve")
        self._id_pen.line(scaled, fill=segment_id, width=self._width(thickness), joint="curve")

    def shadow(self, center: Point, radii: Point, darkness: int = 110) -> None:
        """Darken an ellipse of the ground."""
        self._color_pen.ellipse(self._box(center, radii), fill=(0, 0, 0, darkness))

    def colors(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture in color."""
        return np.asarray(self._colors.reduce(_OVERSAMPLING))

    def ids(self) -> Int32[np.ndarray, "H W"]:
        """The segment ids; an id map must not be averaged, so one fine pixel stands for its neighbors."""
        return np.asarray(self._ids)[::_OVERSAMPLING, ::_OVERSAMPLING].astype(np.int32)

    def _hazy(self, color: Color) -> Color:
        share, air = self.haze
        return mix(color, air, share)

    @staticmethod
    def _box(center: Point, radii: Point) -> list[float]:
        (x, y), (rx, ry) = center, radii
        return [(x - rx) * _OVERSAMPLING, (y - ry) * _OVERSAMPLING, (x + rx) * _OVERSAMPLING, (y + ry) * _OVERSAMPLING]

    @staticmethod
    def _width(thickness: float) -> int:
        return max(2, round(thickness * _OVERSAMPLING))


def mix(color: Color, other: Color, share: float) -> Color:
    """`color` with `share` of another one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def lighter(color: Color, share: float) -> Color:
    """Towards white; towards black where `share` is negative."""
    return mix(color, (255, 255, 255) if share > 0 else (0, 0, 0), abs(share))


def random_color(rng: np.random.Generator, palette: Sequence[Color], spread: int = 14) -> Color:
    """One of the palette, a little changed."""
    base = palette[int(rng.integers(len(palette)))]
    changes = rng.integers(-spread, spread + 1, 3).tolist()
    red, green, blue = (min(max(value + change, 0), 255) for value, change in zip(base, changes, strict=True))
    return red, green, blue


_CLOTHES = [(200, 40, 50), (40, 70, 150), (235, 235, 225), (40, 120, 80), (240, 190, 60), (60, 60, 70), (150, 70, 150)]
_TROUSERS = [(40, 50, 80), (60, 55, 50), (110, 100, 90), (30, 30, 35)]
_SKIN = [(240, 200, 170), (205, 150, 115), (140, 95, 65), (95, 62, 45)]
_CAR_PAINT = [
    (190, 30, 40),
    (30, 80, 160),
    (225, 225, 228),
    (35, 38, 45),
    (150, 155, 160),
    (40, 110, 70),
    (230, 170, 40),
]
_GLASS = (60, 80, 95)
_BALL_PAINT = [(240, 120, 30), (230, 50, 60), (50, 140, 230), (250, 220, 60), (120, 200, 90), (250, 250, 250)]


def draw_person(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A walking person, 1.1 to 1.9 m tall."""
    tall = rng.uniform(1.1, 1.9)
    lean, stride = rng.uniform(-0.04, 0.04), rng.uniform(0.05, 0.28)

    def at(side: float, up: float) -> Point:
        return camera.point(across + tall * (side + lean * up), tall * up, scale)

    trousers, coat = random_color(rng, _TROUSERS), random_color(rng, _CLOTHES)
    skin, hair = random_color(rng, _SKIN, 6), random_color(rng, [(40, 30, 25), (110, 75, 40), (170, 165, 160)])
    canvas.shadow(at(0.0, 0.0), (0.28 * tall * scale, 0.07 * tall * scale))
    for foot, shade in ((-stride / 2, -0.25), (stride / 2, 0.0)):
        leg = [at(-0.085, 0.5), at(0.085, 0.5), at(foot + 0.05, 0.0), at(foot - 0.06, 0.0)]
        canvas.polygon(leg, lighter(trousers, shade), id_)
    canvas.polygon([at(-0.13, 0.82), at(0.13, 0.82), at(0.11, 0.45), at(-0.11, 0.45)], coat, id_)
    for side, swing in ((-1, stride / 3), (1, -stride / 3)):
        arm = [
            at(side * 0.11, 0.82),
            at(side * 0.155, 0.8),
            at(side * 0.16 + swing, 0.47),
            at(side * 0.1 + swing, 0.47),
        ]
        canvas.polygon(arm, lighter(coat, -0.2), id_)
    canvas.polygon([at(0.02, 0.82), at(0.13, 0.82), at(0.11, 0.45), at(0.04, 0.45)], lighter(coat, -0.15))
    radius = 0.075 * tall * scale
    canvas.ellipse(at(0.0, 0.905), (radius, radius * 1.25), skin, id_)
    canvas.polygon([at(-0.07, 0.93), at(-0.05, 0.995), at(0.05, 0.995), at(0.07, 0.93)], hair, id_)


def draw_car(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A car from the side, or from its front or back."""
    paint, size = random_color(rng, _CAR_PAINT), rng.uniform(0.9, 1.15)
    if rng.random() < 0.45:
        _draw_car_side(canvas, camera, across, scale, id_, paint, size, direction=1 if rng.random() < 0.5 else -1)
    else:
        _draw_car_end(canvas, camera, across, scale, id_, paint, size, is_front=rng.random() < 0.5)


def _draw_car_side(
    canvas: Canvas, camera: Camera, across: float, scale: float, id_: int, paint: Color, size: float, direction: int
) -> None:
    def at(along: float, up: float) -> Point:  # `along` from -1 (back) to 1 (front), `up` from 0 to 1 (roof)
        return camera.point(across + direction * 2.1 * size * along, 1.5 * size * up, scale)

    canvas.shadow(at(0.0, 0.02), (2.2 * size * scale, 0.22 * size * scale))
    roof = [(-0.72, 0.62), (-0.5, 1.0), (0.22, 1.0), (0.5, 0.64)]
    body = [(-1.0, 0.2), (-1.0, 0.58), (-0.9, 0.66), *roof, (0.9, 0.56), (1.0, 0.45), (1.0, 0.2)]
    canvas.polygon([at(*p) for p in body], paint, id_)
    canvas.polygon([at(*p) for p in [(-1.0, 0.2), (-1.0, 0.4), (1.0, 0.38), (1.0, 0.2)]], lighter(paint, -0.3))
    canvas.polygon([at(*p) for p in [(-0.5, 1.0), (0.22, 1.0), (0.2, 0.95), (-0.5, 0.95)]], lighter(paint, 0.35))
    canvas.polygon([at(*p) for p in [(-0.6, 0.66), (-0.45, 0.93), (-0.15, 0.93), (-0.15, 0.66)]], _GLASS)
    canvas.polygon([at(*p) for p in [(-0.09, 0.66), (-0.09, 0.93), (0.19, 0.93), (0.4, 0.66)]], lighter(_GLASS, 0.15))
    canvas.ellipse(at(0.94, 0.47), (0.09 * scale, 0.07 * scale), (255, 245, 200))
    canvas.ellipse(at(-0.96, 0.52), (0.07 * scale, 0.07 * scale), (170, 20, 20))
    for along in (-0.6, 0.62):
        canvas.ellipse(at(along, 0.22), (0.34 * size * scale, 0.34 * size * scale), (25, 25, 28), id_)
        canvas.ellipse(at(along, 0.22), (0.17 * size * scale, 0.17 * size * scale), (150, 150, 155))


def _draw_car_end(
    canvas: Canvas, camera: Camera, across: float, scale: float, id_: int, paint: Color, size: float, is_front: bool
) -> None:
    def at(side: float, up: float) -> Point:
        return camera.point(across + 0.92 * size * side, 1.5 * size * up, scale)

    canvas.shadow(at(0.0, 0.03), (1.15 * size * scale, 0.2 * size * scale))
    for side in (-1, 1):
        tire = [at(side * 0.92, 0.0), at(side * 0.6, 0.0), at(side * 0.6, 0.3), at(side * 0.92, 0.3)]
        canvas.polygon(tire, (25, 25, 28), id_)
    cabin = [at(-0.72, 1.0), at(0.72, 1.0), at(0.9, 0.6), at(-0.9, 0.6)]
    canvas.polygon(cabin, lighter(paint, 0.1), id_)
    body = [(-0.9, 0.62), (0.9, 0.62), (1.0, 0.5), (1.0, 0.2), (0.92, 0.12), (-0.92, 0.12), (-1.0, 0.2), (-1.0, 0.5)]
    canvas.polygon([at(*p) for p in body], paint, id_)
    canvas.polygon([at(-0.62, 0.95), at(0.62, 0.95), at(0.76, 0.64), at(-0.76, 0.64)], _GLASS)
    canvas.polygon([at(-0.4, 0.95), at(-0.1, 0.95), at(-0.35, 0.64), at(-0.7, 0.64)], lighter(_GLASS, 0.25))
    canvas.polygon([at(-1.0, 0.28), at(1.0, 0.28), at(0.92, 0.12), at(-0.92, 0.12)], lighter(paint, -0.4))
    light = (255, 245, 205) if is_front else (185, 20, 25)
    for side in (-1, 1):
        canvas.ellipse(at(side * 0.74, 0.47), (0.17 * scale, 0.09 * scale), light)
    canvas.polygon([at(-0.25, 0.33), at(0.25, 0.33), at(0.25, 0.23), at(-0.25, 0.23)], (235, 235, 235))


def draw_bicycle(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A parked bicycle from the side: thin parts with other things to be seen between them."""
    paint, direction = random_color(rng, _CAR_PAINT, 30), 1 if rng.random() < 0.5 else -1

    def at(along: float, up: float) -> Point:
        return camera.point(across + direction * along, up, scale)

    canvas.shadow(at(0.0, 0.0), (0.95 * scale, 0.1 * scale), 70)
    for along in (-0.53, 0.53):
        canvas.ring(at(along, 0.36), 0.36 * scale, 0.09 * scale, (28, 28, 32), id_)
    crank, seat, head = at(-0.05, 0.32), at(-0.2, 0.86), at(0.4, 0.85)
    for part in ([at(-0.53, 0.36), crank, seat, at(-0.53, 0.36)], [crank, head, seat], [at(0.53, 0.36), head]):
        canvas.line(part, 0.08 * scale, paint, id_)
    canvas.line([head, at(0.36, 1.02), at(0.5, 1.05)], 0.07 * scale, (45, 45, 50), id_)
    canvas.line([at(-0.34, 0.93), at(-0.1, 0.93)], 0.1 * scale, (30, 25, 25), id_)


def draw_ball(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A ball of 0.3 to 1 m, on the ground or in the air."""
    radius = rng.uniform(0.16, 0.5)
    up = radius + (rng.uniform(0.2, 1.6) if rng.random() < 0.3 else 0.0)
    paint, stripe = random_color(rng, _BALL_PAINT), random_color(rng, _BALL_PAINT)
    r = radius * scale
    canvas.shadow(camera.point(across, 0.0, scale), (r, 0.3 * r))
    x, y = camera.point(across, up, scale)
    canvas.ellipse((x, y), (r, r), lighter(paint, -0.25), id_)
    canvas.ellipse((x - 0.08 * r, y - 0.1 * r), (0.87 * r, 0.85 * r), paint)
    canvas.ellipse((x, y + 0.05 * r), (0.85 * r, 0.25 * r), stripe)
    canvas.ellipse((x - 0.35 * r, y - 0.45 * r), (0.2 * r, 0.16 * r), (255, 255, 255))


def draw_tree(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A tree: trunk and a crown of leaves."""
    leaves = random_color(rng, [(70, 120, 50), (95, 135, 55), (50, 100, 60), (140, 140, 50)])
    crown_up, spread = rng.uniform(2.8, 4.6), rng.uniform(0.9, 1.6)
    canvas.shadow(camera.point(across, 0.0, scale), (spread * scale, 0.2 * spread * scale), 80)
    trunk = [
        camera.point(across + side, up, scale)
        for side, up in ((-0.16, 0.0), (-0.1, crown_up), (0.1, crown_up), (0.16, 0.0))
    ]
    canvas.polygon(trunk, (85, 65, 45), id_)
    for _ in range(9):
        side, rise = rng.uniform(-1, 1) * spread * 0.8, rng.uniform(-0.8, 1) * spread
        r = rng.uniform(0.45, 0.75) * spread * scale
        canvas.ellipse(
            camera.point(across + side, crown_up + rise, scale),
            (r, r),
            lighter(leaves, 0.14 * rise / spread - 0.05),
            id_,
        )


def draw_sign(
    canvas: Canvas, camera: Camera, rng: np.random.Generator, *, across: float, scale: float, id_: int
) -> None:
    """A sign on a pole."""
    tall = rng.uniform(2.2, 3.2)
    pole = [
        camera.point(across + side, up, scale) for side, up in ((-0.05, 0.0), (-0.05, tall), (0.05, tall), (0.05, 0.0))
    ]
    canvas.polygon(pole, (120, 120, 125), id_)
    r = 0.38 * scale
    canvas.ellipse(
        camera.point(across, tall, scale),
        (r, r),
        random_color(rng, [(210, 40, 45), (40, 80, 180), (240, 200, 40)]),
        id_,
    )
    canvas.ellipse(camera.point(across, tall, scale), (0.6 * r, 0.6 * r), (245, 245, 245))


DRAW_THING: dict[str, Callable[..., None]] = {
    "person": draw_person,
    "car": draw_car,
    "bicycle": draw_bicycle,
    "ball": draw_ball,
}
"""Pen of each thing class of the table `synthetic`."""
