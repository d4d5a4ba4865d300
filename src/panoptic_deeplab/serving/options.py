"""Query parameters of `/v1/panoptic`, named and checked as in the configuration.

`Query` is made from the fields of `PostprocessConfig` and `TestTimeAugmentationConfig`, so a new setting is an option
of the service without a change here.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from panoptic_deeplab.config import PostprocessConfig, TestTimeAugmentationConfig
from panoptic_deeplab.config.io import with_changes

Output = Literal[
    "json", "overlay", "panoptic", "labels", "table", "geojson", "semantic", "instances", "heatmap", "offset"
]
Masks = Literal["rle", "polygons", "png", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a worker tells of a model that it has opened."""

    name: str
    categories: list[dict[str, Any]]
    postprocess: PostprocessConfig
    test_time_augmentation: TestTimeAugmentationConfig
    has_instances: bool
    keeps_maps: bool
    """Whether other post-processing needs no new pass of the network."""
    device: str
    batch_size: int
    """Images of one size that go through the network together."""

    def document(self) -> dict[str, Any]:
        """For `/v1/models`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Options:
    """A request's wishes, complete."""

    output: Output
    masks: Masks
    alpha: float
    labels: bool
    things_only: bool
    min_score: float
    postprocess: PostprocessConfig
    test_time_augmentation: TestTimeAugmentationConfig


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="Name of the model; without it, the first of `/v1/models`.")
    output: Output | None = Field(
        None,
        description="`json` (default), `overlay` (also where `Accept` is `image/png` alone), `panoptic` (PNG of COCO"
        " panoptic, whose R + 256 G + 65536 B is the `png_id` of the JSON), `labels` (16-bit PNG of the `id`s),"
        " `table` (CSV), `geojson`, `semantic` (class colors), `instances`, `heatmap` or `offset`.",
    )
    masks: Masks = Field(
        "rle",
        description="Form of the masks in `json`: COCO run lengths; polygons along the edges of pixels, as in GeoJSON;"
        " the panoptic PNG; none.",
    )
    alpha: float = Field(0.55, ge=0, le=1, description="Opacity of `overlay`.")
    labels: bool = Field(True, description="Write names into `overlay`.")
    things_only: bool = Field(False, description="Leave stuff out of `table`, `labels` and `geojson`.")
    min_score: float = Field(0.0, ge=0, le=1, description="Things with a lower score become void.")

    def options(self, info: ModelInfo, *, default: Output = "json") -> Options:
        """Put the wishes together with the settings of the model.

        Raises:
            ConfigError: a value that the configuration refuses.
        """
        asked = self.model_dump(exclude_none=True)
        sections = {
            name: with_changes(
                getattr(info, name),
                {field.name: asked.pop(field.name) for field in fields(section) if field.name in asked},
                name=name,
            )
            for name, section in _SECTIONS.items()
        }
        asked.pop("model", None)
        return Options(**{"output": default, **asked, **sections})


_SECTIONS = {"postprocess": PostprocessConfig, "test_time_augmentation": TestTimeAugmentationConfig}


def _parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        for key, kind in get_type_hints(section).items():
            if key.startswith("_"):
                continue
            plain = list[get_args(kind)[0]] if get_origin(kind) is tuple else kind  # type: ignore[misc]
            parameters[key] = (plain | None, Field(None, description=f"`{name}.{key}`; without it, the model's."))
    return parameters


Query = create_model("Query", __base__=_Base, **_parameters())
