"""The bundled and the published models as text and as JSON, for `panoptic-deeplab models`."""

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from panoptic_deeplab.results.text_table import text_table
from panoptic_deeplab.weights.bundled import BundledModel, bundled_models
from panoptic_deeplab.weights.download import cache_folder
from panoptic_deeplab.weights.zoo_list import ZooModel, unsupported_families, zoo_models

_COLUMNS = ("Name", "Data", "Backbone", "Params M", "PQ", "AP", "mIoU", "MB", "From", "Notes")
_LEFT = (0, 1, 2, 8, 9)
_BYTES_PER_PARAMETER = 4
"""Size of a number in float32, in which these programs train."""


def zoo_document() -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "cache": str(cache_folder()),
        "bundled": [asdict(model) | {"folder": str(model.folder)} for model in bundled_models().values()],
        "models": [
            {
                **asdict(model),
                "on_google_drive": model.is_on_google_drive,
                "size": model.size,
                "in_cache": model.is_in_cache,
                "verification": model.verification,
            }
            for model in zoo_models().values()
        ],
        "unsupported": [asdict(family) for family in unsupported_families()],
    }


def zoo_text() -> str:
    """What the package brings, then one line a published model; what several have in common is a note below."""
    notes: dict[str, int] = {}
    lines: list[tuple[str, ...]] = [_COLUMNS]
    for model in zoo_models().values():
        texts = [f"License: {model.license}", model.verification, *([model.note] if model.note else [])]
        numbers = sorted(notes.setdefault(text, len(notes) + 1) for text in texts)
        lines.append((*_cells(model), " ".join(map(str, numbers))))
    unsupported = [
        f"  {family.family}: {', '.join(family.models)}. {family.reason} {family.page}"
        for family in unsupported_families()
    ]
    return "\n".join(
        [
            *(line for model in bundled_models().values() for line in _bundled_lines(model)),
            "Published by others, downloaded the first time:",
            text_table(lines, left=_LEFT),
            "",
            "PQ, AP and mIoU in percent, as the authors report them for the validation split; not measured here.",
            "MB of the file; before the first download about (~) as much as its parameters take.",
            *(f"{number}  {text}" for text, number in notes.items()),
            "",
            "Published elsewhere, and not read here:",
            *unsupported,
        ]
    )


def _bundled_lines(model: BundledModel) -> list[str]:
    figures = ", ".join(f"{name} {100 * value:.1f}" for name, value in model.measured.items())
    return [
        f"{model.name}: in the package. {model.purpose}",
        f"  {figures} (percent). {model.measured_on}",
        f"  License: {model.license}",
        "",
    ]


def _cells(model: ZooModel) -> tuple[str, ...]:
    numbers = (model.reported.get(name) for name in ("PQ", "AP", "mIoU"))
    return (
        model.name,
        model.dataset,
        model.backbone,
        f"{model.parameters / 1e6:.1f}",
        *("-" if number is None else f"{100 * number:.1f}" for number in numbers),
        _megabytes(model),
        _place(model),
    )


def _megabytes(model: ZooModel) -> str:
    if model.url is None:
        return "-"
    if (size := model.size) is None:
        return f"~{_BYTES_PER_PARAMETER * model.parameters / 1e6:.0f}"
    return f"{size / 1e6:.0f}"


def _place(model: ZooModel) -> str:
    if model.is_in_cache:
        return "cache"
    if model.is_on_google_drive:
        return "Google Drive"
    return "-" if model.url is None else str(urlsplit(model.url).hostname)
