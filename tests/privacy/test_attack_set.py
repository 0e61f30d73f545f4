"""Which attacks a model gets: those whose checkpoint is there, and gradient descent in any case."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_set import AuditSet, make_audit_set

from featcodec.errors import InputError, WeightsError
from featcodec.networks.checkpoints import fingerprint
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_set import Checkpoints, find_attacks
from featcodec.privacy.gradient import GradientAttack, GradientSettings
from featcodec.privacy.recnet import load_recnet
from featcodec.privacy.strong_recnet import StrongRecNet, StrongRecNetConfig, save_strong_recnet
from featcodec.privacy.worst_case import ATTACKS


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> AuditSet:
    return make_audit_set(tmp_path_factory.mktemp("set"), tiny_yolov5)


def test_a_given_recnet_attacks_its_side_and_gradient_descent_starts_from_it(checkpoints: AuditSet) -> None:
    codec = checkpoints.codec()
    given = Checkpoints([checkpoints.attack, checkpoints.latent])
    for subject, path in ((codec, checkpoints.attack), (codec.without_bottleneck(), checkpoints.latent)):
        found = find_attacks(subject, ATTACKS, given, GradientSettings(steps=7))
        assert list(found.attacks) == ["recnet", "gradient"]
        recnet, gradient = found.attacks.values()
        assert isinstance(recnet, Attack)
        assert isinstance(gradient, GradientAttack)
        assert (gradient.start, gradient.settings.steps) == (recnet, 7)
        name = fingerprint(load_recnet(path).state_dict()).hex()
        assert found.weights == {"recnet": name, "gradient": name}
    assert given.unused() == []


def test_only_the_kinds_that_are_asked_for(checkpoints: AuditSet) -> None:
    given = Checkpoints([checkpoints.attack])
    found = find_attacks(checkpoints.codec(), ["gradient"], given)
    assert list(found.attacks) == ["gradient"]
    assert found.attacks["gradient"].start is not None, "the RecNet is there, though its kind was not asked for"
    assert found.only(["recnet"]).attacks == {}


def test_without_a_checkpoint_gradient_descent_starts_from_gray(checkpoints: AuditSet) -> None:
    found = find_attacks(checkpoints.codec(), ATTACKS, Checkpoints())
    assert list(found.attacks) == ["gradient"]
    assert found.attacks["gradient"].start is None
    assert found.weights == {"gradient": ""}


def test_a_strong_recnet_is_another_kind_and_gradient_descent_starts_from_it(
    checkpoints: AuditSet, tmp_path: Path
) -> None:
    codec = checkpoints.codec()
    config = StrongRecNetConfig(6, 8, 1, codec.model.edge_fingerprint.hex(), {})
    save_strong_recnet(tmp_path / "strong.safetensors", StrongRecNet(config))
    found = find_attacks(codec, ATTACKS, Checkpoints([checkpoints.attack, tmp_path / "strong.safetensors"]))
    assert list(found.attacks) == ["recnet", "strong", "gradient"]
    assert found.attacks["gradient"].start is found.attacks["strong"]
    assert found.weights["gradient"] == found.weights["strong"] != found.weights["recnet"]


def test_what_attacks_nothing_or_twice_is_known(checkpoints: AuditSet, tmp_path: Path) -> None:
    given = Checkpoints([checkpoints.attack, checkpoints.latent])
    find_attacks(checkpoints.codec(), ATTACKS, given)
    assert given.unused() == [checkpoints.latent]
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoints.attack.read_bytes())
    with pytest.raises(InputError, match=r"attack the same tensors in the same way; give only one"):
        find_attacks(checkpoints.codec(), ATTACKS, Checkpoints([checkpoints.attack, copy]))
    with pytest.raises(WeightsError, match="no such file"):
        Checkpoints([tmp_path / "missing.safetensors"])
