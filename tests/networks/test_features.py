"""One tensor or several, handled in one way."""

from __future__ import annotations

import torch

from featcodec.networks.features import features_of_levels, join_batches, levels_of, map_levels


def test_one_tensor_stays_a_tensor_and_several_stay_a_tuple() -> None:
    fine, coarse = torch.ones(2, 3, 8, 8), torch.zeros(2, 5, 4, 4)
    assert features_of_levels(levels_of(fine)) is fine
    assert features_of_levels(levels_of((fine, coarse))) == (fine, coarse)
    doubled = map_levels(lambda level: 2 * level, (fine, coarse))
    assert isinstance(doubled, tuple)
    assert [float(level.amax()) for level in doubled] == [2.0, 0.0]


def test_batches_are_joined_level_by_level() -> None:
    batches = [(torch.full((1, 3, 8, 8), value), torch.full((1, 5, 4, 4), -value)) for value in (1.0, 2.0)]
    joined = join_batches(batches)
    assert isinstance(joined, tuple)
    assert [tuple(level.shape) for level in joined] == [(2, 3, 8, 8), (2, 5, 4, 4)]
    assert joined[1][:, 0, 0, 0].tolist() == [-1.0, -2.0]
    alone = join_batches([batches[0][0], batches[1][0]])
    assert isinstance(alone, torch.Tensor)
    assert alone.shape == (2, 3, 8, 8)
