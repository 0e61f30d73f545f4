"""What ranks know from their environment."""

from __future__ import annotations

import pytest

from featcodec.errors import InputError
from featcodec.system import ranks
from featcodec.system.ranks import Watch, all_have, check_met, devices_and_machines, is_first, launched, value_of_first


def be_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, here: int) -> None:
    """Be what torchrun starts."""
    values = {"RANK": rank, "LOCAL_RANK": rank % here, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": here}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def test_alone_the_devices_are_those_that_were_asked_for() -> None:
    assert not launched()
    assert is_first()
    assert devices_and_machines(3) == (3, 1)
    assert value_of_first(0.1) == 0.1
    assert all_have(0.1)


@pytest.mark.parametrize("asked", [1, 2])
def test_launched_ranks_say_how_many_there_are(monkeypatch: pytest.MonkeyPatch, asked: int) -> None:
    be_rank(monkeypatch, rank=5, world=6, here=2)
    assert launched()
    assert not is_first()
    assert devices_and_machines(asked) == (2, 3)
    be_rank(monkeypatch, rank=0, world=6, here=2)
    assert is_first()


@pytest.mark.parametrize(
    ("here", "asked", "message"), [(2, 3, "leave out `devices`"), (4, 1, "as many on each machine")]
)
def test_numbers_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, here: int, asked: int, message: str
) -> None:
    be_rank(monkeypatch, rank=0, world=6, here=here)
    with pytest.raises(InputError, match=message):
        devices_and_machines(asked)


def test_ranks_that_others_have_connected_are_not_taken_for_one() -> None:
    from torch import distributed

    check_met(2)
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        check_met(1)
        with pytest.raises(InputError, match="1 processes are connected already, and 2 would train"):
            check_met(2)
    finally:
        distributed.destroy_process_group()


class Lost:
    """A store whose holder has ended."""

    def check(self, keys: list[str]) -> bool:
        raise RuntimeError("Connection reset by peer")

    def add(self, key: str, amount: int) -> int:
        raise RuntimeError("Connection reset by peer")


class Idle:
    """A thread that does nothing."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        pass


@pytest.mark.parametrize(
    ("run", "message"), [("featcodec-7", "the process that started the training has ended"), ("none", "was killed")]
)
def test_a_killed_launcher_loses_the_store_before_its_ranks_have_another_parent(
    monkeypatch: pytest.MonkeyPatch, run: str, message: str
) -> None:
    """Then each rank would leave it to the launcher to say what happened."""
    be_rank(monkeypatch, rank=0, world=2, here=2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
    monkeypatch.setattr(ranks.threading, "Thread", Idle)
    watch = Watch()
    watch._store = Lost()
    assert watch._others_failed()
    assert watch.is_first_to_fail()
    assert message in str(watch.explain(SystemExit(143)))
