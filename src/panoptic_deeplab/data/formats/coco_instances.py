"""COCO instances format: one JSON a split, with polygons or run lengths; what label tools export as "COCO".

| where from            | annotations                            | images                                          |
|-----------------------|----------------------------------------|-------------------------------------------------|
| Roboflow              | `{split}/_annotations.coco.json`       | `{split}/`                                      |
| COCO, CVAT            | `annotations/instances_{split}.json`   | `{split}/`, `images/{split}/` or `images/`      |
| Label Studio, others  | `{split}.json` (split `result`)        | `images/{split}/`, `{split}/` or `images/`      |

The `file_name` of an image may have sub-folders, and may begin at the root (`images/street_1.jpg`). Stuff is drawn as
polygons too, or given as maps of category ids, a PNG for each image, in `semantic/{split}/`, `semantic/`, or where COCO
has them, `stuffthingmaps/{split}/` and `annotations/stuff_{split}_pixelmaps/`. Annotations lie on top of such maps.
Where nobody annotated anything, pixels are void, or of the class that the table names as `unlabeled`.

`shapes.py` says which pixels a polygon has, and who is on top where two annotations claim one.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32, UInt8

from panoptic_deeplab.data.formats.common.coco_entries import warn_of_unlisted
from panoptic_deeplab.data.formats.common.drawn import DrawnSource
from panoptic_deeplab.data.formats.common.instances_json import read_instances_json
from panoptic_deeplab.data.formats.common.listed import Labels
from panoptic_deeplab.data.formats.common.shapes import Shape
from panoptic_deeplab.data.label_files import absent_file, case_twin
from panoptic_deeplab.data.problems import Problems
from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import existing_file


class CocoInstancesSource(DrawnSource):
    """A split in COCO instances format; see `DrawnSource`. The JSON is read once, images are painted when asked for.

    `split` is the name in the paths above, as `train`; dataset ids of the table are the `category_id`s of the JSON.
    """

    def _list(self, split: str, problems: Problems) -> Sequence[str]:
        root = self._root.folder
        json_path, folders = _layout(root, split)
        self.index = read_instances_json(json_path, self.categories, self._root, problems)
        self.image_folder = _fullest([*folders, root], self.index.image_files)
        self._look_for_images(problems)
        self.semantic_folder = next(filter(Path.is_dir, _semantic_folders(root, split)), None)
        if self.semantic_folder is not None and self.index.has_labels:
            self._look_for_maps(self.semantic_folder, problems)
        self._is_own_folder = self.image_folder.name == split
        return self.index.image_ids

    def _remark(self, problems: Problems) -> None:
        if self._is_own_folder:  # other splits have images in the others
            warn_of_unlisted(self.image_folder, self.index, problems)

    def _image_path(self, index: int) -> Path:
        return self._root.inside(self.image_folder, self.index.image_files[index], where=self._where(index))

    def _labels(self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path) -> Labels:
        self.index.check_size(index, (image.shape[0], image.shape[1]), image_path)
        return super()._labels(index, image, image_path) if self.index.has_labels else (None, [])

    def _shapes(self, index: int, size: tuple[int, int]) -> list[Shape]:
        return self.index.shapes(index, size)

    def _where(self, index: int) -> str:
        return f"{self.index.path} (image {self.index.image_ids[index]})"

    def _semantic(
        self, index: int, image: UInt8[np.ndarray, "H W 3"], image_path: Path
    ) -> Int32[np.ndarray, "H W"] | None:
        if self.semantic_folder is None:
            return None
        label_path = self._root.below(self.semantic_folder, self._map_name(index), where=self._where(index))
        return self._id_label(self.semantic_folder, label_path, image, image_path)

    def _map_name(self, index: int) -> str:
        return str(PurePosixPath(_plain(self.index.image_files[index])).with_suffix(".png"))

    def _look_for_images(self, problems: Problems) -> None:
        """Note images without a file."""
        for index, name in enumerate(self.index.image_files):
            path = self.image_folder / _plain(name)
            if not name or path.is_file():  # without a name, that is noted already
                continue
            self._fault(
                index, "no file" if case_twin(path) is None else "other letters", absent_file(name, path), problems
            )

    def _look_for_maps(self, folder: Path, problems: Problems) -> None:
        """Note images without a map of stuff."""
        for index, name in enumerate(self.index.image_files):
            if name and not (folder / self._map_name(index)).is_file():
                fault = f"has no map {self._map_name(index)!r} in {folder}. Add it, or remove the folder."
                self._fault(index, "no map", fault, problems)

    def _fault(self, index: int, kind: str, fault: str, problems: Problems) -> None:
        image_id, path = self.index.image_ids[index], self.index.path
        problems.add(f"{path} {kind}", path, fault, place=f"image {image_id}", image_id=image_id)


def _layout(root: Path, split: str) -> tuple[Path, list[Path]]:
    """The JSON of a split, and the folders where its images can be."""
    images = root / "images"
    layouts = {
        root / split / "_annotations.coco.json": [root / split],
        root / "annotations" / f"instances_{split}.json": [root / split, images / split, images],
        root / f"{split}.json": [images / split, root / split, images],
    }
    present = {
        found: folders
        for path, folders in layouts.items()
        if (found := existing_file(path, error=DatasetError)) is not None
    }
    if len(present) > 1:
        first, second, *_ = present
        raise DatasetError(f"{first} and {second} both list split {split!r}. Remove or rename one of them.")
    if not present:
        raise DatasetError(
            f"Split {split!r} is not in {root}. Expected its annotations in COCO instances format in one of:"
            f" {', '.join(str(path.relative_to(root)) for path in layouts)}."
        )
    return next(iter(present.items()))


def _semantic_folders(root: Path, split: str) -> list[Path]:
    names = (f"semantic/{split}", "semantic", f"stuffthingmaps/{split}", f"annotations/stuff_{split}_pixelmaps")
    return [root / name for name in names]


def _fullest(folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The folder that holds most of the names, in letters of any case; the first of those that hold as many."""
    best, most = folders[0], -1
    for folder in filter(Path.is_dir, folders):
        paths = [folder / _plain(name) for name in names if name]
        count = sum(path.is_file() or case_twin(path) is not None for path in paths)
        if count > most:
            best, most = folder, count
        if count == len(names):
            break
    return best


def _plain(name: str) -> str:
    r"""A name with `/` between folders, which Windows writes as `\`."""
    return name.replace("\\", "/")
