"""Which attacker belongs to which model, by its checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from refusals import refusal_of

from featcodec.errors import WeightsError
from featcodec.privacy import attackers
from featcodec.privacy.attackers import (
    KINDS,
    attacks,
    bind,
    find_shipped_attacker,
    load_attacker,
    shipped_attacker,
)
from featcodec.privacy.recnet import RecNet, RecNetConfig, save_recnet
from featcodec.privacy.strong_recnet import StrongRecNet, StrongRecNetConfig, save_strong_recnet


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of a model."""

    fingerprint: bytes
    edge_fingerprint: bytes
    split: int = 4


MODEL = Names(bytes(8), bytes(range(8)))
OTHER_AD = dataclasses.replace(MODEL, fingerprint=b"otherAD.")
OTHER_AE = Names(b"otherAE.", b"otherAE.")
OLD = RecNetConfig(12, 6, 4, (1, 1), MODEL.fingerprint.hex(), {})
NEW = dataclasses.replace(OLD, edge_fingerprint=MODEL.edge_fingerprint.hex())
STRONG = StrongRecNetConfig(4, 8, 1, MODEL.edge_fingerprint.hex(), {})


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as if it were the package's, with one attacker of each kind for MODEL."""
    save_recnet(tmp_path / "a-recnet.safetensors", RecNet(NEW))
    save_strong_recnet(tmp_path / "a-strong-recnet.safetensors", StrongRecNet(STRONG))
    monkeypatch.setattr(attackers, "SHIPPED_FOLDER", tmp_path)
    return tmp_path


def test_what_an_attacker_gets_depends_on_the_edge_alone() -> None:
    for network in (RecNet(NEW), StrongRecNet(STRONG)):
        assert attacks(network, MODEL)
        assert attacks(network, OTHER_AD)
        assert not attacks(network, OTHER_AE)
        # Without AE, detector and edge have the same name behind every layer.
        assert not attacks(network, dataclasses.replace(MODEL, split=3))


def test_an_old_checkpoint_attacks_the_model_that_it_names() -> None:
    assert attacks(RecNet(OLD), MODEL)
    assert not attacks(RecNet(OLD), OTHER_AD)
    assert not attacks(RecNet(OLD), OTHER_AE)


def test_a_network_is_bound_to_another_model() -> None:
    for network in (RecNet(OLD), StrongRecNet(STRONG)):
        bind(network, dataclasses.replace(OTHER_AE, split=3))
        assert attacks(network, dataclasses.replace(OTHER_AE, split=3))
        assert not attacks(network, MODEL)


def test_either_kind_is_read_from_its_file(shipped: Path, tmp_path: Path) -> None:
    assert isinstance(load_attacker(shipped / "a-recnet.safetensors"), RecNet)
    assert isinstance(load_attacker(shipped / "a-strong-recnet.safetensors"), StrongRecNet)
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"no checkpoint")
    for path in (broken, tmp_path / "missing.safetensors", tmp_path):
        refusal_of(WeightsError, path, load_attacker)


def test_a_network_that_is_no_attacker_is_refused(tmp_path: Path) -> None:
    from featcodec.networks.checkpoints import save_checkpoint

    path = tmp_path / "b.safetensors"
    save_checkpoint(path, "bottleneck", {}, RecNet(NEW).state_dict())
    assert "not a recnet" in refusal_of(WeightsError, path, load_attacker)


def test_those_that_ship_are_found_by_kind_and_model(shipped: Path) -> None:
    names = {kind: find_shipped_attacker(OTHER_AD, kind) for kind in KINDS}
    assert names == {
        "recnet": shipped / "a-recnet.safetensors",
        "strong-recnet": shipped / "a-strong-recnet.safetensors",
    }
    assert find_shipped_attacker(OTHER_AE) is None
    with pytest.raises(WeightsError, match=r"no strong-recnet for .* `featcodec train attack` and `strong`"):
        shipped_attacker(OTHER_AE, "strong-recnet")
