"""What the steps of a run get of a cluster's cores. Networks run on CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_CORES_PER_NETWORK = 4
"""One front-end keeps so many encoders busy: it takes about a quarter of the time of VVC."""
_BLOCK_BYTES = 128 << 20
"""The most bytes that the letterboxed images of a block have, unless a single image has more. Frames have fewer."""


@dataclass(frozen=True)
class Resources:
    """How many workers of each kind a run has.

    Attributes:
        front_ends: actors that read images and hold the networks of the edge.
        decoders: actors that decode video and finish detections, one core each.
    """

    front_ends: int
    decoders: int

    @classmethod
    def of_cluster(cls, networks: int | None = None) -> Resources:
        """What suits the cluster that is connected.

        Args:
            networks: actors that hold networks. None means one front-end for four cores and at least one per node, and
                one decoder for each core.
        """
        import ray  # noqa: PLC0415

        nodes = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]
        cores = cores_of_cluster()
        return cls(networks or max(nodes, cores // _CORES_PER_NETWORK), networks or cores)

    def of_front_ends(self, tries: int) -> dict[str, Any]:
        """Options of Ray Data for the actors of the edge. They share the cores with the encoders."""
        return _of_actors(self.front_ends, 0, tries)

    def of_decoders(self, tries: int) -> dict[str, Any]:
        """Options of Ray Data for the actors of the cloud: one core each."""
        return _of_actors(self.decoders, 1, tries)

    def of_coders(self, tries: int) -> dict[str, Any]:
        """Options of Ray Data for the step that runs the video encoder on one core."""
        return {"batch_size": None, "num_cpus": 1, "max_retries": tries - 1}


def cores_of_cluster() -> int:
    """The cores of the cluster that is connected."""
    import ray  # noqa: PLC0415

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(total.get("CPU", 1)))


def images_in_block(image_size: int) -> int:
    """The most images in a block, at least 1, by the longest side of a letterboxed image."""
    return max(1, _BLOCK_BYTES // (3 * image_size**2))


def _of_actors(actors: int, cores: float, tries: int) -> dict[str, Any]:
    import ray.data  # noqa: PLC0415

    return {
        "batch_size": None,
        "num_cpus": cores,
        # One block at a time: when a block kills its actor, others do not lose a try.
        "compute": ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        "max_restarts": -1,
        "max_task_retries": tries - 1,
    }
