"""Exported files answer as PyTorch does, in every format, for images and batches of any size."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import panoptic_deeplab
from panoptic_deeplab.cli import main
from panoptic_deeplab.config import InputConfig, PostprocessConfig, TestTimeAugmentationConfig
from panoptic_deeplab.data.formats.synthetic import SyntheticSource
from panoptic_deeplab.errors import ConfigError, ExportError
from panoptic_deeplab.export.agreement import Agreement, measure_agreement
from panoptic_deeplab.export.exporter import check_file, export_model
from panoptic_deeplab.export.graph.whole import PanopticOutputs
from panoptic_deeplab.export.writers import openvino_model
from panoptic_deeplab.inference.engines.pipeline_engine import PipelineEngine
from panoptic_deeplab.inference.exported.model_file import INFO_KEY, read_model_file_info
from panoptic_deeplab.inference.exported.runtimes import open_model_file
from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.panoptic_result import PanopticResult, Segment

SUFFIXES = (".onnx", ".xml", ".pt2")

SIZES = ((90, 140), (97, 129), (33, 65), (2, 70))
"""With padding on both axes, on none, and images smaller than one window of the heatmap."""


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    scene = SyntheticSource(1, seed=5, size=(100, 150))[0].image
    return [np.ascontiguousarray(scene[-height:, :width]) for height, width in SIZES]


def test_network(folder: Path, exported: Path, images: list[np.ndarray]) -> None:
    ours = PanopticPredictor.from_pretrained(folder, device="cpu")
    assert sum(len(ours.predict(image).instances()) for image in images) > 4
    for suffix in SUFFIXES:  # one test, so that the files are written while nobody else waits for them
        agreement = measure_agreement(ours, PanopticPredictor.from_pretrained(exported / f"network{suffix}"), images)
        assert agreement.differing_pixels <= 1e-4 * agreement.num_pixels
        assert agreement.score_difference < 1e-4
        assert set(agreement.map_differences) == {"semantic_logits", "center_heatmap", "offset"}
        assert max(agreement.map_differences.values()) < 1e-4


def test_whole_pipeline(folder: Path, exported: Path, images: list[np.ndarray]) -> None:
    ours = PanopticPredictor.from_pretrained(folder, device="cpu")
    assert sum(ours.explain(image)[1].joined_centers.count for image in images) > 3
    for suffix in SUFFIXES:
        theirs = PanopticPredictor.from_pretrained(exported / f"panoptic{suffix}")
        assert isinstance(theirs.engine, PipelineEngine)
        agreement = measure_agreement(ours, theirs, images)
        assert agreement.differing_pixels <= 1e-4 * agreement.num_pixels
        assert agreement.score_difference < 1e-4
        for image in images:
            assert without_scores(theirs.predict(image)) == without_scores(ours.predict(image))


def without_scores(result: PanopticResult) -> list[Segment]:
    return [replace(segment, score=None, objectness_score=None) for segment in result.segments_info]


def test_batches(exported: Path) -> None:
    images = [SyntheticSource(3, seed=6, size=(48, 80))[index].image for index in range(3)]
    for suffix in SUFFIXES:
        predictor = PanopticPredictor.from_pretrained(exported / f"panoptic{suffix}")
        for alone, together in zip(
            predictor.predict(images), predictor.predict_iter(images, batch_size=3), strict=True
        ):
            assert np.array_equal(alone.panoptic_map, together.panoptic_map)
            assert without_scores(alone) == without_scores(together)


def test_results_have_the_size_of_the_image(folder: Path, exported: Path) -> None:
    image = SyntheticSource(1, seed=5, size=(90, 140))[0].image
    half = InputConfig(longest_side=70)
    ours = PanopticPredictor.from_pretrained(folder, device="cpu", input_config=half).predict(image)
    theirs = PanopticPredictor.from_pretrained(exported / "panoptic.onnx", input_config=half).predict(image)
    assert theirs.size == (90, 140)
    assert np.mean(ours.panoptic_map == theirs.panoptic_map) > 0.9999


def test_files_describe_themselves(folder: Path, exported: Path) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    for kind in ("network", "panoptic"):
        for suffix in SUFFIXES:
            info = read_model_file_info(exported / f"{kind}{suffix}")
            assert (info.kind, info.input_size, info.precision) == (kind, None, "float32")
            assert (info.categories, info.config) == (predictor.categories, predictor.config)
            assert info.version == panoptic_deeplab.__version__


def test_onnx_has_standard_operators_and_no_trace_of_this_machine(exported: Path) -> None:
    import onnx

    for kind in ("network", "panoptic"):
        model = onnx.load(exported / f"{kind}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
        assert not model.functions
        text = (exported / f"{kind}.onnx").read_bytes()
        assert b"site-packages" not in text
        assert str(Path(panoptic_deeplab.__file__).parent).encode() not in text
    assert [output.name for output in model.graph.output] == list(PanopticOutputs._fields)


def test_name_of_the_file_has_to_say_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    with pytest.raises(ExportError, match=r"must end in \.onnx .* or choose --format torch\."):
        export_model(predictor, tmp_path / "model.pt2", format="onnx")
    for size in ((1, 65), (65, 20000)):
        with pytest.raises(ExportError, match=rf"from 2 x 2 to 16384 x 16384 pixels\. Got {size[0]} x {size[1]}"):
            export_model(predictor, tmp_path / "model.onnx", format="onnx", size=size)
    with pytest.raises(ExportError, match="format torch"):
        export_model(predictor, tmp_path / "model.onnx", format="onnx", size=(65, 65), compiled=True)


def test_an_exported_file_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    for name in ("network.onnx", "panoptic.xml"):
        predictor = PanopticPredictor.from_pretrained(exported / name)
        with pytest.raises(ExportError, match="Got an exported file; name the model folder"):
            export_model(predictor, tmp_path / "model.pt2", format="torch")


def test_a_pool_with_a_window_needs_a_size(folder: Path, tmp_path: Path) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    predictor.engine.config = replace(predictor.config, model=replace(predictor.config.model, image_pool_size=(33, 33)))
    with pytest.raises(ExportError, match="--size HEIGHT WIDTH"):
        export_model(predictor, tmp_path / "model.onnx", format="onnx")


def test_a_file_that_disagrees_is_not_written(
    folder: Path, tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")
    with torch.no_grad():
        predictor.engine.model.semantic_head.predict.weight.neg_()

    def write_another_model(program: object, path: Path, info: object) -> None:
        shutil.copy(exported / "network.pt2", path)

    monkeypatch.setattr("panoptic_deeplab.export.exporter.save_torch", write_another_model)
    monkeypatch.setattr("panoptic_deeplab.export.exporter.trace", lambda *args, **options: None)
    with pytest.raises(ExportError, match=r"^model\.pt2 was not written, since it does not compute"):
        export_model(predictor, tmp_path / "model.pt2", format="torch")
    assert list(tmp_path.iterdir()) == []


AGREEMENT = Agreement(num_images=1, differing_pixels=0, num_pixels=1, score_difference=0)


@pytest.mark.parametrize("error", [ExportError, KeyboardInterrupt])
def test_an_earlier_file_stays_until_a_new_one_is_checked(
    folder: Path, tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu")

    def write(model: object, path: Path, info: object) -> None:
        for suffix in (".xml", ".bin"):
            shutil.copy(exported / f"network{suffix}", path.with_suffix(suffix))

    def fail(*arguments: object, **options: object) -> Agreement:
        raise error

    module = "panoptic_deeplab.export.exporter"
    for name in ("trace", "onnx_model", "openvino_model"):
        monkeypatch.setattr(f"{module}.{name}", lambda *arguments, **options: None)
    monkeypatch.setattr(f"{module}.save_openvino", write)
    monkeypatch.setattr(f"{module}.check_file", fail)
    earlier = {"model.xml": b"graph", "model.bin": b"weights"}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        export_model(predictor, tmp_path / "model.xml", format="openvino")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier

    monkeypatch.setattr(f"{module}.check_file", lambda *arguments, **options: AGREEMENT)
    report = export_model(predictor, tmp_path / "model.xml", format="openvino")
    assert report.files == (tmp_path / "model.xml", tmp_path / "model.bin")
    assert {path.suffix: path.read_bytes() for path in tmp_path.iterdir()} == {
        suffix: (exported / f"network{suffix}").read_bytes() for suffix in (".xml", ".bin")
    }


@pytest.mark.parametrize("compiled", [False, True])
def test_a_file_is_checked_without_averages(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    averages = TestTimeAugmentationConfig(scales=(1.0, 1.5, 2.0), flip=True)
    predictor = PanopticPredictor.from_pretrained(folder, device="cpu", test_time_augmentation=averages)
    path = tmp_path / "network.pt2"
    with zipfile.ZipFile(exported / path.name) as source, zipfile.ZipFile(path, "w") as target:
        info = replace(read_model_file_info(exported / path.name), config=predictor.config)
        for name in source.namelist():
            target.writestr(name, info.to_json() if name.endswith(f"/extra/{INFO_KEY}") else source.read(name))
    assert read_model_file_info(path).config.test_time_augmentation == averages
    load = partial(open_model_file, device="cpu")
    monkeypatch.setattr("panoptic_deeplab.export.exporter.load_compiled", load)

    agreement = check_file(predictor, path, size=None, compiled=compiled)
    assert agreement.differing_pixels <= 1e-4 * agreement.num_pixels
    assert set(agreement.map_differences) == {"semantic_logits", "center_heatmap", "offset"}


def test_an_error_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_model(model: bytes) -> None:
        raise RuntimeError

    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino, "Core", lambda: SimpleNamespace(read_model=read_model))
    with pytest.raises(ExportError, match=r"OpenVINO cannot read the model \(RuntimeError\)"):
        openvino_model(SimpleNamespace(SerializeToString=lambda: b""))


def test_what_is_fixed_in_a_file_cannot_be_set(exported: Path) -> None:
    path = exported / "panoptic.onnx"
    for options, message in (
        ({"postprocess": PostprocessConfig(top_k=7)}, "`postprocess` settings are fixed"),
        ({"input_config": InputConfig(pixel_mean=(0.5, 0.5, 0.5))}, "are fixed inside"),
        ({"test_time_augmentation": TestTimeAugmentationConfig(flip=True)}, "holds the whole pipeline"),
        ({"output_stride": 8}, "`output_stride` is 16 inside"),
        ({"precision": "bfloat16"}, "`precision` must be float32"),
        ({"device": "tpu"}, "`device` must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            PanopticPredictor.from_pretrained(path, **options)
    with pytest.raises(ConfigError, match="gives no maps"):
        PanopticPredictor.from_pretrained(path).predict_with_maps(np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match="does not say what it drops"):
        PanopticPredictor.from_pretrained(path).explain(np.zeros((40, 40, 3), np.uint8))


def test_a_network_takes_other_settings(folder: Path, exported: Path) -> None:
    image = SyntheticSource(1, seed=5, size=(90, 140))[0].image
    options = {
        "postprocess": PostprocessConfig(top_k=1, stuff_area_limit=0),
        "test_time_augmentation": TestTimeAugmentationConfig(flip=True),
    }
    ours = PanopticPredictor.from_pretrained(folder, device="cpu", **options).predict(image)
    theirs = PanopticPredictor.from_pretrained(exported / "network.onnx", **options).predict(image)
    assert len(ours.instances()) == 1
    assert np.mean(ours.panoptic_map == theirs.panoptic_map) > 0.9999


def test_verbs_take_files(exported: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(SyntheticSource(1, seed=5, size=(90, 140))[0].image).save(photo)
    model = exported / "panoptic.onnx"
    (row,) = run("predict", photo, "--model", model)["images"]
    expected = PanopticPredictor.from_pretrained(model).predict(photo)
    assert [s["area"] for s in row["segments_info"]] == [s.area for s in expected.segments_info]
    report = run("evaluate", "--model", exported / "network.xml", "--split", "val:1")
    assert report["num_images"] == 1
    assert report["provenance"]["models"] == [str(exported / "network.xml")]


def test_the_runtime_of_a_file_has_devices_of_its_own(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "--model", str(exported / "network.onnx"), "--split", "val:1", "--device", "tensorrt"])
    assert "the installed ONNX Runtime has only" in capsys.readouterr().err


def test_export_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "street.pt2"
    written = run("export", "--model", folder, "--output", path, "--format", "torch", "--size", 65, 97)
    assert written["files"] == [str(path)]
    assert (written["kind"], written["precision"], written["input_size"]) == ("network", "float32", [65, 97])
    assert written["agreement"]["differing_pixels"] <= 1e-4 * written["agreement"]["num_pixels"]

    predictor = PanopticPredictor.from_pretrained(path)
    assert predictor.predict(np.zeros((60, 95, 3), np.uint8)).size == (60, 95)  # padded to 65 x 97
    with pytest.raises(ConfigError, match="65 x 97 pixels only"):
        predictor.predict(np.zeros((66, 97, 3), np.uint8))


def test_client_in_python(exported: Path, tmp_path: Path) -> None:
    photo, overlay = tmp_path / "photo.png", tmp_path / "overlay.png"
    Image.fromarray(SyntheticSource(1, seed=5, size=(90, 140))[0].image).save(photo)
    script, model = Path(__file__).parents[2] / "examples" / "onnx_client.py", exported / "panoptic.onnx"
    command = [sys.executable, script, model, photo, "--overlay", overlay]
    segments = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    expected = PanopticPredictor.from_pretrained(model).predict(photo)
    assert len(segments) > 1
    assert [(s["id"], s["name"], s["area"], tuple(s["bbox"])) for s in segments] == [
        (s.id, s.name, s.area, s.bbox) for s in expected.segments_info
    ]
    with Image.open(overlay) as image:
        assert image.size == (140, 90)
    assert "panoptic_deeplab" not in [line.split()[1] for line in script.read_text().splitlines() if "import" in line]


def run(*arguments: object) -> dict[str, Any]:
    """One command in a process of its own; its JSON document."""
    command = [sys.executable, "-m", "panoptic_deeplab", *map(str, arguments), "--json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return document
