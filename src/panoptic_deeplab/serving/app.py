"""The paths of the service, on FastAPI: `make_app`."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import fastapi
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from panoptic_deeplab import __version__
from panoptic_deeplab.errors import ConfigError, did_you_mean
from panoptic_deeplab.serving.envelope import Envelope
from panoptic_deeplab.serving.jobs import Job
from panoptic_deeplab.serving.options import ModelInfo, Options, Query
from panoptic_deeplab.serving.pool import Pool
from panoptic_deeplab.serving.problems import MEDIA_TYPE, Problem
from panoptic_deeplab.serving.prometheus import Metrics
from panoptic_deeplab.serving.settings import Settings

PAGE = Path(__file__).parent / "page"

_BODY = {
    "required": True,
    "content": {
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
        },
    },
}
_EXAMPLE = {
    "image_id": "0-0-5f3a9c2e1b7d4806",
    "model": "street",
    "postprocess": {"center_threshold": 0.1, "nms_kernel": 7, "top_k": 200, "stuff_area_limit": 2048},
    "test_time_augmentation": {"enabled": True, "scales": [1.0], "flip": False},
    "min_score": 0.0,
    "size": [2, 3],
    "segments": [
        {
            "id": 1,
            "category_id": 8,
            "name": "car",
            "isthing": True,
            "area": 4,
            "bbox": [1, 0, 2, 2],
            "iscrowd": False,
            "score": 0.93,
            "png_id": 9306254,
            "segmentation": {"size": [2, 3], "counts": "24"},
        }
    ],
}
_PROBLEM = {
    "description": "A problem, RFC 9457.",
    "content": {
        MEDIA_TYPE: {
            "example": {
                "type": "about:blank",
                "title": "Unknown image format",
                "status": 415,
                "detail": "The image is no image that is read here. Expected a complete PNG, JPEG, WebP or TIFF file;"
                " convert it.",
                "request_id": "9f1c2b3a4d5e6f70",
            }
        }
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What `output` names.",
        "content": {"application/json": {"example": _EXAMPLE}, "image/png": {}, "text/csv": {}},
    },
    **dict.fromkeys((400, 401, 404, 408, 413, 415, 422, 503), _PROBLEM),
}


def make_app(settings: Settings, pool: Pool, metrics: Metrics) -> FastAPI:
    """The service around a pool that is loaded.

    Args:
        settings: limits, token, origins.
        pool: answers; its work begins and ends with the app's lifespan.
        metrics: those of the pool.
    """
    service = _Service(settings, pool, metrics)
    app = FastAPI(
        title="Panoptic segmentation",
        version=__version__,
        description="Panoptic-DeepLab over HTTP.",
        docs_url=None,  # its page loads programs from elsewhere
        redoc_url=None,
        lifespan=service.lifespan,
    )
    for kind in (Problem, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _as_problem)
    guarded: Any = {"dependencies": [fastapi.Depends(service.check_token)]}
    app.add_api_route(
        "/v1/panoptic",
        service.predict,
        methods=["POST"],
        responses=_RESPONSES,
        response_class=Response,
        openapi_extra={"requestBody": _BODY},
        summary="Segment an image",
        **guarded,
    )
    app.add_api_route(
        "/v1/panoptic/{image_id}",
        service.predict_again,
        methods=["GET"],
        responses=_RESPONSES,
        response_class=Response,
        summary="Segment an image again that the service keeps, with other settings",
        **guarded,
    )
    app.add_api_route("/v1/models", service.models, methods=["GET"], summary="Models and limits", **guarded)
    app.add_api_route("/metrics", service.metrics, methods=["GET"], response_class=Response, **guarded)
    app.add_api_route("/healthz", service.healthz, methods=["GET"], summary="Whether the process lives")
    app.add_api_route("/readyz", service.readyz, methods=["GET"], summary="Whether a worker takes requests")
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "X-Image-Id", "Retry-After"],
        )
    app.add_middleware(Envelope, metrics=metrics, max_drained=4 * settings.max_bytes)
    return app


class _Service:
    """What the paths do."""

    def __init__(self, settings: Settings, pool: Pool, metrics: Metrics) -> None:
        self._settings = settings
        self._pool = pool
        self._metrics = metrics
        self._inside = 0
        self._stops = False

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._pool.start()
        yield
        self._stops = True
        await self._pool.stop()
        await asyncio.to_thread(self._pool.close)  # uvicorn ends the process by its signal, before anything else runs

    async def check_token(self, request: Request) -> None:
        token = self._settings.token
        given = request.headers.get("authorization", "").partition(" ")[2]
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise Problem(
                401,
                "This service wants a token. Send it in the header: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    async def predict(self, request: Request, query: Annotated[Query, fastapi.Query()]) -> Response:  # type: ignore[valid-type]
        info = self._model(query.model)  # type: ignore[attr-defined]
        options = self._options(request, query, info)
        with self._a_place_inside():
            deadline = request.state.start + self._settings.max_seconds
            image = await self._image(request, deadline)
            return await self._answer(request, Job(info.name, options, image), deadline)

    async def predict_again(
        self,
        request: Request,
        image_id: str,
        query: Annotated[Query, fastapi.Query()],  # type: ignore[valid-type]
    ) -> Response:
        worker, model = self._place(image_id)
        info = self._model(query.model or model)  # type: ignore[attr-defined]
        if info.name != model:
            raise Problem(422, f"The image was segmented by the model {model!r}. Send it again for another one.")
        options = self._options(request, query, info)
        with self._a_place_inside():
            deadline = request.state.start + self._settings.max_seconds
            job = Job(model, options, None, image_id)
            return await self._answer(request, job, deadline, worker=worker)

    async def models(self) -> dict[str, Any]:
        limits = ("max_bytes", "max_pixels", "max_seconds", "queue", "concurrency", "workers")
        return {
            "models": [info.document() for info in self._pool.models.values()],
            "limits": {name: getattr(self._settings, name) for name in limits},
            "version": __version__,
        }

    async def metrics(self) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def healthz(self) -> dict[str, str]:
        return {"status": "alive"}

    async def readyz(self) -> dict[str, Any]:
        if self._stops or not self._pool.workers_ready:
            raise Problem(503, "No worker is ready.", {"Retry-After": "5"})
        return {"status": "ready", "workers": self._pool.workers_ready}

    def _model(self, name: str | None) -> ModelInfo:
        models = self._pool.models
        if name is not None and name not in models:
            raise Problem(404, f"There is no model {name!r}. {did_you_mean(name, models)}")
        return models[name] if name is not None else next(iter(models.values()))

    def _options(self, request: Request, query: Any, info: ModelInfo) -> Options:
        wants_picture = request.headers.get("accept", "").split(";")[0].strip() == "image/png"
        try:
            options: Options = query.options(info, default="overlay" if wants_picture else "json")
        except ConfigError as error:
            raise Problem(422, str(error)) from error
        return options

    def _place(self, image_id: str) -> tuple[int, str]:
        """The worker that has an image, and its model."""
        worker, model, _ = (*image_id.split("-"), "", "")[:3]
        names = list(self._pool.models)
        if not (worker.isdecimal() and model.isdecimal()) or int(model) >= len(names):
            raise Problem(404, "There is no image with this id. Send it again.")
        if int(worker) >= self._settings.workers:
            raise Problem(404, "There is no image with this id. Send it again.")
        return int(worker), names[int(model)]

    @contextmanager
    def _a_place_inside(self) -> Iterator[None]:
        if self._inside >= self._settings.concurrency:
            raise Problem(503, "The service is full. Come again later.", {"Retry-After": "1"})
        self._inside += 1
        self._metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.inside.set(self._inside)

    async def _image(self, request: Request, deadline: float) -> bytes:
        """The file in the body, raw or as the one part of a form."""
        start = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline - start)):
                body = await self._body(request)
        except TimeoutError as error:
            raise Problem(408, f"The body was not here after {self._settings.max_seconds:g} seconds.") from error
        except ClientDisconnect as error:
            raise Problem(499, "The client has left before its image was here.") from error
        self._metrics.stage_seconds.labels("receive").observe(time.monotonic() - start)
        self._metrics.body_bytes.observe(len(body))
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            body = await _file_in_form(request, body)
        if not body:
            raise Problem(400, "The body is empty. Send an image file, raw or as the part `image` of a form.")
        return body

    async def _body(self, request: Request) -> bytes:
        most = self._settings.max_bytes
        large = Problem(413, f"The body is larger than {most} bytes. Send a smaller file.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise large
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise large
        return bytes(body)

    async def _answer(self, request: Request, job: Job, deadline: float, *, worker: int | None = None) -> Response:
        async def left() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        reply = await self._pool.answer(job, deadline=deadline, left=left, worker=worker)
        for stage, seconds in reply.seconds.items():
            self._metrics.stage_seconds.labels(stage).observe(seconds)
        self._metrics.image_pixels.observe(reply.num_pixels)
        self._metrics.passes.inc(reply.passes)
        stages = {stage: round(seconds, 4) for stage, seconds in reply.seconds.items()}
        request.state.fields.update(model=job.model, output=job.options.output, pixels=reply.num_pixels, stages=stages)
        timing = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in reply.seconds.items())
        headers = {"X-Image-Id": reply.image_id, "Server-Timing": timing, "Cache-Control": "no-store"}
        return Response(reply.body, media_type=reply.media_type, headers=headers)


async def _file_in_form(request: Request, body: bytes) -> bytes:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=1, max_fields=0).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError) as error:
        raise Problem(400, f"This is no form with one file: {error}. Send the image as the part `image`.") from error
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return await files[0].read() if files else b""
    finally:
        await form.close()


async def _as_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        error = Problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", headers)
    elif isinstance(error, RequestValidationError):
        error = Problem(422, " ".join(_sentence(entry) for entry in error.errors()))
    assert isinstance(error, Problem)
    document = error.document(request.state.request_id)
    request.state.fields["detail"] = error.detail
    return JSONResponse(document, error.status, error.headers, media_type=MEDIA_TYPE)


def _sentence(entry: dict[str, Any]) -> str:
    name = str(next((part for part in reversed(entry["loc"]) if isinstance(part, str)), "value"))
    if entry["type"] == "extra_forbidden":
        return f"unknown option `{name}`. {did_you_mean(name, Query.model_fields)}"
    return f"`{name}`: {entry['msg']}. Got {str(entry.get('input'))[:80]!r} instead."
