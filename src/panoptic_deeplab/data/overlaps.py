"""What `data check` tells of annotations that overlap, or of which no pixel is seen."""

from panoptic_deeplab.data.formats.common.shapes import Painted


class Overlaps:
    """Counts while images go by."""

    def __init__(self) -> None:
        self.pixels = 0
        """Those that more than one annotation covers."""
        self._empty: list[str] = []
        self._hidden: list[str] = []

    def add(self, painted: Painted, image_id: str) -> None:
        """Count one image."""
        self.pixels += painted.overlapping
        self._empty += [f"{place} (image {image_id})" for place in painted.empty]
        self._hidden += [f"{place} (image {image_id})" for place in painted.hidden]

    def messages(self) -> list[str]:
        """What a person should look at."""
        said = {
            "Annotations that cover no pixel of their image (empty, outside, thinner than a pixel)": self._empty,
            "Annotations that are covered by others completely, and not seen": self._hidden,
        }
        return [f"{what}: {len(places)}, the first is {places[0]}." for what, places in said.items() if places]
