"""Decoding on a cluster: the same outcomes in the same order as `featcodec.pipeline.decode_files`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

from featcodec.cluster.resources import Resources
from featcodec.cluster.whole import whole_outcomes
from featcodec.codec import FeatureCodec
from featcodec.pipeline.decode import Decoded, decode_files
from featcodec.system.paths import Source


def decode_on_cluster(
    codec: FeatureCodec, sources: Sequence[Source], *, resources: Resources
) -> Generator[Decoded, None, None]:
    """Decode bitstream files on the cluster that is connected (`session.connected`).

    Yields one outcome per file, in the order of the sources. All nodes must see the files under the same paths.
    """
    work = partial(decode_files, workers=1)
    return whole_outcomes(codec, work, sources, _lost, resources=resources)


def _lost(source: Source, problem: str) -> Decoded:
    remedy = "it may be too large, or damaged on purpose; leave it out, or use `isolate`"
    return Decoded(source, error=f"{problem}; {remedy}")
