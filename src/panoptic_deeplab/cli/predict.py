"""`panoptic-deeplab predict`."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from panoptic_deeplab.cli.verb import (
    Device,
    Flag,
    Folder,
    OptionalFolder,
    Precision,
    Verb,
    config_of_model,
    print_json,
    progress_bar,
)
from panoptic_deeplab.config import InputConfig, PostprocessConfig
from panoptic_deeplab.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from panoptic_deeplab.inference.predictor import PanopticPredictor, UpsampledMaps
    from panoptic_deeplab.results import PanopticResult

Product = Literal["overlay", "panoptic", "instances", "maps"]


@dataclass(frozen=True, kw_only=True)
class Predict(Verb):
    """Segment images: print the segments, or write pictures and COCO files.

    With --json, the document is: images, a list of {image: path, size: [height, width], segments_info: [{id,
    category_id, name, isthing, area, bbox: [x, y, width, height], iscrowd, score}]}, and files, the paths written.
    """

    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES...")]
    """Image files, folders, or quoted patterns such as 'photos/**/*.jpg'."""
    model: Folder
    """Model folder, such as runs/street/best."""
    output: OptionalFolder = None
    """Folder for the files of --save; without it the segments are printed."""
    save: tuple[Product, ...] = ("overlay", "panoptic")
    """overlay: NAME_overlay.png. panoptic: NAME.png and panoptic.json (COCO panoptic format). instances: instances.json
    (COCO detections with RLE masks). maps: NAME_heatmap.png and NAME_offset.png."""
    json: Flag = False
    """Write one JSON document to stdout."""
    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Images of one size that go through the network together."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """bfloat16 is faster where the hardware has it, and slightly different."""
    input: InputConfig = field(default_factory=InputConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> "Predict | None":
        """The settings of the model's run."""
        found = config_of_model(arguments)
        if found is None:
            return None
        folder, config = found
        return cls(images=(), model=Path(folder), input=config.input, postprocess=config.postprocess)

    def execute(self) -> None:
        """Predict; print or write the results."""
        from panoptic_deeplab.images import find_images
        from panoptic_deeplab.inference.predictor import PanopticPredictor

        if not self.images:
            raise ConfigError("`predict` needs at least one image file, folder or pattern. Got none.")
        if self.batch_size < 1:
            raise ConfigError(f"`batch_size` must be positive. Got {self.batch_size} instead.")
        paths = list(dict.fromkeys(path for source in self.images for path in find_images(source)))
        stems = _output_stems(paths)
        loaded = PanopticPredictor.from_pretrained(self.model, device=self.device)
        predictor = PanopticPredictor(
            loaded.model,
            loaded.categories,
            replace(loaded.config, input=self.input, postprocess=self.postprocess),
            device=self.device,
            precision=self.precision,
        )
        writer = None if self.output is None else _Writer(self.output, self.save, predictor)
        rows: list[dict[str, Any]] = []
        with progress_bar("predict") as on_image:
            predictions = zip(paths, stems, self._predictions(predictor, paths), strict=True)
            for done, (path, stem, (result, maps)) in enumerate(predictions, start=1):
                on_image(done, len(paths))
                if writer is not None:
                    writer.add(path, stem, result, maps)
                if self.json:
                    segments = [asdict(segment) for segment in result.segments_info]
                    rows.append({"image": str(path), "size": list(result.size), "segments_info": segments})
                elif writer is None:
                    _print_segments(path, result)
        files = [] if writer is None else writer.finish()
        if self.json:
            print_json({"images": rows, "files": [str(file) for file in files]})
        else:
            for file in files:
                print(file)

    def _predictions(
        self, predictor: "PanopticPredictor", paths: Sequence[Path]
    ) -> "Iterator[tuple[PanopticResult, UpsampledMaps | None]]":
        if self.output is not None and "maps" in self.save:
            yield from (predictor.predict_with_maps(path) for path in paths)
        else:
            yield from ((result, None) for result in predictor.predict_iter(paths, batch_size=self.batch_size))


class _Writer:
    """Writes the files of each result, and at the end those of all."""

    def __init__(self, folder: Path, products: Sequence[Product], predictor: "PanopticPredictor") -> None:
        self._folder = folder
        self._products = products
        self._categories = predictor.categories
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        self._files: list[Path] = []

    def add(self, path: Path, stem: str, result: "PanopticResult", maps: "UpsampledMaps | None") -> None:
        from PIL import Image

        from panoptic_deeplab.result_formats import to_coco_instances, to_coco_panoptic
        from panoptic_deeplab.visualize.draw import draw_panoptic
        from panoptic_deeplab.visualize.maps import draw_heatmap, draw_offset

        image_id = len(self._images) + 1  # COCO's tools want integers
        height, width = result.size
        self._images.append({"id": image_id, "file_name": str(path), "height": height, "width": width})
        if "overlay" in self._products:
            draw_panoptic(path, result).save(self._new_file(f"{stem}_overlay.png"))
        if "panoptic" in self._products:
            annotation, rgb = to_coco_panoptic(result, image_id, f"{stem}.png")
            Image.fromarray(rgb).save(self._new_file(f"{stem}.png"))
            self._annotations.append(annotation)
        if "instances" in self._products:
            self._detections += to_coco_instances(result, image_id)
        if maps is not None and maps.center_heatmap is not None and maps.offset is not None:
            draw_heatmap(path, maps.center_heatmap).save(self._new_file(f"{stem}_heatmap.png"))
            draw_offset(maps.offset).save(self._new_file(f"{stem}_offset.png"))

    def finish(self) -> list[Path]:
        """Write the JSON files; all files written, in order."""
        if "panoptic" in self._products:
            categories = [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in self._categories.categories]
            document = {"images": self._images, "annotations": self._annotations, "categories": categories}
            self._new_file("panoptic.json").write_text(json.dumps(document), "utf-8")
        if "instances" in self._products:
            self._new_file("instances.json").write_text(json.dumps(self._detections), "utf-8")
        return self._files

    def _new_file(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files.append(path)
        return path


def _output_stems(paths: Sequence[Path]) -> list[str]:
    """Names of the output files without suffix, in subfolders as the images are."""
    common = os.path.commonpath([path.absolute().parent for path in paths])
    stems = [str(path.absolute().relative_to(common).with_suffix("")) for path in paths]
    first: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in first:
            raise ImageError(
                f"{first[stem]} and {path} differ only in their suffix, so their results would have one name."
                " Predict them separately."
            )
        first[stem] = path
    return stems


def _print_segments(path: Path, result: "PanopticResult") -> None:
    table = Table(title=f"{path}  {result.size[0]} x {result.size[1]} (height x width)", title_justify="left")
    for name in ("id", "name", "kind", "score", "area", "x, y, width, height"):
        table.add_column(name, justify="left" if name in ("name", "kind") else "right")
    for segment in result.segments_info:
        score = "-" if segment.score is None else f"{segment.score:.2f}"
        kind = "thing" if segment.isthing else "stuff"
        bbox = ", ".join(map(str, segment.bbox))
        table.add_row(str(segment.id), segment.name, kind, score, str(segment.area), bbox)
    Console(markup=False, highlight=False).print(table)
