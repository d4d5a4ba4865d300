"""`SubmissionWriter`: predictions in the files that the servers of the three benchmarks take (section 4.2, test sets).

    DIR/                                     cityscapes          coco                  mapillary_vistas
    ├── panoptic/NAME.json, NAME/ID.png      yes                 yes                   yes
    ├── semantic/ID....png                   label ids           -                     label index
    ├── instance/ID.txt, masks/ID_N.png      yes                 -                     yes
    └── detections_....json                  -                   COCO detections       -

`panoptic` is the COCO panoptic format everywhere; `instance` is a line a mask, `path label confidence`. Each folder is
what one task's server wants in a zip file. The semantic map is the one before merging, as the authors measure mIoU.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import file_name, write_json, write_text
from panoptic_deeplab.images.write import save_picture
from panoptic_deeplab.results.coco import to_coco_instances, to_coco_panoptic
from panoptic_deeplab.results.panoptic_result import PanopticResult

Benchmark = Literal["cityscapes", "coco", "mapillary_vistas"]

_TABLES: dict[Benchmark, str] = {
    "cityscapes": "cityscapes",
    "coco": "coco",
    "mapillary_vistas": "mapillary_vistas_v1.2",
}
"""Packaged category table of each benchmark."""


class SubmissionWriter:
    """Writes the files image by image; `finish` writes what lists them all.

    Args:
        folder: made where it does not exist.
        benchmark: whose files.
        split: name of the images' split, such as `test`; part of file names.
        name: the method's name, part of COCO's file names.
        categories: classes of the predictions: all of the benchmark, or some of them. Those of Mapillary Vistas are
            v1.2's.

    Raises:
        DatasetError: the table merges classes, or has one that the benchmark lacks.
    """

    def __init__(
        self,
        folder: str | Path,
        benchmark: Benchmark,
        *,
        split: str,
        categories: CategoryTable,
        name: str = "panoptic_deeplab",
    ) -> None:
        _check_classes(categories, _TABLES[benchmark])
        self.folder = Path(folder)
        self.benchmark = benchmark
        self.categories = categories
        stem = {
            "cityscapes": f"cityscapes_panoptic_{split}",
            "coco": f"panoptic_{split}_{name}_results",
            "mapillary_vistas": f"panoptic_{split}",
        }[benchmark]
        self._panoptic_json = self.folder / "panoptic" / f"{stem}.json"
        self._detections_json = self.folder / f"detections_{split}_{name}_results.json"
        self._annotations: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        # Label ids of Mapillary's files count from 0, category ids of its JSON from 1.
        self._label_shift = 1 if benchmark == "mapillary_vistas" else 0

    def add(self, image_id: str, result: PanopticResult) -> None:
        """Write the files of one image.

        Args:
            image_id: the source's id: a number for COCO, `city_sequence_frame` for Cityscapes, the stem for Mapillary.
            result: the prediction, with `semantic_map`.

        Raises:
            DatasetError: COCO's id is no number, the id can be no file name, or the result contradicts itself.
            OutputError: a file cannot be written.
        """
        file_name(image_id, where="The data set", error=DatasetError, suffix="_labelIds.png")
        identity: int | str = image_id
        if self.benchmark == "coco":
            if not image_id.isdecimal():
                raise DatasetError(f"COCO's servers want numbers as image ids. Got {image_id!r} instead.")
            identity = int(image_id)
        annotation, rgb = to_coco_panoptic(result, identity, f"{image_id}.png")
        self._annotations.append(annotation)
        _save(rgb, self._panoptic_json.with_suffix("") / f"{image_id}.png")
        if self.benchmark == "coco":
            self._detections += to_coco_instances(result, identity)
            return
        self._add_semantic(image_id, result)
        self._add_instances(image_id, result)

    def finish(self) -> list[Path]:
        """Write the lists of all images; gives the files and folders to put into the zip file of each task."""
        self._panoptic_json.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._panoptic_json, {"annotations": self._annotations})
        if self.benchmark == "coco":
            write_json(self._detections_json, self._detections)
            return [self._panoptic_json.parent, self._detections_json]
        return [self._panoptic_json.parent, self.folder / "semantic", self.folder / "instance"]

    def _add_semantic(self, image_id: str, result: PanopticResult) -> None:
        assert result.semantic_map is not None, "predictions have one"
        label_of_train_id = np.array([c.id - self._label_shift for c in self.categories.categories], dtype=np.uint8)
        tail = "_labelIds" if self.benchmark == "cityscapes" else ""
        _save(label_of_train_id[result.semantic_map], self.folder / "semantic" / f"{image_id}{tail}.png")

    def _add_instances(self, image_id: str, result: PanopticResult) -> None:
        folder = self.folder / "instance"
        lines = []
        for number, segment in enumerate(result.instances()):
            path = f"masks/{image_id}_{number}.png"
            _save(np.where(result.panoptic_map == segment.id, 255, 0).astype(np.uint8), folder / path)
            lines.append(f"{path} {segment.category_id - self._label_shift} {segment.ranking_score:.6f}\n")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{image_id}.txt", "".join(lines))  # an empty file says: no instance


def _check_classes(categories: CategoryTable, benchmark_table: str) -> None:
    """Files with the ids of other classes would be scored like any others."""
    if categories.train_id_by_dataset_id.keys() != categories.train_id_by_category_id.keys():
        problem = "joins several classes into one (`dataset_ids`)"
    else:
        names = {category.id: category.name for category in CategoryTable.load(benchmark_table).categories}
        foreign = [c for c in categories.categories if names.get(c.id) != c.name]
        if not foreign:
            return
        problem = f"has '{foreign[0].id} {foreign[0].name}', which is no class of {benchmark_table}"
    raise DatasetError(
        f"A submission needs the ids of the benchmark, but category table {categories.name!r} {problem}. Use a model"
        f" that was trained on the classes of {benchmark_table}."
    )


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(Image.fromarray(pixels), path)
