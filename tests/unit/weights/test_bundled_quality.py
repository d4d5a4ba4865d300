"""A floor under the quality of the models in the package, on a few of their images that were not trained on.

A change of code that breaks a model, or of what is done to its images, falls below it.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from panoptic_deeplab.data.samples import NUCLEI
from panoptic_deeplab.data.sources import open_source
from panoptic_deeplab.evaluation.evaluate import evaluate
from panoptic_deeplab.inference.predictor import PanopticPredictor


@pytest.mark.parametrize(("name", "root", "split", "floor"), [("nuclei", NUCLEI, "dev", 0.63)])
def test_models_in_the_package_are_as_good_as_they_were(name: str, root: Path, split: str, floor: float) -> None:
    predictor = PanopticPredictor.from_pretrained(name, device="cpu")
    data = replace(predictor.config.data, format="folder", root=str(root), categories=predictor.categories.name)
    report = evaluate(predictor, open_source(data, split), config=predictor.config.evaluation)
    assert report.to_json()["panoptic"]["things"]["pq"] > floor  # measured: 0.672
