"""Stage 4: the attack that is reported (paper, section IV-A). A fresh RecNet, L1 alone, on a finished codec.

RecNet-bottleneck attacks a bottleneck's coded tensor, RecNet-latent (no bottleneck) the detector's features. Give both
the same budget, and enough of it: a weak attacker flatters the defence.
"""

from __future__ import annotations

from pathlib import Path

from featcodec.training.loop import LoopOptions
from featcodec.training.recnet import RecNetTask, train_recnet
from featcodec.training.setup import TrainingData


def train_attack(detector: str | Path, bottleneck: Path | None, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Args:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, or None for RecNet-latent.
        data: what the attacker has; its held-out metrics tell when more steps no longer help.
        options: how long, how fast, where.

    Returns:
        the checkpoint of the last step; the best on the held-out images lies beside it.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    return train_recnet(RecNetTask(detector, bottleneck, edge_weight=0), data, options, stage="attack")
