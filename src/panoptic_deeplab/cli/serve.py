"""`panoptic-deeplab serve`."""

import os
import socket
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro

from panoptic_deeplab.cli.terminal import say
from panoptic_deeplab.cli.verb import Device, Flag, OptionalFolder, Verb
from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import ConfigError, require

_TOKEN = "PANOPTIC_DEEPLAB_TOKEN"

_OF_FILES = ("models", "host", "port", "static", "site", "runtime", "debug")
"""Options that mean something with --static."""

_SECONDS_FOR_FILES = 30
"""For what is being sent when a signal comes."""


@dataclass(frozen=True, kw_only=True)
class Serve(Verb):
    """Segment images over HTTP, with a web page: POST /v1/panoptic, and / in a browser.

    Ctrl+C and SIGTERM end it after the requests that were accepted. Where the environment variable
    PANOPTIC_DEEPLAB_TOKEN is set, requests must bring it: `Authorization: Bearer TOKEN`. The log on stderr has a line
    of JSON for each request.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL...")]
    """What `predict` takes after --model, or NAME=MODEL to name it. The first one is for requests that name none."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is all of this machine, for everybody who reaches it."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8000
    """0 = any that is free."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that predict, with a copy of the weights each. They share the cores, the queue and the limits."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Threads of each worker; without it, the cores divided by the workers."""
    device: Device = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto` = CUDA where there is one."""
    precision: Precision = "float32"
    """bfloat16 is faster where the hardware has it, and slightly different; float16 is for GPUs."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Images of one size that go through the network together, if they come within 3 ms; without it, 4 where that was
    measured to gain at the start, else 1."""
    max_megabytes: Annotated[float, tyro.conf.arg(metavar="N")] = 20.0
    """Limit of a request's body (1 MB = 1,000,000 bytes)."""
    max_megapixels: Annotated[float, tyro.conf.arg(metavar="N")] = 16.0
    """Limit of an image; the head of the file says its size, before anything is decoded."""
    queue: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Requests that may wait for a worker; further ones get 503 with Retry-After."""
    concurrency: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Requests that may be inside, from the first byte to the answer."""
    max_seconds: Annotated[float, tyro.conf.arg(metavar="N")] = 60.0
    """For a request, from its head to its answer."""
    keep_megabytes: Annotated[float, tyro.conf.arg(metavar="N")] = 256.0
    """For what the network said of recent images, in each worker: so other thresholds need no new pass."""
    cors_origins: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ORIGIN")] = ()
    """Pages of other hosts that may use this service, such as https://example.org; none without it."""
    static: Flag = False
    """Serve files alone: a page that predicts in the visitor's browser, the models, exported with the whole pipeline,
    and onnxruntime-web. This machine then predicts nothing."""
    site: OptionalFolder = None
    """With --static: write the files into this folder, for any web server; without it, into a temporary one."""
    runtime: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """With --static: the archive of onnxruntime-web that `npm pack` made. Needed once; what it is for is kept."""

    def execute(self) -> None:
        """Load the models, and serve until a signal comes."""
        for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
            require(module, extra="serve", purpose="Serving")
        if self.static:
            self._serve_files()
            return
        for name in ("site", "runtime"):
            if getattr(self, name) is not None:
                raise ConfigError(f"`{name}` is for --static, whose page predicts in the browser. Leave it out.")
        from panoptic_deeplab.serving.app import make_app
        from panoptic_deeplab.serving.logs import log_as_json
        from panoptic_deeplab.serving.pool import Pool
        from panoptic_deeplab.serving.prometheus import Metrics
        from panoptic_deeplab.serving.settings import Settings, named_models

        settings = Settings(
            models=named_models(self.models),
            device=self.device,
            precision=self.precision,
            workers=self.workers,
            threads=self.threads,
            batch_size=self.batch_size,
            max_bytes=round(1e6 * self.max_megabytes),
            max_pixels=round(1e6 * self.max_megapixels),
            queue=self.queue,
            concurrency=self.concurrency,
            max_seconds=self.max_seconds,
            kept_bytes=round(1e6 * self.keep_megabytes),
            token=os.environ.get(_TOKEN) or None,
            cors_origins=self.cors_origins,
        )
        listener = self._listener()
        log_as_json()
        metrics = Metrics()
        pool = Pool(settings, metrics)
        with listener:
            pool.load()
            try:
                app = make_app(settings, pool, metrics)
                self._run(app, listener, tuple(settings.models), seconds=round(settings.max_seconds) + 5)
            finally:
                pool.close()

    def _serve_files(self) -> None:
        """Make the folder of the page that predicts in the browser, and serve it."""
        from panoptic_deeplab.serving.logs import log_as_json
        from panoptic_deeplab.serving.settings import named_models
        from panoptic_deeplab.serving.static_app import make_static_app
        from panoptic_deeplab.serving.static_site import pipeline_file, write_site
        from panoptic_deeplab.serving.web_runtime import keep_runtime, runtime_files

        for option in fields(self):
            if option.name not in _OF_FILES and getattr(self, option.name) != option.default:
                raise ConfigError(
                    f"`{option.name}` is for predictions on this machine, and --static makes none. Leave it out."
                )
        if os.environ.get(_TOKEN):
            raise ConfigError(
                f"`static` serves files to everybody who reaches them, and {_TOKEN} asks for a token. Unset it, and let"
                " a reverse proxy guard the page."
            )
        models = named_models(self.models)
        if self.runtime is not None:
            keep_runtime(self.runtime)
        runtime_files()  # so that what is missing is an error before the minutes of an export
        listener = self._listener()
        log_as_json()
        with listener, TemporaryDirectory(prefix="panoptic-deeplab-") as temporary:
            site = Path(temporary) if self.site is None else self.site
            write_site(site, {name: pipeline_file(model) for name, model in models.items()})
            # Also cleaned up by the app: uvicorn ends the process by its signal, before anything else runs.
            app = make_static_app(site, at_end=lambda: rmtree(temporary, ignore_errors=True))
            self._run(app, listener, tuple(models), seconds=_SECONDS_FOR_FILES)

    @staticmethod
    def _run(app: Any, listener: socket.socket, names: tuple[str, ...], *, seconds: int) -> None:
        """Say where, and serve an app; after a signal, requests have so many seconds."""
        import uvicorn

        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=seconds
        )
        host, port = listener.getsockname()[:2]
        say(f"Serving {', '.join(names)} on http://{f'[{host}]' if ':' in host else host}:{port}")
        sys.stdout.flush()  # for programs that wait for the address
        uvicorn.Server(config).run(sockets=[listener])

    def _listener(self) -> socket.socket:
        """Bound, so that a port in use is an error before minutes of loading; connections come later."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except (OSError, OverflowError) as error:
            listener.close()
            raise ConfigError(
                f"`serve` cannot listen on {self.host}, port {self.port}: {error}. Choose another --host or --port."
            ) from error
        return listener
