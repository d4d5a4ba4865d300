"""An evaluation on disk: what `evaluate --output` and each validation of a training leave."""

import logging
from pathlib import Path

from panoptic_deeplab.errors import MissingDependencyError
from panoptic_deeplab.evaluation.error_page import error_page
from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.files import make_folder, write_json, write_text, written_whole
from panoptic_deeplab.visualize.curves import draw_per_class
from panoptic_deeplab.visualize.mosaic import MosaicRow, draw_mosaic
from panoptic_deeplab.visualize.report import write_report

logger = logging.getLogger(__name__)


def write_report_files(report: EvaluationReport, folder: Path) -> None:
    """Write report.json, report.html, table.txt, per_class_pq.png and, where the report has pictures, mosaic.png
    into a folder.

    Existing files are replaced. Without matplotlib, per_class_pq.png is left out with a warning.
    """
    folder = make_folder(folder)
    write_json(folder / "report.json", report.to_json(), indent=2)
    write_text(folder / "table.txt", report.table(per_class=True))
    try:
        quality = report.class_columns()["PQ"]
        rows = [(category.name, quality[category.id]) for category in report.categories.categories]
        draw_per_class(rows, folder / "per_class_pq.png")
    except MissingDependencyError as error:
        logger.warning("%s per_class_pq.png is left out.", error)
    if report.pictures:
        mosaic = [
            MosaicRow(title=p.image_id, image=p.image, prediction=p.prediction, truth=p.truth) for p in report.pictures
        ]
        with written_whole(folder / "mosaic.png") as path:
            draw_mosaic(mosaic).save(path)
    write_report(folder / "report.html", error_page(report))
