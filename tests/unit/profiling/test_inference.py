"""A predictor and a training step, measured."""

import json
from dataclasses import replace

import numpy as np
import pytest

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import InputConfig
from panoptic_deeplab.images.prepare import prepare_image
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.model.network import PanopticDeepLab
from panoptic_deeplab.profiling.inference import Subject, measure_inference, untrained_subject, write_picture
from panoptic_deeplab.profiling.paper_speed import paper_rows, paper_setting
from panoptic_deeplab.profiling.report import STAGES, BenchmarkReport
from panoptic_deeplab.profiling.training import measure_training
from panoptic_deeplab.training.environment import describe_environment


@pytest.fixture
def categories():
    return CategoryTable.load("synthetic")


def test_stages_and_whole_of_an_untrained_network(tiny_config, categories, tmp_path):
    config = replace(tiny_config, input=InputConfig(longest_side=65))
    subject = untrained_subject("tiny", config, categories, device="cpu", precision="float32")
    row = measure_inference(subject, write_picture(tmp_path, (48, 96)), batch_size=2, seconds=1e-9)
    assert (row.image_size, row.input_size, row.batch_size) == ((48, 96), (33, 65), 2)
    assert tuple(row.stages) == STAGES
    assert all(timing.runs == 3 and timing.median > 0 for timing in row.stages.values())
    assert row.end_to_end.runs == 3
    assert row.images_per_second == pytest.approx(2 / row.end_to_end.median)
    assert row.drawn_scene
    assert row.peak_process_bytes > 2**20


def test_a_trained_network_has_its_own_maps(tiny_config, categories, tmp_path):
    model = PanopticDeepLab(tiny_config.model, categories.num_classes)
    predictor = PanopticPredictor.from_network(model, categories, tiny_config, device="cpu")
    row = measure_inference(Subject(name="m", predictor=predictor), write_picture(tmp_path, (33, 65)), seconds=1e-9)
    assert not row.drawn_scene


def test_training_of_a_recipe(tiny_config):
    row = measure_training("tiny", tiny_config, device="cpu", seconds=1e-9)
    assert (row.crop_size, row.batch_size, row.step.runs) == ((65, 129), 2, 3)
    assert row.loader_images_per_second > 0
    assert row.step_images_per_second == pytest.approx(2 / row.step.median)


def test_rows_of_table_9():
    rows = paper_rows()
    assert len(rows) == 10
    for row in rows:
        config, categories, image_size = paper_setting(row)
        image = np.zeros((*image_size, 3), np.uint8)
        prepared = prepare_image(image, input_config=config.input, output_stride=16, align_corners=True)
        assert prepared.tensor.shape[1:] == row.paper_size
        assert categories == row.categories


def test_the_report_is_plain_data(tiny_config, categories, tmp_path):
    subject = untrained_subject("tiny", tiny_config, categories, device="cpu", precision="float32")
    row = measure_inference(subject, write_picture(tmp_path, (32, 32)), seconds=1e-9)
    report = BenchmarkReport(environment=describe_environment("cpu"), inference=(row,))
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["inference"][0]["stages"]["network"]["runs"] == 3
    assert document["environment"]["hardware"]["processor"]
    ((_, table),) = report.tables()
    assert [line[0] for line in table][4:13] == list(STAGES)
