"""Code the tensors of a batch with real VVC: pack, encode, decode and unpack them, as `FeatureCodec` does.

No coded tensor is stored. What is coded at a step, and at which QPs, depends on (seed, step) alone. A batch is coded in
two groups. One encoder process codes each group, at its own QP. There are two groups on every machine, so that a run
does not depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from featcodec.bitstream import check_qp
from featcodec.errors import InputError
from featcodec.packing.frames import Packing
from featcodec.packing.quantize import UniformQuantizer
from featcodec.system.batching import read_ahead
from featcodec.training.simulated_coding import SimulatedCoding, simulate_coding
from featcodec.video import VideoCodec

GROUPS = 2
NOT_CODED = 0
"""In place of a QP: the tensors of a group stay as they are. Real coding at QP 0 changes next to nothing, too."""

Coder = Callable[[Tensor, int], Tensor]
"""Codes and decodes (B, C, H, W) tensors at a QP. The result has the same shape, is float32 and on the same device."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class QpRange:
    """The QPs to train for.

    Attributes:
        low, high: lowest and highest QP, 0 to 63; both may occur.

    Raises:
        InputError: the range is empty, or a QP is out of range.
    """

    low: int = 32
    high: int = 44

    def __post_init__(self) -> None:
        for qp in (self.low, self.high):
            check_qp(qp)
        if self.low > self.high:
            raise InputError(f"QP range [{self.low}, {self.high}] is empty; use low <= high")

    def drawn(self, seed: int, step: int, rank: int = 0, uncoded: float = 0) -> list[int]:
        """The QPs of the groups of a step, drawn uniformly. Another rank draws other QPs.

        Args:
            seed, step, rank: what the QPs depend on.
            uncoded: the share of groups that are not coded, in [0, 1].
        """
        generator = np.random.default_rng((seed, step, rank))
        numbers = generator.integers(self.low, self.high, GROUPS, endpoint=True)
        is_uncoded = generator.random(GROUPS) < uncoded
        return [NOT_CODED if bare else int(number) for number, bare in zip(numbers, is_uncoded, strict=True)]

    def spread(self, groups: int) -> list[int]:
        """One QP per group, spread evenly from low to high, for comparisons."""
        return [round(float(qp)) for qp in np.linspace(self.low, self.high, groups)]


def real_coder(packing: Packing, video: VideoCodec) -> Coder:
    """A coder that uses the packing and a VVC bitstream, as `FeatureCodec` does.

    Args:
        packing: puts the tensors into frames.
        video: encodes and decodes the frames.

    Raises (the coder):
        InputError: a tensor holds NaN.
        EncoderError: the VVC encoder failed.
    """

    def code(tensors: Tensor, qp: int) -> Tensor:
        frames = [packing.to_frame(tensor) for tensor in tensors.float().cpu().contiguous().numpy()]
        decoded = [video.decode(stream, frames[0].shape) for stream in video.encode(frames, qp)]
        return torch.from_numpy(np.stack([packing.to_tensor(frame) for frame in decoded])).to(tensors.device)

    return code


def simulated_coder(quantizer: UniformQuantizer) -> Coder:
    """A coder that uses `simulate_coding` instead of VVC. It is many times faster and has the same clip range."""

    def code(coded: Tensor, qp: int) -> Tensor:
        at_qp = SimulatedCoding(quantizer.low, quantizer.high, qp_low=qp, qp_high=qp, uncoded=0)
        with torch.no_grad():
            decoded = simulate_coding(coded, at_qp).decoded
        assert isinstance(decoded, Tensor)  # noqa: S101  (as `coded`)
        return decoded

    return code


def code_groups(coder: Coder, coded: Tensor, qps: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Code a batch in groups, all groups at the same time.

    Args:
        coder: codes one group.
        coded: (B, C, H, W) tensors before coding, without gradient.
        qps: the QP of each group, or `NOT_CODED`, in the order of the batch; a batch of fewer tensors has fewer groups.

    Returns:
        the decoded tensors, (B, C, H, W) float32, and the QP of each, (B,) float32, on the device of `coded`.
    """
    groups = coded.tensor_split(len(qps))
    pairs = [(group, qp) for group, qp in zip(groups, qps, strict=True) if len(group)]

    def code(pair: tuple[Tensor, int]) -> Tensor:
        group, qp = pair
        return group.float() if qp == NOT_CODED else coder(group, qp)

    with ThreadPoolExecutor(len(pairs)) as pool:
        decoded = list(pool.map(code, pairs))
    numbers = [float(qp) for group, qp in pairs for _ in range(len(group))]
    return torch.cat(decoded), torch.tensor(numbers, device=coded.device)


def one_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map(function, items)` in order. A thread computes the next result while the caller uses the current one."""
    with ThreadPoolExecutor(1) as pool:
        yield from read_ahead(pool, function, items, depth=2)
