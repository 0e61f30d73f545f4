"""The law of the fair queue: bounded, in turns, and when it is full, the greediest client loses."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.service.fair_queue import Client, FairQueue, site_of

CLIENTS = st.builds(Client, st.sampled_from("abc"), st.sampled_from([None, 1, 2]))
STEPS = st.lists(st.one_of(st.none(), CLIENTS), max_size=60)
"""None takes an item, a client adds one."""
Item = tuple[Client, int]


@given(STEPS, st.integers(1, 6))
def test_it_is_bounded_and_every_item_comes_out_once(steps: list[Client | None], most: int) -> None:
    queue: FairQueue[Item] = FairQueue(most)
    put: list[Item] = []
    out: list[Item] = []
    for number, client in enumerate(steps):
        if client is not None:
            put.append((client, number))
            lost = queue.put(client, put[-1])
            out += [] if lost is None else [lost]
        elif len(queue):
            out.append(queue.take())
        assert len(queue) == len(list(queue)) <= most
        assert len(put) == len(out) + len(queue)
    assert sorted(out + queue.clear(), key=lambda item: item[1]) == put
    assert not len(queue)
    with pytest.raises(IndexError):
        queue.take()


@given(STEPS, st.integers(1, 6))
def test_nothing_is_lost_while_there_is_room(steps: list[Client | None], most: int) -> None:
    queue: FairQueue[Item] = FairQueue(most)
    for number, client in enumerate(steps):
        before = len(queue)
        if client is None:
            if before:
                queue.take()
        else:
            assert (queue.put(client, (client, number)) is None) == (before < most)


@given(STEPS, st.integers(1, 6))
def test_who_loses_has_most(steps: list[Client | None], most: int) -> None:
    """Counted with the new item: no address has more than the loser's, and in it, no connection has more."""
    queue: FairQueue[Item] = FairQueue(most)
    for number, client in enumerate(steps):
        if client is None:
            if len(queue):
                queue.take()
            continue
        items = [*queue, (client, number)]
        lost = queue.put(client, items[-1])
        if lost is None:
            continue
        addresses = Counter(each.address for each, _ in items)
        connections = Counter(each for each, _ in items if each.address == lost[0].address)
        assert addresses[lost[0].address] == max(addresses.values())
        assert connections[lost[0]] == max(connections.values())
        assert lost[1] == max(number for each, number in items if each == lost[0])


@given(st.lists(CLIENTS, min_size=1, max_size=60))
def test_addresses_and_then_connections_are_served_in_turns(clients: list[Client]) -> None:
    """Until one has nothing left, each was served as often as another, or once more or less."""
    queue: FairQueue[Item] = FairQueue(len(clients))
    for number, client in enumerate(clients):
        assert queue.put(client, (client, number)) is None
    left = Counter(clients)
    served: Counter[str | Client] = Counter()
    while len(queue):
        client, _ = queue.take()
        left[client] -= 1
        served[client.address] += 1
        served[client] += 1
        waiting = [each for each in left if left[each]]
        counts = [served[address] for address in {each.address for each in waiting}]
        assert max(counts, default=0) - min(counts, default=0) <= 1
        for address in {each.address for each in waiting}:
            counts = [served[each] for each in waiting if each.address == address]
            assert max(counts) - min(counts) <= 1


@given(st.lists(st.sampled_from([None, 1]), min_size=2, max_size=40))
def test_the_items_of_one_connection_keep_their_order(connections: list[int | None]) -> None:
    queue: FairQueue[Item] = FairQueue(len(connections))
    for number, connection in enumerate(connections):
        queue.put(Client("a", connection), (Client("a", connection), number))
    seen: dict[Client, int] = {}
    while len(queue):
        client, number = queue.take()
        assert number > seen.get(client, -1)
        seen[client] = number


@pytest.mark.parametrize("connections", [1, 5, 100])
def test_a_greedy_address_takes_neither_room_nor_turns_from_a_camera(connections: int) -> None:
    queue: FairQueue[str] = FairQueue(8)
    greedy = [Client("greedy", number) for number in range(connections)]
    for turn in range(100):
        assert queue.put(greedy[turn % connections], "surplus") == (None if turn < 8 else "surplus")
    assert queue.put(Client("camera", 1), "frame") == "surplus"
    assert "frame" in (queue.take(), queue.take())


def test_one_connection_of_an_address_does_not_crowd_out_another() -> None:
    """As behind a proxy, where all have one address."""
    queue: FairQueue[str] = FairQueue(8)
    for _ in range(100):
        queue.put(Client("proxy"), "post")
    assert queue.put(Client("proxy", "camera"), "frame") == "post"
    assert "frame" in (queue.take(), queue.take())


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_an_ipv6_site_is_one_client(address: str, site: str) -> None:
    assert site_of(address) == site
