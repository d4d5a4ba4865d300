"""What `/metrics` tells Prometheus. One process counts for all workers, so the numbers are those of all together."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "panoptic_requests", "Requests answered, by path and status.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "panoptic_request_seconds", "From head to answer.", ("path",), buckets=_SECONDS, registry=registry
        )
        self.stage_seconds = Histogram(
            "panoptic_stage_seconds",
            "Time of a request in each stage: receive, queue, decode, network, postprocess, encode.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.passes = Counter("panoptic_network_passes", "Images that went through the network.", registry=registry)
        self.batch_images = Histogram(
            "panoptic_batch_images", "Requests that a worker took at once.", buckets=(1, 2, 4, 8), registry=registry
        )
        self.image_pixels = Histogram(
            "panoptic_image_pixels", "Size of images.", buckets=(1e5, 3e5, 1e6, 3e6, 1e7, 3e7), registry=registry
        )
        self.body_bytes = Histogram(
            "panoptic_body_bytes", "Size of request bodies.", buckets=(1e4, 1e5, 1e6, 1e7, 1e8), registry=registry
        )
        self.waiting = Gauge("panoptic_waiting_requests", "Requests that wait for a worker.", registry=registry)
        self.inside = Gauge("panoptic_requests_inside", "Requests inside of the service.", registry=registry)
        self.workers_ready = Gauge("panoptic_workers_ready", "Workers that take requests.", registry=registry)
        self.worker_deaths = Counter("panoptic_worker_deaths", "Workers that were replaced.", registry=registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
