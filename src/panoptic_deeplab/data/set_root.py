"""The folder of a set, which its files do not lead out of unless the user says so (`data.outside_root`)."""

from pathlib import Path
from typing import Any, NamedTuple

from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.files import followed, path_below, path_inside

_OPTION = "data.outside_root true"


class SetRoot(NamedTuple):
    """The folder that the user named, and whether names and links in it may lead elsewhere.

    Folders of the layout (`images`, `annotations`, a split) may be links, as the root may; a file may be a link to
    somewhere below the root or below its own folder.
    """

    folder: Path
    outside: bool

    def below(self, folder: Path, name: Any, *, where: str) -> Path:
        """Give the path of a name from data, by the name alone; one that leads out, or is none, is a `DatasetError`."""
        return path_below(folder, name, where=where, error=DatasetError, outside=self.outside, option=_OPTION)

    def inside(self, folder: Path, name: Any, *, where: str) -> Path:
        """Give the path of a name from data, links followed; out of folder and root, or no name: a `DatasetError`."""
        return path_inside(
            folder, name, where=where, error=DatasetError, outside=self.outside, option=_OPTION, within=self.folder
        )

    def listed(self, folder: Path, path: Path) -> Path:
        """Refuse a link found in a folder of the layout that leads out of it and the root; its name may be any."""
        return followed(
            path,
            (folder, self.folder),
            name=str(path.relative_to(folder)),
            where=f"The folder {folder}",
            error=DatasetError,
            outside=self.outside,
            option=_OPTION,
        )
