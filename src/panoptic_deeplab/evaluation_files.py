"""An evaluation on disk: what `evaluate --output` and each validation of a training leave."""

import json
import logging
from pathlib import Path

from panoptic_deeplab.errors import MissingDependencyError
from panoptic_deeplab.evaluation import EvaluationReport
from panoptic_deeplab.visualize.curves import draw_per_class
from panoptic_deeplab.visualize.mosaic import MosaicRow, draw_mosaic

logger = logging.getLogger(__name__)


def write_report_files(report: EvaluationReport, folder: Path) -> None:
    """Write report.json, table.txt, per_class_pq.png and, where the report has pictures, mosaic.png.

    Without matplotlib, per_class_pq.png is left out with a warning.

    Args:
        report: of the whole set, so in one process only.
        folder: made where it does not exist; existing files are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n", "utf-8")
    (folder / "table.txt").write_text(report.table(per_class=True), "utf-8")
    try:
        draw_per_class([(row.name, row.pq) for row in report.panoptic.per_class], folder / "per_class_pq.png")
    except MissingDependencyError as error:
        logger.warning("%s per_class_pq.png is left out.", error)
    rows = [MosaicRow(title=p.image_id, image=p.image, prediction=p.prediction, truth=p.truth) for p in report.pictures]
    if rows:
        draw_mosaic(rows).save(folder / "mosaic.png")
