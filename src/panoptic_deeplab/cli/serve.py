"""`panoptic-deeplab serve`."""

import os
import socket
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from panoptic_deeplab.cli.terminal import say
from panoptic_deeplab.cli.verb import Device, Verb
from panoptic_deeplab.config import Precision
from panoptic_deeplab.errors import ConfigError, require

_TOKEN = "PANOPTIC_DEEPLAB_TOKEN"


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

    def execute(self) -> None:
        """Load the models, and serve until a signal comes."""
        for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
            require(module, extra="serve", purpose="Serving")
        import uvicorn

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
                config = uvicorn.Config(
                    make_app(settings, pool, metrics),
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    timeout_graceful_shutdown=round(settings.max_seconds) + 5,
                )
                host, port = listener.getsockname()[:2]
                say(f"Serving {', '.join(settings.models)} on http://{f'[{host}]' if ':' in host else host}:{port}")
                sys.stdout.flush()  # for programs that wait for the address
                uvicorn.Server(config).run(sockets=[listener])
            finally:
                pool.close()

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
