"""Batches of tensors after coding, for the stages that train a network behind the wire: `restoration` and `decoder`.

While the network learns from one batch, the front-end and VVC already work on the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from featcodec.networks.features import Features
from featcodec.packing.frames import Packing
from featcodec.packing.layout import Layout
from featcodec.split_model import SplitModel
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.loop import Loop
from featcodec.training.losses.objective import mean_of
from featcodec.training.real_coding import (
    GROUPS,
    NOT_CODED,
    Coder,
    QpRange,
    code_groups,
    one_ahead,
    real_coder,
    simulated_coder,
)
from featcodec.training.setup import TrainingData, as_pictures, batches_from, features_of, held_out_batches, tensor_of
from featcodec.video import EncoderSettings, open_tried_video_codec


@dataclass(frozen=True, eq=False)
class CodedBatch:
    """A batch after coding.

    Attributes:
        batch: the images.
        features: (B, C, H, W), the front-end's feature tensors, or a tuple with such a tensor per level; not coded.
        decoded: (B, c, H, W) float32, the decoded tensors.
        qp: (B,) float32, the QP of each tensor; 0 for one that was not coded.
    """

    batch: TrainingBatch
    features: Features
    decoded: Tensor
    qp: Tensor


@dataclass(frozen=True, eq=False)
class Wire:
    """The parts that are not trained: the networks, and the coder of the tensors between them.

    Attributes:
        model: in eval mode; one tensor crosses the wire.
        coder: codes and decodes tensors.
    """

    model: SplitModel
    coder: Coder

    def cross(self, batch: TrainingBatch, qps: list[int]) -> CodedBatch:
        """Run front-end, AE and coding on a batch, without gradient. `code_groups` describes the QPs."""
        features = features_of(self.model.detector, as_pictures(batch))
        with torch.no_grad():
            tensors = tensor_of(self.model, features)
        return CodedBatch(batch, features, *code_groups(self.coder, tensors, qps))

    def batches(
        self, loop: Loop, data: TrainingData, qps: QpRange, first_step: int, uncoded: float = 0
    ) -> Iterator[CodedBatch]:
        """The batches of this process from a given step on. `QpRange.drawn` says at which QPs."""
        seed, rank = loop.options.seed, loop.fabric.global_rank

        def code(numbered: tuple[int, TrainingBatch]) -> CodedBatch:
            step, batch = numbered
            return self.cross(batch, qps.drawn(seed, step, rank, uncoded))

        return one_ahead(code, enumerate(batches_from(loop, data, first_step), first_step))

    def held_out(
        self,
        loop: Loop,
        data: TrainingData,
        qps: QpRange,
        terms: Callable[[CodedBatch], dict[str, Tensor]],
        *,
        uncoded: bool = False,
    ) -> dict[str, float]:
        """Means of terms over the held-out images, always at the same QPs, spread over the whole range.

        Args:
            loop, data, qps: see `batches`.
            terms: computes the terms of a batch.
            uncoded: leave every fourth group as it is.
        """
        chosen = qps.spread(GROUPS * -(-len(data.held_out) // loop.options.batch_size))
        if uncoded:
            chosen = [NOT_CODED if number % 4 == 3 else qp for number, qp in enumerate(chosen)]
        found = []
        for number, batch in enumerate(held_out_batches(loop, data)):
            coded = self.cross(batch, chosen[GROUPS * number : GROUPS * (number + 1)])
            found.append((len(batch.images), terms(coded)))
        return mean_of(found)


def coder_for(model: SplitModel, layout: Layout | None, encoder: EncoderSettings, *, simulated: bool) -> Coder:
    """The coder for the tensors of a model.

    Args:
        model: says the quantizer.
        layout: the layout of the frame, or None.
        encoder: settings of VVC.
        simulated: simulate coding, so that layout and settings are not used.
    """
    if simulated:
        return simulated_coder(model.quantizer)
    packing = Packing.near_square(model.channels, model.quantizer, layout)
    return real_coder(packing, open_tried_video_codec("ffmpeg", encoder))
