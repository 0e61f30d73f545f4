"""A real cluster of two nodes with one core each, on this machine."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import free_port, settings

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster`. Its workers find the modules of these tests. `client_address` is the one ray://.

    Workers look for objects at an S3 server on `s3_port`, which a test may start.
    """
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [str(HERE), str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, found)))
        environment.setenv("RAY_worker_niceness", "0")  # else the tests wait for whatever else runs here
        environment.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        s3_port = free_port()
        for name, value in settings(s3_port).items():
            environment.setenv(name, value)
        memory = {"object_store_memory": 200 << 20, "num_cpus": 1}
        port = free_port()
        cluster = Cluster(initialize_head=True, head_node_args={**memory, "ray_client_server_port": port})
        cluster.client_address = f"ray://127.0.0.1:{port}"
        cluster.s3_port = s3_port
        cluster.add_node(**memory)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def on_two_nodes(two_nodes: Any) -> Iterator[Any]:
    """This process is connected to the cluster, which it returns."""
    from featcodec.cluster.session import connected

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with connected(two_nodes.address):
            yield two_nodes
