from dataclasses import replace

from panoptic_deeplab.config import EvaluationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.evaluation.error_page import error_page
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.results.panoptic_result import PanopticResult
from panoptic_deeplab.visualize.report import write_report

SOURCE = SyntheticSource(3, seed=0, size=(48, 64))


class Forgetful:
    """Knows the truth, and forgets all things of the second image."""

    categories = SOURCE.categories

    def __init__(self) -> None:
        self.number = -1

    def predict(self, image: object) -> PanopticResult:
        self.number += 1
        truth = SOURCE[self.number].truth(SOURCE.categories)
        segments = [s for s in truth.segments_info if not s.iscrowd and not (self.number == 1 and s.isthing)]
        kept = [s.id for s in segments]
        panoptic_map = truth.panoptic_map * [[value in kept for value in row] for row in truth.panoptic_map.tolist()]
        scored = [replace(segment, score=1.0) for segment in segments]
        return replace(truth, panoptic_map=panoptic_map.astype("int32"), segments_info=scored)


def test_all_images_are_listed_and_the_worst_are_shown(tmp_path):
    config = EvaluationConfig(num_pictures=2)
    report = evaluate(Forgetful(), SOURCE, config=config, provenance={"split": "val", "models": ["a", "b"]})
    page = error_page(report)
    worst = SOURCE[1].image_id
    assert page.rows[0].name == worst
    assert page.rows[0].missed == len(page.images[0].missed) > 0
    assert [row.is_shown for row in page.rows] == [True, True, False]
    assert page.images[0].title.startswith(f"{worst}: PQ ")
    assert page.facts == {"data": SOURCE.categories.name, "models": "a, b", "split": "val"}
    assert "mIoU" in page.scores
    assert "PQ_thing" not in page.scores
    assert len(page.legend) == len(page.confusion.names) == len(page.confusion.pixels) == len(SOURCE.categories)
    text = write_report(tmp_path / "report.html", page).read_text("utf-8")
    assert text.index(f"{worst}: PQ") < text.index(page.images[1].title)


def test_a_report_without_pictures_is_a_page_too(tmp_path):
    report = evaluate(Forgetful(), SOURCE, config=EvaluationConfig(num_pictures=0))
    text = write_report(tmp_path / "report.html", error_page(report)).read_text("utf-8")
    assert "<figure>" not in text
    assert SOURCE[1].image_id in text
