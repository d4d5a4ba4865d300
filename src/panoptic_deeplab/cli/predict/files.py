"""The files of `panoptic-deeplab predict --output`: all is checked before anything is predicted or written.

The JSON files and table.csv list all images of the folder, so a further call adds to those of the calls before; no
file of theirs is replaced, and an image that they list is refused.

A new form is a value of `Product`, a row of `_OF_EACH_IMAGE` or `_OF_ALL_IMAGES`, and what `PredictionFiles.add` writes
of it; `add_large` too, if it can be written in parts.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from panoptic_deeplab.cli.predict.json_files import IMAGES, INSTANCES, PANOPTIC, PredictionTables, place
from panoptic_deeplab.cli.predict.table import TABLE, SegmentRows
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.files import MAX_NAME_BYTES, write_json
from panoptic_deeplab.images.place_on_earth import PlaceOnEarth

if TYPE_CHECKING:
    import numpy as np

    from panoptic_deeplab.categories import CategoryTable
    from panoptic_deeplab.inference.predictor import UpsampledMaps
    from panoptic_deeplab.results.large_result import LargeResult
    from panoptic_deeplab.results.panoptic_result import PanopticResult

Product = Literal[
    "overlay", "panoptic", "semantic", "instances", "table", "labels", "geojson", "zarr", "maps", "figure"
]

LabelFormat = Literal["png", "tiff"]

NEED_MAPS: tuple[Product, ...] = ("maps", "figure")
"""Made from what the instance heads say."""

_OF_EACH_IMAGE: dict[Product, tuple[str, ...]] = {
    "overlay": ("_overlay.png",),
    "panoptic": ("_panoptic.png",),
    "semantic": ("_semantic.png",),
    "instances": (),
    "table": (),
    "labels": ("_labels.png", "_labels.tif"),
    "geojson": (".geojson",),
    "zarr": (".zarr",),
    "maps": ("_heatmap.png", "_offset.png"),
    "figure": ("_figure.png",),
}
_OF_ALL_IMAGES: dict[Product, tuple[str, ...]] = {
    "panoptic": (PANOPTIC,),
    "instances": (INSTANCES, IMAGES),
    "table": (TABLE,),
}


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How the files are written."""

    things_only: bool = False
    """Leave stuff out of the table, the label images and the GeoJSON files."""
    label_format: LabelFormat = "png"
    pixel_size: float | None = None
    unit: str = "um"
    names: bool = True
    """Write names into overlays."""
    alpha: float = 0.55
    """Opacity of the overlay's colors."""
    min_score: float = 0.0
    """Leave what scores lower out of overlays."""
    geographic: bool = False
    """Outlines in longitude and latitude, of images that say where on the earth they lie."""


class PredictionFiles:
    """Writes the files of each result, and at the end those of all.

    Args:
        folder: exists.
        products: what to write.
        paths: the paths of all images to predict, each once.
        options: how to write it.

    Raises:
        ConfigError: a file would overwrite one of the images or of an earlier call, would be written twice, or has too
            long a name; or an earlier call has listed one of the images, or a JSON file is none of `predict`.
    """

    def __init__(
        self, folder: Path, products: Sequence[Product], paths: Sequence[Path], options: FileOptions | None = None
    ) -> None:
        self._folder = folder
        self._products = self.products = tuple(products)
        self._options = options or FileOptions()
        self._stems = output_stems(paths)
        self._written: list[Path] = []
        self._check_names()
        tables = [name for product in products if product != "table" for name in _OF_ALL_IMAGES.get(product, ())]
        self._tables = PredictionTables(folder, tables, self._stems)
        measures = {"pixel_size": self._options.pixel_size, "unit": self._options.unit}
        measures["things_only"] = self._options.things_only
        self._rows = SegmentRows(folder, self._stems, measures) if "table" in products else None
        self._places = {path: PlaceOnEarth(path) for path in paths} if self._options.geographic else {}

    def check_categories(self, categories: "CategoryTable") -> None:
        """Hold the classes and columns of earlier calls into the folder against those of the model and this call.

        Raises:
            ConfigError: they differ.
        """
        import numpy as np

        from panoptic_deeplab.results.panoptic_result import PanopticResult

        self._tables.check_categories(categories)
        if self._rows is not None:
            empty = PanopticResult(panoptic_map=np.zeros((1, 1), np.int32), segments_info=[], categories=categories)
            self._rows.check_columns(empty)

    def add(
        self, path: Path, image: "np.ndarray", result: "PanopticResult", maps: "UpsampledMaps | None" = None
    ) -> None:
        """Write the files of one image; `maps` are there if a product of `NEED_MAPS` is wanted.

        Raises:
            OutputError: the system refuses to write; the image is then in no table.
        """
        from PIL import Image

        from panoptic_deeplab.results.coco import to_coco_instances, to_coco_panoptic
        from panoptic_deeplab.results.conversions import to_geojson
        from panoptic_deeplab.visualize.colors import visible_ids
        from panoptic_deeplab.visualize.draw import draw_panoptic
        from panoptic_deeplab.visualize.figure4 import draw_figure4
        from panoptic_deeplab.visualize.maps import draw_heatmap, draw_offset, thing_pixels

        stem = self._stems[path]
        image_id = self._tables.image_id(path)
        annotation: dict[str, Any] = {}
        detections: list[dict[str, Any]] = []
        if "overlay" in self._products:
            how = self._options
            overlay = draw_panoptic(image, result, alpha=how.alpha, labels=how.names, min_score=how.min_score)
            self._save(overlay, f"{stem}_overlay.png")
        if "panoptic" in self._products:
            annotation, rgb = to_coco_panoptic(result, image_id, f"{stem}_panoptic.png", png_ids=visible_ids(result))
            self._save(Image.fromarray(rgb), f"{stem}_panoptic.png")
        if "semantic" in self._products:
            self._save(_semantic_picture(result), f"{stem}_semantic.png")
        if "instances" in self._products:
            detections = to_coco_instances(result, image_id, png_ids=visible_ids(result))
        if "labels" in self._products:
            self._save_labels(result, stem)
        if "geojson" in self._products:
            document = to_geojson(result, things_only=self._options.things_only, place=self._places.get(path))
            write_json(self._place(f"{stem}.geojson"), document)
            self._written.append(self._folder / f"{stem}.geojson")
        if "zarr" in self._products:
            self._save_zarr(result, path)
        if maps is not None:
            assert maps.center_heatmap is not None
            assert maps.offset is not None
            if "maps" in self._products:
                self._save(draw_heatmap(image, maps.center_heatmap), f"{stem}_heatmap.png")
                self._save(draw_offset(maps.offset, mask=thing_pixels(result)), f"{stem}_offset.png")
            if "figure" in self._products:
                figure = draw_figure4(image, result, center_heatmap=maps.center_heatmap, offset=maps.offset)
                self._save(figure, f"{stem}_figure.png")
        self._tables.add(path, result.size, annotation=annotation, detections=detections)
        if self._rows is not None:
            self._rows.add(path, result)

    def add_large(self, path: Path, result: "LargeResult") -> None:
        """Write the files of an image of any size, of those products that can be written in parts.

        Raises:
            OutputError: the system refuses to write.
        """
        from panoptic_deeplab.results.large_formats import large_table, write_geojson, write_label_tiff

        stem = self._stems[path]
        if "labels" in self._products:
            write_label_tiff(result, self._place(f"{stem}_labels.tif"), things_only=self._options.things_only)
            self._written.append(self._folder / f"{stem}_labels.tif")
        if "geojson" in self._products:
            write_geojson(result, self._place(f"{stem}.geojson"), place=self._places.get(path))
            self._written.append(self._folder / f"{stem}.geojson")
        if "zarr" in self._products:
            self._written.append(self.zarr_folder(path))
        if self._rows is not None:
            self._rows.add_columns(large_table(result, image=place(path), **self._rows.options))

    def zarr_folder(self, path: Path) -> Path:
        """Where the maps of an image go as Zarr arrays."""
        return self._place(f"{self._stems[path]}.zarr")

    def finish(self, categories: "CategoryTable") -> list[Path]:
        """Write the JSON files of the images so far; all files written, in order.

        Raises:
            OutputError: the system refuses to write.
        """
        table = [] if self._rows is None else self._rows.write()
        return [*self._written, *self._tables.write(categories), *table]

    def _save(self, picture: Any, name: str, **options: Any) -> None:
        from panoptic_deeplab.images.write import save_picture

        save_picture(picture, self._place(name), **options)
        self._written.append(self._folder / name)

    def _save_labels(self, result: "PanopticResult", stem: str) -> None:
        """As TIFF where that is wanted, or where a PNG would not hold the ids."""
        import numpy as np
        from PIL import Image

        from panoptic_deeplab.results.conversions import to_labels

        labels = to_labels(result, things_only=self._options.things_only)
        if self._options.label_format == "tiff" or labels.dtype != np.uint16:
            self._save(Image.fromarray(labels), f"{stem}_labels.tif", compression="tiff_lzw")
        else:
            self._save(Image.fromarray(labels), f"{stem}_labels.png")

    def _save_zarr(self, result: "PanopticResult", path: Path) -> None:
        from panoptic_deeplab.results.stored import new_zarr

        folder = self.zarr_folder(path)
        for name in ("panoptic_map", "semantic_map"):
            map_ = getattr(result, name)
            new_zarr(folder / name, map_.shape, map_.dtype)[:] = map_
        self._written.append(folder)

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _check_names(self) -> None:
        pictures = [
            (f"{stem}{suffix}", str(path))
            for path, stem in self._stems.items()
            for product in self._products
            for suffix in _OF_EACH_IMAGE[product]
        ]
        names = pictures + [
            (name, "the table of all images") for p in self._products for name in _OF_ALL_IMAGES.get(p, ())
        ]
        images = {path.resolve() for path in self._stems}
        writers: dict[Path, str] = {}
        for name, writer in names:
            file = (self._folder / name).resolve()
            if file in images:
                raise ConfigError(
                    f"{self._folder / name} is one of the images to predict, and the results of {writer} would"
                    " overwrite it. Choose another --output, or other images."
                )
            if file in writers:
                raise ConfigError(
                    f"{self._folder / name} would be written for {writers[file]} and for {writer}. Predict them"
                    " separately, into two folders."
                )
            writers[file] = writer
        for name, writer in pictures:
            if len(os.fsencode(Path(name).name)) > MAX_NAME_BYTES:
                raise ConfigError(
                    f"The result of {writer} would be called {name}, but no name may have more than {MAX_NAME_BYTES}"
                    " bytes. Give the image a shorter name."
                )
            if os.path.lexists(self._folder / name):
                raise ConfigError(
                    f"{self._folder / name}, where results of {writer} would go, is there already, and no file is"
                    " replaced. Choose another --output, or remove what an earlier call has left."
                )


def output_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Names of the output files without suffix, in subfolders as the images are, below the folder common to all."""
    # Without `..`, which would lead out of the folder; links keep their names.
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
    common = os.path.commonpath([path.parent for path in absolute])
    return {
        path: whole.relative_to(common).with_suffix("").as_posix() for path, whole in zip(paths, absolute, strict=True)
    }


def _semantic_picture(result: "PanopticResult") -> Any:
    """Train ids as a palette PNG: numbers for programs, class colors for eyes."""
    import numpy as np
    from PIL import Image

    assert result.semantic_map is not None  # predictions have one
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.categories)] = result.categories.colors
    picture = Image.fromarray(result.semantic_map)
    picture.putpalette(palette.tobytes())
    return picture
