"""Decoding on a cluster: the same outcomes in the same order as `featcodec.pipeline.decode_files`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcodec.cluster.resources import Resources
from featcodec.cluster.rows import TRIES, Passed, Rows, StepOfRows, outcomes, with_step
from featcodec.pipeline.decode import Decoded, decode_files
from featcodec.system.batching import in_order
from featcodec.system.paths import Source

if TYPE_CHECKING:
    from ray.data import Dataset

    from featcodec.codec import FeatureCodec


def decode_on_cluster(
    codec: FeatureCodec, sources: Sequence[Source], *, resources: Resources
) -> Generator[Decoded, None, None]:
    """Decode bitstream files on the cluster that is connected (`session.connected`).

    Yields one outcome per file, in the order of the sources. All nodes must see the files under the same paths.
    """
    import ray  # noqa: PLC0415

    shared, here = ray.put(codec), Path.cwd()

    def plan(rows: Dataset) -> Dataset:
        return with_step(rows, _Decoder, resources.of_decoders(TRIES), fn_constructor_args=(shared, here))

    def lost(source: Source) -> Decoded:
        remedy = "it may be too large, or damaged on purpose; leave it out, or use `isolate`"
        return Decoded(source, error=f"{source.path}: its worker died at each of {2 * TRIES} tries; {remedy}")

    yield from in_order(outcomes(sources, plan, lost))


class _Decoder:
    """The whole work of the cloud, held by an actor."""

    def __init__(self, shared: Any, folder: Path) -> None:
        import ray  # noqa: PLC0415

        self._codec: FeatureCodec = ray.get(shared)
        self._step = StepOfRows(self._decoded, folder)

    def __call__(self, rows: Rows) -> Rows:
        return self._step(rows)

    def _decoded(self, sources: list[Source]) -> list[Any]:
        return [Passed(outcome) for outcome in decode_files(self._codec, sources, workers=1)]
