"""A queue that is fair between clients: they are served in turns, and when it is full, the greediest one loses."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_IPV6_SITE = 64
"""Bits of an IPv6 address that name a site. A machine chooses the others as it likes."""


@dataclass(frozen=True)
class Client:
    """Who sends frames.

    Attributes:
        address: of the machine, or of its site (`site_of`); empty for the server itself.
        connection: names a WebSocket. None stands for all POST requests of the address together.
    """

    address: str = ""
    connection: Hashable = None


def site_of(address: str) -> str:
    """What of an address counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a name, or what a proxy made up
        return address
    if isinstance(read, ipaddress.IPv4Address):
        return str(read)
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    return str(ipaddress.ip_network((read, _IPV6_SITE), strict=False))


class FairQueue(Generic[T]):
    """Items of clients, at most `most`. Not safe for threads.

    `take` serves the addresses in turns, and the connections of an address in turns. So a client with many items, or an
    address with many connections, makes others wait for one item per turn, not for all of them.

    Args:
        most: items at a time, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._count = 0
        # In the order of their turns. Whoever has nothing is not in it, so it is as bounded as the items.
        self._waiting: OrderedDict[str, OrderedDict[Hashable, deque[T]]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        for connections in self._waiting.values():
            for items in connections.values():
                yield from items

    def put(self, client: Client, item: T) -> T | None:
        """Add an item.

        Returns:
            what finds no room: None; or, when the queue is full, the newest item of the address that has most. If that
            is this client's own, then of its connection that has most: `item` itself, if this one has.
        """
        surplus = self._surplus(client) if self._count >= self.most else client
        if surplus is None:
            return item
        lost = None if surplus is client else self._remove(surplus, newest=True)
        self._waiting.setdefault(client.address, OrderedDict()).setdefault(client.connection, deque()).append(item)
        self._count += 1
        return lost

    def take(self) -> T:
        """Remove the item whose turn it is.

        Raises:
            IndexError: there is none.
        """
        if not self._waiting:
            raise IndexError("nothing waits")
        address, connections = next(iter(self._waiting.items()))
        connection = next(iter(connections))
        item = self._remove(Client(address, connection), newest=False)
        if address in self._waiting:
            self._waiting.move_to_end(address)
            if connection in connections:
                connections.move_to_end(connection)
        return item

    def clear(self) -> list[T]:
        """Remove all items, and return them."""
        left = list(self)
        self._waiting.clear()
        self._count = 0
        return left

    def _surplus(self, client: Client) -> Client | None:
        """Who has two items more than this client, so that an exchange makes it fairer; None if nobody has."""
        amounts = {address: sum(map(len, each.values())) for address, each in self._waiting.items()}
        greedy = max(amounts, key=amounts.__getitem__)
        if amounts.get(client.address, 0) + 1 >= amounts[greedy]:
            greedy = client.address
        connections = self._waiting.get(greedy)
        if connections is None:
            return None
        longest = max(connections, key=lambda each: len(connections[each]))
        if greedy == client.address and len(connections.get(client.connection, ())) + 1 >= len(connections[longest]):
            return None
        return Client(greedy, longest)

    def _remove(self, client: Client, *, newest: bool) -> T:
        connections = self._waiting[client.address]
        items = connections[client.connection]
        item = items.pop() if newest else items.popleft()
        self._count -= 1
        if not items:
            del connections[client.connection]
        if not connections:
            del self._waiting[client.address]
        return item
