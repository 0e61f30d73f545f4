"""Stage 4: train the attack that is reported (paper, section IV-A): a RecNet with L1 alone, on finished networks.

RecNet-bottleneck attacks the tensor of a bottleneck. RecNet-latent (no bottleneck) attacks the detector's features.
Train both equally long, and long enough: a weak attacker makes the defence look better than it is. A strong RecNet is
not held back by the paper's choices (`featcodec.privacy.strong_recnet`): it learns from L1, edges and structural
similarity, on tensors that are coded at random QPs, and it is told the QP.
"""

from __future__ import annotations

from pathlib import Path

from featcodec.training.loop_options import LoopOptions
from featcodec.training.recnet import RecNetTask, StrongAttack, train_recnet
from featcodec.training.setup import TrainingData


def train_attack(
    detector: str | Path,
    bottleneck: str | Path | None,
    data: TrainingData,
    options: LoopOptions,
    strong: StrongAttack | None = None,
    start: Path | None = None,
    split: int | None = None,
) -> Path:
    """Run the stage.

    Args:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, name of a shipped one, or None for RecNet-latent.
        data: the images that the attacker has. The metrics on its held-out images show when more steps no longer help.
        options: settings of the run.
        strong: train a strong RecNet; None trains the paper's.
        start: a RecNet of that kind to go on from, instead of random weights. One that attacks a similar bottleneck
            finds what a fresh one may never find.
        split: for latent coding, the last layer of the front-end; None means the default of the detector.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    task = RecNetTask(detector, bottleneck, edge_weight=0, start=start, strong=strong, split=split)
    return train_recnet(task, data, options, stage="attack")
