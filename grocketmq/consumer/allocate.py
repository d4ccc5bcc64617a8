"""Which queues of a topic each member of a group consumes.

The members do not talk to each other: each works out its own share from the same two sorted lists, so all must come to the same
division, whatever they are written in.  Hence every strategy gives exactly what Java's gives, oddities included.

Source: Apache RocketMQ 5.3.3, module client, package ``consumer.rebalance``; module common, class ``ConsistentHashRouter``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import md5
from typing import Protocol, TypeVar

from grocketmq.errors import ConfigError
from grocketmq.hashing import utf16_order
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.turns import in_turns

__all__ = [
    "AllocateAveragely",
    "AllocateAveragelyByCircle",
    "AllocateByConfig",
    "AllocateByMachineRoom",
    "AllocateConsistentHash",
    "AllocateMachineRoomNearby",
    "AllocateStrategy",
    "sort_client_ids",
]

_T = TypeVar("_T")

#: Points of one member on the ring of :class:`AllocateConsistentHash`.
_VIRTUAL_NODES = 10


class AllocateStrategy(Protocol):
    """How queues are shared out; any object with these two members will do.

    All members of a group must use the same strategy, and it may depend on nothing but what ``allocate`` is given.
    """

    @property
    def name(self) -> str:
        """What the strategy is called in logs and running info, as Java calls it."""

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """One member's share; blocks at most to let other greenlets run, when there are thousands of queues or members.

        :param client_id: the member's own id.
        :param queues: all queues of the topic, sorted.
        :param client_ids: the ids of all members, sorted by :func:`sort_client_ids`.
        :returns: the member's queues; none when it is not among ``client_ids``.
        :raises ConfigError: when any of the three is empty.
        """


def sort_client_ids(client_ids: Iterable[str]) -> list[str]:
    """The members in the order that all of them must use: by UTF-16 code unit.

    :param client_ids: the ids, as a broker listed them.
    :returns: a new list.
    """
    return sorted(client_ids, key=utf16_order)


def _is_member(client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> bool:
    if not client_id:
        raise ConfigError("allocation: the own client id is empty")
    if not queues:
        raise ConfigError("allocation: there is no queue to share out")
    if not client_ids:
        raise ConfigError("allocation: the group has no member")
    return client_id in client_ids


class AllocateAveragely:
    """Contiguous blocks of equal size, the first members getting one more where it does not divide; the default."""

    name = "AVG"

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """See :meth:`AllocateStrategy.allocate`."""
        if not _is_member(client_id, queues, client_ids):
            return []
        index = client_ids.index(client_id)
        size, rest = divmod(len(queues), len(client_ids))
        start = index * size + min(index, rest)
        return list(queues[start : start + size + (index < rest)])


class AllocateAveragelyByCircle:
    """One queue after the other dealt out in turn."""

    name = "AVG_BY_CIRCLE"

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """See :meth:`AllocateStrategy.allocate`."""
        if not _is_member(client_id, queues, client_ids):
            return []
        return list(queues[client_ids.index(client_id) :: len(client_ids)])


class AllocateByConfig:
    """A fixed list, whoever else is in the group.

    :param queues: the member's queues, for every topic it subscribes.
    """

    name = "CONFIG"

    def __init__(self, queues: Iterable[MessageQueue]) -> None:
        self._queues = tuple(queues)

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """The fixed list; the arguments do not matter."""
        return list(self._queues)


class AllocateByMachineRoom:
    """The queues of some machine rooms, shared by all members; the others are consumed by nobody.

    A broker tells its room by its name, ``room@name``.

    :param rooms: the rooms to consume from.
    """

    name = "MACHINE_ROOM"

    def __init__(self, rooms: Collection[str]) -> None:
        self._rooms = frozenset(rooms)

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """See :meth:`AllocateStrategy.allocate`."""
        if not _is_member(client_id, queues, client_ids):
            return []
        inside = [queue for queue in in_turns(queues) if _room_of(queue.broker_name) in self._rooms]
        index, members = client_ids.index(client_id), len(client_ids)
        size = len(inside) // members
        leftovers = inside[size * members :]
        return inside[index * size : (index + 1) * size] + leftovers[index : index + 1]


def _room_of(broker_name: str) -> str | None:
    # Java's String.split does not count empty pieces at the end.
    pieces = broker_name.rstrip("@").split("@")
    return pieces[0] if len(pieces) == 2 else None


class AllocateMachineRoomNearby:
    """Each machine room's queues to the members in that room; those of a room without members are shared by all.

    :param inner: the strategy used within a room, and for the queues of rooms without members.
    :param room_of_broker: the room of a queue's broker.
    :param room_of_consumer: the room of a client id.
    """

    def __init__(
        self,
        inner: AllocateStrategy,
        room_of_broker: Callable[[MessageQueue], str],
        room_of_consumer: Callable[[str], str],
    ) -> None:
        self._inner = inner
        self._room_of_broker = room_of_broker
        self._room_of_consumer = room_of_consumer

    @property
    def name(self) -> str:
        """Both names, this one's and the inner one's."""
        return f"MACHINE_ROOM_NEARBY-{self._inner.name}"

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """See :meth:`AllocateStrategy.allocate`.

        :raises ConfigError: also when a broker or a member has no room.
        """
        if not _is_member(client_id, queues, client_ids):
            return []
        queues_in = _by_room(queues, self._room_of_broker)
        members_in = _by_room(client_ids, self._room_of_consumer)
        own_room = self._room_of_consumer(client_id)
        share: list[MessageQueue] = []
        if own_room in queues_in:
            share += self._inner.allocate(client_id, queues_in[own_room], members_in[own_room])
        for room in sorted(queues_in.keys() - members_in.keys(), key=utf16_order):
            share += self._inner.allocate(client_id, queues_in[room], client_ids)
        return share


def _by_room(things: Iterable[_T], room_of: Callable[[_T], str]) -> dict[str, list[_T]]:
    rooms: dict[str, list[_T]] = {}
    for thing in in_turns(things):
        room = room_of(thing)
        if not room:
            raise ConfigError(f"allocation: no machine room is known for {thing!r}")
        rooms.setdefault(room, []).append(thing)
    return rooms


class AllocateConsistentHash:
    """Members and queues on a ring of hashes, so that a change of members moves few queues; the shares are uneven.

    :param virtual_nodes: points of each member on the ring; more make the shares more even.
    :param hash_function: a text's place on the ring; left out, Java's: the first four bytes of its MD5.
    :raises ConfigError: when ``virtual_nodes`` is negative.
    """

    name = "CONSISTENT_HASH"

    def __init__(self, virtual_nodes: int = _VIRTUAL_NODES, hash_function: Callable[[str], int] | None = None) -> None:
        if virtual_nodes < 0:
            raise ConfigError(f"virtual_nodes is {virtual_nodes}, but a member cannot have fewer than no points")
        self._virtual_nodes = virtual_nodes
        self._hash = hash_function or _md5_place

    def allocate(self, client_id: str, queues: Sequence[MessageQueue], client_ids: Sequence[str]) -> list[MessageQueue]:
        """See :meth:`AllocateStrategy.allocate`."""
        if not _is_member(client_id, queues, client_ids):
            return []
        ring = self._ring(client_ids)
        places = sorted(ring)
        if not places:
            return []
        share = []
        for queue in in_turns(queues):
            at = bisect_left(places, self._hash(_text(queue)))
            if ring[places[at if at < len(places) else 0]] == client_id:
                share.append(queue)
        return share

    def _ring(self, client_ids: Sequence[str]) -> dict[int, str]:
        """Place on the ring to member.

        Of points that fall on one place the later wins; an id that comes twice gets further points.
        """
        ring: dict[int, str] = {}
        points: Counter[str] = Counter()
        for client_id in in_turns(client_ids):
            first = points[client_id]
            for number in range(first, first + self._virtual_nodes):
                place = self._hash(f"{client_id}-{number}")
                if place in ring:
                    points[ring[place]] -= 1
                ring[place] = client_id
                points[client_id] += 1
        return ring


def _text(queue: MessageQueue) -> str:
    """The queue as ``MessageQueue.toString`` writes it in Java, which is what is hashed."""
    return f"MessageQueue [topic={queue.topic}, brokerName={queue.broker_name}, queueId={queue.queue_id}]"


def _md5_place(text: str) -> int:
    # Java writes a lone surrogate as "?"; no secret is at stake, so FIPS builds may use it.
    return int.from_bytes(md5(text.encode("utf-8", "replace"), usedforsecurity=False).digest()[:4], "big")
