"""The part that all networks that read plates share: from columns of features to the characters of a known format.

The text has one line and a fixed number of positions. Attention finds the columns of each position. At each position,
only the characters of the format are possible, so a reader that sees nothing guesses as well as it can.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featcodec.networks.checkpoints import check_sizes

MARGIN = 0.15
"""Share of the box's width and height that is added on every side, because boxes are not exact."""
LETTERS, DIGITS = "ABCDEFGHJKLMNPRSTUVWXYZ", "0123456789"
PLATE_FORMAT = (LETTERS, LETTERS, DIGITS, DIGITS, LETTERS, LETTERS, LETTERS)
"""The plates of `featcodec scenes`: two letters, two digits, three letters; no I, O and Q."""

_MAX_POSITIONS, _MAX_CHARACTERS = 32, 128


class TextReader(nn.Module):
    """A network that reads texts of one format. The network in front of the head is the part of a subclass."""

    places: nn.Parameter

    def __init__(self, alphabets: Sequence[str]) -> None:
        super().__init__()
        self.alphabets = tuple(alphabets)
        self.characters = characters_of(alphabets)
        """All characters, each once. They are the classes of the network."""
        # This buffer follows from the config and is not stored, so it has its values on the meta device too.
        allowed = torch.tensor([[one in alphabet for one in self.characters] for alphabet in alphabets], device="cpu")
        self.register_buffer("allowed", allowed, persistent=False)

    def make_head(self, channels: int, columns: int) -> None:
        """Make the layers of the head.

        Args:
            channels: channels of the columns.
            columns: number of columns; they cover the box and `MARGIN` on both sides.
        """
        positions = len(self.alphabets)
        self.attention = nn.Conv1d(channels, positions, 1)
        # The place of each character is known except for the margin. So attention starts from evenly spaced columns.
        self.places = nn.Parameter(_even_places(positions, columns))
        self.hidden = nn.Linear(channels, channels)
        self.classes = nn.Linear(channels, len(self.characters))

    def logits_of(self, columns: Tensor) -> Tensor:
        """(B, channels, columns) -> (B, positions, characters); -inf for a character that the format does not allow."""
        weights = (self.attention(columns) + self.places).softmax(-1)
        found = torch.einsum("bpw,bcw->bpc", weights, columns)
        logits: Tensor = self.classes(found + nn.functional.silu(self.hidden(found)))
        return logits.float().masked_fill(~self.get_buffer("allowed"), -torch.inf)

    def texts_of(self, logits: Tensor) -> list[str]:
        """The most likely text of each (positions, characters) in a batch of logits, one character per position."""
        return ["".join(self.characters[index] for index in row) for row in logits.argmax(-1).tolist()]


def characters_of(alphabets: Sequence[str]) -> str:
    """All characters of a format, each once, in order."""
    return "".join(sorted(set("".join(alphabets))))


def check_alphabets(alphabets: Sequence[str]) -> None:
    """Raise ValueError unless a checkpoint's format has 1..32 positions of 1..128 possible characters."""
    check_sizes("positions", [len(alphabets)], 1, _MAX_POSITIONS)
    check_sizes("characters", [len(alphabet) for alphabet in alphabets], 1, _MAX_CHARACTERS)


def _even_places(positions: int, columns: int) -> Tensor:
    """Return how near each column is to the expected column of each position: (positions, columns)."""
    inner = columns / (1 + 2 * MARGIN)
    centres = (columns - inner) / 2 + (torch.arange(positions) + 0.5) * inner / positions
    distance = torch.arange(columns) + 0.5 - centres[:, None]
    return -0.5 * (distance / (inner / positions)).square()
