"""What `/v1/panoptic` answers is what the predictor says."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from panoptic_deeplab.inference.predictor import PanopticPredictor
from panoptic_deeplab.results.coco import to_coco_panoptic, to_rles
from panoptic_deeplab.results.conversions import to_geojson, to_labels, to_polygons
from panoptic_deeplab.results.measurements import table_csv, to_table
from panoptic_deeplab.visualize.colors import visible_ids
from panoptic_deeplab.visualize.draw import draw_panoptic, draw_semantic
from panoptic_deeplab.visualize.maps import draw_heatmap, draw_instances, draw_offset, thing_pixels

from .conftest import encoded, map_of, picture

Serve = Callable[..., Any]


def test_json_is_the_result(serve: Serve, predictor: PanopticPredictor, pixels: np.ndarray, photo: bytes) -> None:
    expected = predictor.predict(pixels)

    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        form = {"image": ("photo.png", photo, "image/png")}
        return [
            await client.post("/v1/panoptic", content=photo),
            await client.post("/v1/panoptic", files=form),
            await client.post("/v1/panoptic?masks=png", content=photo),
            await client.post("/v1/panoptic?masks=none&model=tiny", content=encoded(pixels, "TIFF")),
            await client.post("/v1/panoptic?masks=none", content=encoded(pixels, "WEBP", lossless=True)),
            await client.post("/v1/panoptic?masks=none", content=encoded(pixels, "JPEG")),
        ]

    raw, form, png, tiff, webp, jpeg = answers = serve(calls)
    assert [answer.status_code for answer in answers] == [200] * 6
    rles = to_rles(expected.panoptic_map, [s.id for s in expected.segments_info])
    plain = [{**asdict(s), "bbox": list(s.bbox)} for s in expected.segments_info]
    assert len(plain) > 3
    for segment, png_id, rle in zip(plain, visible_ids(expected), rles, strict=True):
        segment.update(png_id=png_id, segmentation=rle)
    assert raw.json()["segments"] == plain
    assert raw.json()["size"] == [90, 140]
    assert form.json()["segments"] == raw.json()["segments"]
    for segment in plain:
        del segment["segmentation"]
    assert tiff.json()["segments"] == webp.json()["segments"] == plain
    assert jpeg.json()["segments"]
    assert np.array_equal(map_of(png.json()), expected.panoptic_map)


def test_pictures_are_those_of_the_library(
    serve: Serve, predictor: PanopticPredictor, pixels: np.ndarray, photo: bytes
) -> None:
    result, maps = predictor.predict_with_maps(pixels)
    assert maps.center_heatmap is not None
    assert maps.offset is not None
    assert result.semantic_map is not None
    expected: dict[str, Image.Image] = {
        "overlay": draw_panoptic(pixels, result),
        "overlay&alpha=0.2&labels=false": draw_panoptic(pixels, result, alpha=0.2, labels=False),
        "semantic": draw_semantic(result.semantic_map, result.categories),
        "instances": draw_instances(result),
        "heatmap": draw_heatmap(pixels, maps.center_heatmap),
        "offset": draw_offset(maps.offset, mask=thing_pixels(result)),
    }

    async def calls(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
        answers = {name: await client.post(f"/v1/panoptic?output={name}", content=photo) for name in expected}
        answers["accept"] = await client.post("/v1/panoptic", content=photo, headers={"Accept": "image/png"})
        return answers

    answers = serve(calls)
    for name, drawn in [*expected.items(), ("accept", expected["overlay"])]:
        assert answers[name].headers["content-type"] == "image/png"
        assert np.array_equal(picture(answers[name].content), np.asarray(drawn)), name


def test_files_are_those_of_the_library(
    serve: Serve, predictor: PanopticPredictor, pixels: np.ndarray, photo: bytes
) -> None:
    result = predictor.predict(pixels)

    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        names = ("labels&things_only=true", "table", "geojson", "panoptic", "json&masks=polygons")
        return [await client.post(f"/v1/panoptic?output={name}", content=photo) for name in names]

    labels, table, geojson, panoptic, polygons = serve(calls)
    assert np.array_equal(picture(labels.content), to_labels(result, things_only=True))
    assert (table.text, table.headers["content-type"]) == (table_csv(to_table(result)), "text/csv; charset=utf-8")
    assert geojson.json() == to_geojson(result)
    expected = to_coco_panoptic(result, 0, "", png_ids=visible_ids(result))[1]
    assert np.array_equal(picture(panoptic.content), expected)
    shapes = [to_polygons(result.panoptic_map == s.id) for s in result.segments_info]
    assert [s["segmentation"] for s in polygons.json()["segments"]] == shapes


def test_other_thresholds_need_no_new_pass(serve: Serve, model_folder: Any, pixels: np.ndarray, photo: bytes) -> None:
    settings = {"center_threshold": 0.05, "nms_kernel": 3, "top_k": 7, "stuff_area_limit": 0}
    changed = PanopticPredictor.from_pretrained(model_folder, device="cpu", postprocess=settings).predict(pixels)

    async def calls(client: httpx.AsyncClient) -> tuple[Any, Any, str]:
        first = (await client.post("/v1/panoptic", content=photo)).json()
        again = await client.get(f"/v1/panoptic/{first['image_id']}", params={**settings, "masks": "png"})
        return first, again.json(), (await client.get("/metrics")).text

    first, again, metrics = serve(calls)
    assert np.array_equal(map_of(again), changed.panoptic_map)
    assert settings.items() <= again["postprocess"].items()
    assert [s["id"] for s in first["segments"]] != [s["id"] for s in again["segments"]]
    assert "panoptic_network_passes_total 1.0" in metrics


def test_views_are_averaged(serve: Serve, model_folder: Any, pixels: np.ndarray, photo: bytes) -> None:
    views: dict[str, Any] = {"scales": [0.5, 1.0], "flip": True}
    averaged = PanopticPredictor.from_pretrained(model_folder, device="cpu", test_time_augmentation=views)
    expected = averaged.predict(pixels)
    query = "scales=0.5&scales=1&flip=true&masks=png"

    async def calls(client: httpx.AsyncClient) -> list[Any]:
        sent = (await client.post(f"/v1/panoptic?{query}", content=photo)).json()
        plain = (await client.get(f"/v1/panoptic/{sent['image_id']}?masks=png")).json()
        first = (await client.post("/v1/panoptic?masks=png", content=photo)).json()
        return [sent, (await client.get(f"/v1/panoptic/{first['image_id']}?{query}")).json(), plain, first]

    sent, again, plain, first = serve(calls)
    for answer in (sent, again):
        assert np.array_equal(map_of(answer), expected.panoptic_map)
    assert plain["panoptic_png"] == first["panoptic_png"] != sent["panoptic_png"]


def test_weak_things_become_void(serve: Serve, predictor: PanopticPredictor, pixels: np.ndarray, photo: bytes) -> None:
    result = predictor.predict(pixels)
    scores = sorted(s.score or 0.0 for s in result.instances())
    least = scores[len(scores) // 2]

    async def calls(client: httpx.AsyncClient) -> Any:
        return (await client.post(f"/v1/panoptic?masks=png&min_score={least}", content=photo)).json()

    answer = serve(calls)
    kept = [s.id for s in result.segments_info if not s.isthing or (s.score or 0.0) >= least]
    assert [s["id"] for s in answer["segments"]] == kept
    ids = map_of(answer)
    assert np.array_equal(ids, np.where(np.isin(result.panoptic_map, kept), result.panoptic_map, 0))


@pytest.mark.parametrize("workers", [2])
def test_an_image_is_asked_for_where_it_is_kept(serve: Serve, photo: bytes, workers: int) -> None:
    async def calls(client: httpx.AsyncClient) -> tuple[list[str], list[int]]:
        ids = [(await client.post("/v1/panoptic?masks=none", content=photo)).json()["image_id"] for _ in range(4)]
        return ids, [(await client.get(f"/v1/panoptic/{id_}?masks=none")).status_code for id_ in ids]

    assert serve(calls, workers=workers)[1] == [200] * 4


def test_images_beyond_what_is_kept_are_gone(serve: Serve, photo: bytes) -> None:
    async def calls(client: httpx.AsyncClient) -> list[int]:
        ids = [(await client.post("/v1/panoptic?masks=none", content=photo)).json()["image_id"] for _ in range(6)]
        answers = [await client.get(f"/v1/panoptic/{id_}?masks=none") for id_ in [*ids, "0-0-0", "x", "9-9-9"]]
        return [answer.status_code for answer in answers]

    codes = serve(calls, kept_bytes=600_000)
    assert codes[0] == 404
    assert codes[5:] == [200, 404, 404, 404]


def test_a_batch_answers_what_single_images_do(serve: Serve, photo: bytes, pixels: np.ndarray) -> None:
    import asyncio

    other = encoded(pixels[:60])

    async def calls(client: httpx.AsyncClient) -> tuple[list[httpx.Response], str]:
        bodies = [photo, other, b"no image", photo, photo, other]
        answers = await asyncio.gather(*(client.post("/v1/panoptic?masks=none", content=body) for body in bodies))
        return answers, (await client.get("/metrics")).text

    answers, metrics = serve(calls, batch_size=4)
    assert [answer.status_code for answer in answers] == [200, 200, 415, 200, 200, 200]
    areas = [[s["area"] for s in answer.json().get("segments", [])] for answer in answers]
    assert areas[0] == areas[3] == areas[4]
    assert areas[1] == areas[5] != areas[0]
    assert "panoptic_network_passes_total 5.0" in metrics
    count = next(line for line in metrics.splitlines() if line.startswith("panoptic_batch_images_count"))
    assert float(count.split()[1]) < 6
