"""Many servers: the application as a deployment of Ray Serve, with replicas on the machines of a cluster.

Ray starts replicas, replaces those that die, and shares requests and WebSockets out among them. Each replica has the
bounds of `Settings` for itself, and its pages see its own sources.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from featcodec.cluster.session import SERVE, connected
from featcodec.codec import FeatureCodec
from featcodec.service.application import create_application
from featcodec.service.settings import Settings

NAME = "featcodec"
_MORE_SECONDS = 10
"""How much longer Ray waits for a replica that ends than the replica waits for its work."""
_HEALTH_SECONDS = 2
_HEALTH_TIMEOUT = 10


@dataclass(frozen=True)
class Build:
    """Makes the application in a replica. It travels there, and must be small.

    Attributes:
        networks: keywords of `FeatureCodec.load`.
        settings: the bounds of each replica.
    """

    networks: Mapping[str, Any]
    settings: Settings

    def __call__(self) -> FastAPI:
        """The application; its networks are loaded here. Ray routes nothing to it before it is ready."""
        codec = FeatureCodec.load(**self.networks)
        detector = Path(self.networks["detector"]).stem
        return create_application(codec, self.settings, detector=detector, is_ready_first=True)


@contextlib.contextmanager
def deployed(build: Build, *, host: str, port: int, replicas: int, most_replicas: int, cpus: float) -> Iterator[str]:
    """Deploy on the cluster that is connected; it ends with the block.

    Args:
        build: makes the application.
        host, port: where each node of the cluster that has a replica listens.
        replicas: how many there are at least.
        most_replicas: how many Ray may start when there is more work.
        cpus: of each replica, as Ray counts them.

    Yields:
        the address on this machine.
    """
    serve: Any = importlib.import_module(SERVE)
    limits = build.settings
    build = replace(build, settings=replace(limits, workers=max(1, int(cpus))))
    options: dict[str, Any] = {
        "name": NAME,
        "ray_actor_options": {"num_cpus": cpus},
        "max_ongoing_requests": limits.max_connections,  # a WebSocket is one request as long as it is open
        "graceful_shutdown_timeout_s": limits.end_seconds + _MORE_SECONDS,
        "health_check_period_s": _HEALTH_SECONDS,
        "health_check_timeout_s": _HEALTH_TIMEOUT,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }
    if most_replicas > replicas:
        options["autoscaling_config"] = {
            "min_replicas": replicas,
            "max_replicas": most_replicas,
            "target_ongoing_requests": max(1, limits.max_queue // 2),
        }
    else:
        options["num_replicas"] = replicas
    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
    try:
        # Ray calls a function in the replica; another object that can be called would be the application itself.
        deployment = serve.deployment(serve.ingress(lambda: build())()).options(**options)  # noqa: PLW0108
        serve.run(deployment.bind(), name=NAME, route_prefix="/")
        yield f"http://{host}:{port}"
    finally:
        serve.shutdown()


def serve_on_ray(address: str, started: Callable[[str], None], **options: Any) -> None:
    """Serve until a signal asks for the end.

    Args:
        address: of the cluster, as for `cluster.session.connected`.
        started: called with the address of the server when it is ready.
        options: of `deployed`.
    """
    ended = threading.Event()
    with connected(address, SERVE):
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with deployed(**options) as url:
                started(url)
                ended.wait()
        finally:
            for number, reaction in before.items():
                signal.signal(number, reaction)
