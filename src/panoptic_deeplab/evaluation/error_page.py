"""The page of an evaluation: numbers, classes, confusions, and the images with the worst first."""

from panoptic_deeplab.evaluation.evaluate import EvaluationReport
from panoptic_deeplab.metrics.panoptic_quality import ImageQuality, PanopticQualityReport
from panoptic_deeplab.metrics.semantic_iou import SemanticIoUReport
from panoptic_deeplab.visualize.report import Confusion, ImageRow, QualityRow, Report, ReportImage


def error_page(report: EvaluationReport, *, title: str = "Evaluation") -> Report:
    """What `write_report` makes a page of.

    Args:
        report: of the whole set.
        title: heading of the page.
    """
    panoptic, semantic = report.measured["panoptic"], report.measured["semantic"]
    assert isinstance(panoptic, PanopticQualityReport)
    assert isinstance(semantic, SemanticIoUReport)
    groups = (("All", panoptic.all_classes), ("Things", panoptic.things), ("Stuff", panoptic.stuff))
    shown = {picture.image_id: picture for picture in report.worst}
    names = [category.name for category in report.categories.categories]
    quality_of = {image.image_id: image for image in report.images}
    told = ("run_folder", "step", "models", "split", "device", "precision")
    return Report(
        title=title,
        summary=(
            f"{report.num_images} images, the worst first. Missed segments have a red rim in the truth, false ones an"
            " orange rim in the prediction: no segment of the other one has the class and more than half of the union."
        ),
        facts={
            "data": report.categories.name,
            **{key: _words(report.provenance[key]) for key in told if key in report.provenance},
        },
        groups=[QualityRow(name=name, pq=g.pq, sq=g.sq, rq=g.rq, num_classes=g.num_classes) for name, g in groups],
        scores={name: value for name, value in report.values().items() if name[:2] not in ("PQ", "SQ", "RQ")},
        classes=[QualityRow(name=row.name, pq=row.pq, sq=row.sq, rq=row.rq) for row in panoptic.per_class],
        legend=[(category.name, category.color) for category in report.categories.categories],
        confusion=Confusion(names=names, pixels=semantic.confusion),
        rows=[
            ImageRow(
                name=image.image_id,
                pq=image.pq,
                matched=image.true_positives,
                missed=len(image.missed),
                false=len(image.false),
                is_shown=image.image_id in shown,
            )
            for image in report.images
        ],
        images=[
            ReportImage(
                title=_title(quality_of[picture.image_id]),
                image=picture.image,
                prediction=picture.prediction,
                truth=picture.truth,
                missed=quality_of[picture.image_id].missed,
                false=quality_of[picture.image_id].false,
            )
            for picture in report.worst
        ],
    )


def _title(image: ImageQuality) -> str:
    pq = "no PQ" if image.pq is None else f"PQ {100 * image.pq:.1f}"
    return f"{image.image_id}: {pq}, {len(image.missed)} missed, {len(image.false)} false"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
