"""`panoptic-deeplab predict`."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from panoptic_deeplab.cli.inference_options import InferenceVerb
from panoptic_deeplab.cli.predict.files import NEED_MAPS, FileOptions, LabelFormat, PredictionFiles, Product
from panoptic_deeplab.cli.predict.inputs import Picture, find_pictures
from panoptic_deeplab.cli.predict.tiles import predict_large
from panoptic_deeplab.cli.terminal import print_json, say, say_error, say_lines
from panoptic_deeplab.cli.verb import Flag, OptionalFolder, make_folder, progress_bar
from panoptic_deeplab.errors import ConfigError, ImageError, visible
from panoptic_deeplab.results.text_table import text_table

if TYPE_CHECKING:
    import numpy as np

    from panoptic_deeplab.inference.predictor import PanopticPredictor, UpsampledMaps
    from panoptic_deeplab.postprocess.dropped import Dropped
    from panoptic_deeplab.results.panoptic_result import PanopticResult

_DEFAULT_PRODUCTS: tuple[Product, ...] = ("overlay", "panoptic")


@dataclass(frozen=True, kw_only=True)
class Predict(InferenceVerb):
    """Segment images: print the segments, or write pictures and COCO files.

    An image that cannot be read is left out and named at the end, with exit code 1; all others are predicted. A second
    call into the same folder adds its images to the JSON files of the first; none of its files is replaced.

    With --json, the document is: images, a list of {image: path, size: [height, width], segments_info: [{id,
    category_id, name, isthing, area, bbox: [x, y, width, height], iscrowd, score, objectness_score}], and with
    --explain, dropped: {size: [height, width] in the network's input, settings, small_stuff, small_instances,
    without_center, outvoted, weak_centers, centers_beyond_top_k, empty_centers, joined_centers, lost_in_resizing}};
    failed, a list of {image: path, error: message}; warnings, a list of {image: path, warning: message}; and files, the
    paths written. Bytes of a file name that are not UTF-8 are written as Python keeps them, 0xff as \\udcff.
    """

    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES...")]
    """Image files, folders, or quoted patterns such as 'photos/**/*.jpg'; each page of a TIFF file with several is an
    image, NAME_page0001 and so on. Or videos, in a call of their own, which become NAME_overlay.mp4 and NAME_table.csv
    in --output."""
    camera: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Predict what a camera sees, by its number from 0, until Ctrl-C: camera0_overlay.mp4 and camera0_table.csv."""
    output: OptionalFolder = None
    """Folder for the files of --save; without it the segments are printed. Images of several folders get subfolders."""
    save: Annotated[tuple[Product, ...], tyro.conf.arg(help_behavior_hint="(default: overlay panoptic)")] = ()
    """overlay: NAME_overlay.png. panoptic: NAME_panoptic.png and panoptic.json (COCO panoptic format), with ids whose
    colors can be seen; segment_id is the id of the other files. semantic: NAME_semantic.png, the class of each pixel
    before instances are merged in, as train ids 0, 1, ... in the order of the categories (255 = void, which
    predictions do not have). instances: instances.json (a list of COCO detections with RLE masks; id is that of
    NAME_panoptic.png) and images.json ({images, categories}: which image_id is which file, by its absolute path).
    table: table.csv, a row for each segment with its area, centroid, perimeter and so on, as scikit-image measures
    them, in pixels. labels: NAME_labels.png, each pixel the id of its segment in the table, 0 = void (NAME_labels.tif
    where an id is above 65535). geojson: NAME.geojson, outlines along pixel edges for QuPath and GIS. zarr:
    NAME.zarr, the arrays panoptic_map and semantic_map. maps:
    NAME_heatmap.png and NAME_offset.png, what the instance heads say. figure: NAME_figure.png, all steps side by side
    as in Figure 4 of the paper."""
    things_only: Flag = False
    """Leave stuff out of table, labels and geojson."""
    label_format: LabelFormat = "png"
    """Format of the label images."""
    pixel_size: Annotated[float | None, tyro.conf.arg(metavar="LENGTH")] = None
    """Side of a pixel, as 0.65 for 0.65 micrometers: table.csv gets columns in this unit too."""
    unit: Annotated[str, tyro.conf.arg(metavar="NAME")] = "um"
    """Unit of --pixel-size, for the names of its columns: area_um2, perimeter_um."""
    geographic: Flag = False
    """Write geojson in longitude and latitude (WGS 84) for a GIS: for images that say where on the earth they lie, as
    GeoTIFF. Needs the extra `geo`."""
    tile: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Predict in tiles of N x N pixels of the network's input, in bounded memory: for images of any size, also TIFF
    files beyond the limit of other formats, OME-TIFF, and folders of OME-Zarr. Of an image that is too large to be read
    whole, table, labels (a tiled TIFF), geojson (things) and zarr are written. top_k counts for each tile."""
    overlap: Annotated[int, tyro.conf.arg(metavar="N")] = 128
    """Pixels that neighboring tiles have in common at least."""
    no_labels: Flag = False
    """Write no names into the overlays."""
    alpha: Annotated[float, tyro.conf.arg(metavar="0-1")] = 0.55
    """Opacity of the overlays' colors: 0 = only the image."""
    min_score: Annotated[float, tyro.conf.arg(metavar="0-1")] = 0.0
    """Leave segments with a lower score out of the overlays; the other files list all."""
    explain: Flag = False
    """Also say what each result leaves out and by which setting: stuff and instances below their area limit, centers
    below the threshold, beyond top_k or joined to a stronger one, pixels outvoted inside of an instance. Goes image by
    image."""
    json: Flag = False
    """Write one JSON document to stdout."""
    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Images of one size that go through the network together; not with `maps` and `figure`."""

    def execute(self) -> None:
        """Predict; print or write the results."""
        from panoptic_deeplab.images.video import VIDEO_SUFFIXES

        if not self.images and self.camera is None:
            raise ConfigError("`predict` needs at least one image file, folder or pattern. Got none.")
        if self.camera is not None and self.images:
            raise ConfigError("`camera` is predicted in a call of its own. Leave out the images, or --camera.")
        if self.camera is not None:
            self._predict_videos([Path(f"camera{self.camera}")])
            return
        pictures = find_pictures(self.images, stored=self.tile is not None)
        paths = list(pictures)
        videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
        if videos:
            if len(videos) < len(paths):
                other = next(path for path in paths if path not in videos)
                raise ConfigError(
                    f"{videos[0]} is a video and {other} an image. Predict videos in a call of their own."
                )
            self._predict_videos(videos)
            return
        self._check_options(self._products())
        files = None
        if self.output is not None:
            make_folder(self.output)
            files = PredictionFiles(self.output, self._products(), paths, self._file_options())
        predictor = self.load_predictor()
        if self._needs_maps() and not predictor.config.model.instance_branch:
            raise ConfigError(
                f"`save` {self._needs_maps()[0]} needs a model with instance heads, but {self.model[0]} is semantic"
                " only."
            )

        if files is not None:
            files.check_categories(predictor.categories)

        failed: list[dict[str, str]] = []
        warnings: list[dict[str, str]] = []
        rows: list[dict[str, Any]] = []
        printing = files is None and not self.json
        try:
            with progress_bar("predict", enabled=not printing) as on_image:
                left = pictures
                if self.tile is not None:
                    left = self._without_large(predictor, pictures, files, rows, failed, on_image)
                for count, done in enumerate(self._predictions(predictor, left, failed, warnings), start=1):
                    if files is not None:
                        files.add(done.path, done.image, done.result, done.maps)
                    if self.json:
                        rows.append(_row(done))
                    elif printing:
                        _print_segments(done.path, done.result)
                    if done.dropped is not None and not self.json:
                        _print_dropped(done.path, done.dropped)
                    on_image(count + len(failed) + len(paths) - len(left), len(paths))
        finally:  # also after an interruption: what was done can be used
            written = [] if files is None else files.finish(predictor.categories)
        if self.json:
            files_written = [str(file) for file in written]
            print_json({"images": rows, "failed": failed, "warnings": warnings, "files": files_written})
        else:
            for file in written:
                say(file)
        for warning in warnings:
            say_error(warning["warning"])
        for failure in failed:
            say_error(f"ImageError: {failure['error']}")
        if failed:
            say_error(f"{len(failed)} of {len(paths)} images could not be predicted.")
            raise SystemExit(1)

    def _predict_videos(self, paths: Sequence[Path]) -> None:
        """Predict videos, or the camera, of which the one path is only a name."""
        from panoptic_deeplab.cli.predict.video import OF_VIDEOS, VideoFiles, predict_video
        from panoptic_deeplab.images.video import open_camera, open_video

        products = self.save or OF_VIDEOS
        self._check_options(products)
        other = [product for product in products if product not in OF_VIDEOS]
        if other:
            raise ConfigError(f"`save` {other[0]} is for images. Of videos, {' and '.join(OF_VIDEOS)} are written.")
        if self.output is None:
            raise ConfigError("The results of videos are files. Name a folder for them with --output.")
        if self.tile is not None or self.explain:
            raise ConfigError("`tile` and `explain` are for images. Leave them out for videos.")
        make_folder(self.output)
        files = VideoFiles(self.output, products, paths, self._file_options())
        predictor = self.load_predictor()
        summaries, failed = [], []
        for path in paths:
            try:
                with (
                    open_video(path) if self.camera is None else open_camera(self.camera) as video,
                    progress_bar(path.name) as on_frame,
                ):
                    summary = predict_video(
                        predictor, video, path, files, batch_size=self.batch_size, on_frame=on_frame
                    )
            except ImageError as error:
                failed.append({"image": str(path), "error": str(error)})
                continue
            summaries.append(summary)
            if not self.json:
                say(summary.line())
                for file in summary.files:
                    say(file)
            if summary.warning is not None:
                say_error(summary.warning)
            if summary.interrupted:
                break
        if self.json:
            print_json({"videos": [summary.to_json() for summary in summaries], "failed": failed})
        for failure in failed:
            say_error(f"ImageError: {failure['error']}")
        if self.camera is None and any(summary.interrupted for summary in summaries):
            raise KeyboardInterrupt
        if failed:
            raise SystemExit(1)

    def _products(self) -> tuple[Product, ...]:
        return self.save or _DEFAULT_PRODUCTS

    def _file_options(self) -> FileOptions:
        return FileOptions(
            things_only=self.things_only,
            label_format=self.label_format,
            pixel_size=self.pixel_size,
            unit=self.unit,
            names=not self.no_labels,
            alpha=self.alpha,
            min_score=self.min_score,
            geographic=self.geographic,
        )

    def _needs_maps(self) -> list[Product]:
        return [product for product in self._products() if product in NEED_MAPS]

    def _check_options(self, products: Sequence[Product]) -> None:
        from panoptic_deeplab.results.measurements import check_pixel_size

        if self.batch_size < 1:
            raise ConfigError(f"`batch_size` must be positive. Got {self.batch_size} instead.")
        check_pixel_size(self.pixel_size, self.unit)
        if self.pixel_size is not None and "table" not in products:
            raise ConfigError("`pixel_size` adds columns to table.csv. Name `table` in --save.")
        if self.things_only and not {"table", "labels", "geojson"} & {*products}:
            raise ConfigError("`things_only` is for `table`, `labels` and `geojson`. Name one of them in --save.")
        if self.geographic and "geojson" not in products:
            raise ConfigError("`geographic` is for `geojson`. Name it in --save.")
        if self.label_format != "png" and "labels" not in products:
            raise ConfigError("`label_format` is for label images. Name `labels` in --save.")
        for name, value in (("alpha", self.alpha), ("min_score", self.min_score)):
            if not 0 <= value <= 1:
                raise ConfigError(f"`{name}` must be between 0 and 1. Got {value} instead.")
        changed = any(getattr(self, name) != getattr(Predict, name) for name in ("no_labels", "alpha", "min_score"))
        if changed and (self.output is None or "overlay" not in products):
            raise ConfigError(
                "`no_labels`, `alpha` and `min_score` are for overlays. Name --output, and `overlay` in --save."
            )
        if self.save and self.output is None:
            raise ConfigError("`save` needs a folder to write to. Name one with --output.")
        if self._needs_maps() and self.batch_size > 1:
            raise ConfigError(
                f"`save` {self._needs_maps()[0]} goes image by image. Got a `batch_size` of {self.batch_size}; leave it"
                " out, or predict this product separately."
            )

        if self.tile is not None and (self.explain or self._needs_maps() or self.batch_size > 1):
            raise ConfigError(
                "`tile` goes tile by tile, without `explain`, `batch_size` and the pictures of `save` that show maps."
                " Leave it or them out."
            )
        if self.explain and self.batch_size > 1:
            raise ConfigError(f"`explain` goes image by image. Got a `batch_size` of {self.batch_size}; leave it out.")

    def _without_large(
        self,
        predictor: "PanopticPredictor",
        pictures: Mapping[Path, Picture],
        files: PredictionFiles | None,
        rows: list[dict[str, Any]],
        failed: list[dict[str, str]],
        on_image: Callable[..., None],
    ) -> dict[Path, Picture]:
        """Predict those images that cannot be read whole, and add their rows of the document; the others are left."""
        from panoptic_deeplab.images.prepare import reading
        from panoptic_deeplab.images.regions import TIFF_SUFFIXES, WholeImage, open_regions

        whole: dict[Path, Picture] = {}
        for path, picture in pictures.items():
            if picture.page is not None or (path.suffix.lower() not in TIFF_SUFFIXES and not path.is_dir()):
                whole[path] = picture
                continue
            try:
                with open_regions(path, **reading(predictor.config.input)) as image:
                    if isinstance(image, WholeImage):
                        whole[path] = picture
                        continue
                if files is None:
                    raise ConfigError(f"{path} is too large for a list of its segments. Name a folder with --output.")
                rows.append(predict_large(predictor, path, files, on_part=on_image, **self._tiles()))
            except ImageError as error:
                failed.append({"image": str(path), "error": str(error)})
        return whole

    def _tiles(self) -> dict[str, Any]:
        return {"tile": self.tile, "overlap": self.overlap}

    def _predictions(
        self,
        predictor: "PanopticPredictor",
        pictures: Mapping[Path, Picture],
        failed: list[dict[str, str]],
        warnings: list[dict[str, str]],
    ) -> "Iterator[_Prediction]":
        """In the order of `pictures`, without those that cannot be read; they are added to `failed`."""
        from panoptic_deeplab.images.prepare import brightness_warning, drawable, read_for

        waiting: deque[tuple[Path, np.ndarray]] = deque()
        settings = predictor.config.input

        def readable() -> "Iterator[np.ndarray]":
            for path, picture in pictures.items():
                try:
                    image = read_for(picture.path, settings, page=picture.page)
                    if self.tile is None:
                        predictor.check_memory((image.shape[0], image.shape[1]), where=str(path))
                    warning = brightness_warning(picture.path, image, settings, page=picture.page)
                    shown = drawable(image, settings)
                except ImageError as error:
                    failed.append({"image": str(path), "error": str(error)})
                else:
                    if warning is not None:
                        warnings.append({"image": str(path), "warning": warning})
                    waiting.append((path, shown))
                    yield image

        if self.tile is not None:
            for image in readable():
                yield _Prediction(*waiting.popleft(), predictor.predict_tiled(image, **self._tiles()).in_memory(), None)
        elif self._needs_maps():
            for image in readable():
                dropped = predictor.explain(image)[1] if self.explain else None
                yield _Prediction(*waiting.popleft(), *predictor.predict_with_maps(image), dropped)
        elif self.explain:
            for image in readable():
                result, dropped = predictor.explain(image)
                yield _Prediction(*waiting.popleft(), result, None, dropped)
        else:
            for result in predictor.predict_iter(readable(), batch_size=self.batch_size):
                yield _Prediction(*waiting.popleft(), result, None)


class _Prediction(NamedTuple):
    path: Path
    image: "np.ndarray"
    result: "PanopticResult"
    maps: "UpsampledMaps | None"
    dropped: "Dropped | None" = None


def _row(done: _Prediction) -> dict[str, Any]:
    from panoptic_deeplab.results.measurements import to_json

    row = {"image": str(done.path), **to_json(done.result)}
    return row if done.dropped is None else row | {"dropped": asdict(done.dropped)}


def _print_segments(path: Path, result: "PanopticResult") -> None:
    say(f"{path}  {result.size[0]} x {result.size[1]} (height x width)")
    rows = [
        (
            str(segment.id),
            visible(segment.name),
            "thing" if segment.isthing else "stuff",
            "-" if segment.score is None else f"{segment.score:.2f}",
            str(segment.area),
            ", ".join(map(str, segment.bbox)),
        )
        for segment in result.segments_info
    ]
    head = ("id", "name", "kind", "score", "area", "x, y, width, height")
    say_lines(text_table([head, *rows], left=(1, 2)))


def _print_dropped(path: Path, dropped: "Dropped") -> None:
    height, width = dropped.size
    say(f"Left out of {path}, in pixels of the network's input of {height} x {width}:")
    for line in dropped.lines() or ["nothing"]:
        say(f"  {line}")
