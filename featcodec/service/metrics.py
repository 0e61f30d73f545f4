"""What a server counts, for Prometheus (https://prometheus.io/docs/concepts/metric_types/)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """The counters of one application. Each has its own registry, so several can be in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.streams = Counter("featcodec_streams", "Bitstreams that were decoded.", registry=registry)
        self.pictures = Counter("featcodec_pictures", "Pictures that ran through both halves.", registry=registry)
        self.received = Counter("featcodec_received_bytes", "Bytes of bitstreams and pictures.", registry=registry)
        self.refusals = Counter("featcodec_refusals", "What was refused.", ["reason"], registry=registry)
        self.replaced = Counter("featcodec_decoders_replaced", "Video decoders that were replaced.", registry=registry)
        self.dropped = Counter("featcodec_page_messages_dropped", "Messages that pages missed.", registry=registry)
        self.queue = Gauge("featcodec_queue_length", "Frames that wait.", registry=registry)
        self.held = Gauge("featcodec_held_bytes", "Bytes of bodies and messages in the server.", registry=registry)
        self.connections = Gauge("featcodec_connections", "Open WebSockets.", ["kind"], registry=registry)
        self.batches = Histogram(
            "featcodec_batch_size", "Frames that the networks took at once.", buckets=_BATCHES, registry=registry
        )
        self.latency = Histogram(
            "featcodec_latency_seconds",
            "Time of a frame in the server: queue, decode, and total.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        )

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self.refusals.labels(reason).inc()

    def text(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self.registry)
