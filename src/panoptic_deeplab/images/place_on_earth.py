"""Where on the earth the pixels of an image lie, as a GeoTIFF says; read by rasterio."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from panoptic_deeplab.errors import ImageError, first_line, require

_LONGITUDE_LATITUDE = "EPSG:4326"


class PlaceOnEarth:
    """The way from pixels to longitude and latitude.

    Args:
        path: an image file.

    Raises:
        ImageError: it cannot be read, or does not say where it lies.
        MissingDependencyError: rasterio is not installed.
    """

    def __init__(self, path: Path) -> None:
        rasterio = require("rasterio", extra="geo", purpose="Reading where an image lies on the earth")
        self._warp = require("rasterio.warp", extra="geo", purpose="Reading where an image lies on the earth")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # an error below
                with rasterio.open(path, driver="GTiff") as dataset:  # others lead to further files
                    self._system, self._affine = dataset.crs, dataset.transform
        except rasterio.errors.RasterioError as error:
            raise ImageError(
                f"{path} is no GeoTIFF ({first_line(error)}). Convert it, or leave `geographic` out for coordinates in"
                " pixels."
            ) from error
        if self._system is None or self._affine.is_identity:
            raise ImageError(
                f"{path} does not say where on the earth it lies. Expected a GeoTIFF with a coordinate system and an"
                " affine transform; leave `geographic` out for coordinates in pixels."
            )

    def ring(self, corners: Sequence[Sequence[float]], *, hole: bool) -> list[list[float]]:
        """Longitude and latitude (WGS 84, degrees) of a closed ring of corners.

        Args:
            corners: `[x, y]` in pixels from the upper left corner of the image on.
            hole: it runs clockwise on the map then, as RFC 7946 has it; else counterclockwise.
        """
        a, b, c, d, e, f = self._affine[:6]
        x, y = ([k * corner[0] + m * corner[1] + n for corner in corners] for k, m, n in ((a, b, c), (d, e, f)))
        longitudes, latitudes = self._warp.transform(self._system, _LONGITUDE_LATITUDE, x, y)
        points: list[list[float]] = [list(point) for point in zip(longitudes, latitudes, strict=True)]
        return points[::-1] if (_area(points) > 0) == hole else points


def _area(ring: Sequence[Sequence[float]]) -> float:
    """Twice the area inside of a closed ring; positive where it runs counterclockwise."""
    (x, y), total = ring[0], 0.0
    for (x0, y0), (x1, y1) in pairwise(ring):
        total += (x0 - x) * (y1 - y) - (x1 - x) * (y0 - y)  # from one corner on: degrees are large beside a pixel
    return total


def on_earth(feature: dict[str, Any], place: PlaceOnEarth) -> None:
    """Bring the outlines of a GeoJSON feature from pixels to longitude and latitude, in place."""
    geometry = feature["geometry"]
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for part in parts:
        part[:] = [place.ring(ring, hole=number > 0) for number, ring in enumerate(part)]
