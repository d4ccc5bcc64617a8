"""Where a group's offsets are kept.

Source: Apache RocketMQ 5.3.3, module client, classes ``RemoteBrokerOffsetStore``, ``ControllableOffset``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

import gevent

from grocketmq.client.instance import ClientInstance
from grocketmq.errors import GRocketMQError, QueryNotFoundError, RemotingError, RouteNotFoundError
from grocketmq.model.route import MASTER_ID, MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.turns import in_small_turns, in_turns

__all__ = ["OffsetStore", "RemoteBrokerOffsetStore"]

log = logging.getLogger(__name__)

#: Seconds to find the broker of a queue whose offset is read or stored.
_FIND_TIMEOUT = 3.0
#: Seconds after which an offset that did not move is stored again all the same: a broker that crashed may have lost it.
STORE_AGAIN = 60.0


class OffsetStore(Protocol):
    """What a consumer asks of a store.  ``update`` and its kin change memory only; ``persist`` brings it where it lasts."""

    def open(self, instance: ClientInstance, group: str) -> None:
        """Get ready for a group; called once, when the consumer starts."""

    def read(self, queue: MessageQueue) -> int | None:
        """The stored offset, asked anew; None when there is none.  A failure to ask is an error, never None."""

    def in_memory(self, queue: MessageQueue) -> int | None:
        """The offset reached here, stored or not; None when there is none.  Never blocks."""

    def update(self, queue: MessageQueue, offset: int, *, increase_only: bool) -> None:
        """Move the offset in memory; never blocks."""

    def update_and_freeze(self, queue: MessageQueue, offset: int) -> None:
        """Set the offset and ignore every later update until the queue is removed; never blocks."""

    def persist(self, queues: Iterable[MessageQueue]) -> None:
        """Store the offsets of these queues, and forget those of others; errors are logged and met again next time."""

    def persist_one(self, queue: MessageQueue) -> bool:
        """Store the offset of one queue; an error is logged.

        :returns: whether there is nothing left to store.
        """

    def flush(self, queues: Iterable[MessageQueue]) -> None:
        """Store the offsets of these queues; an error is raised once all were tried."""

    def remove(self, queue: MessageQueue) -> None:
        """Forget the offset in memory; never blocks."""


class _Offset:
    __slots__ = ("frozen", "stored", "stored_at", "value")

    def __init__(self, value: int) -> None:
        self.value = value
        self.frozen = False
        #: What the broker took last, and when.
        self.stored: int | None = None
        self.stored_at = 0.0

    def due(self) -> bool:
        """Whether the broker does not have it, or might have lost it since."""
        return self.value != self.stored or monotonic() - self.stored_at > STORE_AGAIN


class RemoteBrokerOffsetStore:
    """Offsets kept by the brokers, for groups whose members share the messages.

    Unlike Java's, it waits for the broker's answer when it stores, so a refusal is seen; offsets that did not move are stored
    once a minute only.
    """

    def __init__(self) -> None:
        self._offsets: dict[MessageQueue, _Offset] = {}
        self._refused: set[MessageQueue] = set()

    def open(self, instance: ClientInstance, group: str) -> None:
        """See :class:`OffsetStore`."""
        self._instance = instance
        self._group = group

    def read(self, queue: MessageQueue) -> int | None:
        """Ask the queue's broker; blocks at most 5 s.

        :raises RemotingError: when there is no answer.
        :raises BrokerError: when the broker cannot tell.
        """
        try:
            offset = self._instance.api.query_offset(self._address(queue), self._group, queue)
        except QueryNotFoundError:
            return None
        return offset if offset >= 0 else None

    def in_memory(self, queue: MessageQueue) -> int | None:
        """See :class:`OffsetStore`."""
        offset = self._offsets.get(queue)
        return None if offset is None else offset.value

    def update(self, queue: MessageQueue, offset: int, *, increase_only: bool) -> None:
        """See :class:`OffsetStore`."""
        known = self._offsets.get(queue)
        if known is None:
            self._offsets[queue] = _Offset(offset)
        elif not known.frozen and (not increase_only or offset > known.value):
            known.value = offset

    def update_and_freeze(self, queue: MessageQueue, offset: int) -> None:
        """See :class:`OffsetStore`."""
        known = self._offsets[queue] = _Offset(offset)
        known.frozen = True

    def persist(self, queues: Iterable[MessageQueue]) -> None:
        """See :class:`OffsetStore`.  Asks all brokers at once, so that one which does not answer holds up no other's offsets;
        for that one it blocks at most 5 s."""
        wanted = set(in_turns(queues))
        due = []
        for queue, offset in in_turns(list(self._offsets.items())):
            if queue not in wanted:
                self.remove(queue)
            elif offset.due():
                due.append(queue)
        spawn = self._instance.tasks.spawn
        calls = []
        try:
            for name, some in in_small_turns(_by_broker(due).items()):
                calls.append(spawn(f"store offsets at {name}", self._persist_at, some))
            gevent.joinall(calls)
        finally:
            # Whoever waited was cut off: nothing may be stored later, when others have the queues.
            gevent.killall(calls, block=False)

    def persist_one(self, queue: MessageQueue) -> bool:
        """See :class:`OffsetStore`; blocks at most 5 s."""
        return not self._persist_at([queue])

    def flush(self, queues: Iterable[MessageQueue]) -> None:
        """See :class:`OffsetStore`; one broker after the other, and blocks at most 5 s for one that does not answer."""
        failures: dict[MessageQueue, GRocketMQError] = {}
        for some in _by_broker(queues).values():
            failures.update(self._store_at(some))
        for failure in failures.values():
            raise failure

    def remove(self, queue: MessageQueue) -> None:
        """See :class:`OffsetStore`."""
        self._offsets.pop(queue, None)
        self._refused.discard(queue)

    def _persist_at(self, queues: list[MessageQueue]) -> dict[MessageQueue, GRocketMQError]:
        """Store offsets at one broker; failures are logged, and returned."""
        failures = self._store_at(queues)
        for queue, error in failures.items():
            if queue not in self._refused:  # once for each time it begins to fail
                self._refused.add(queue)
                log.warning("offset %s of %s for group %s not stored: %s", self.in_memory(queue), queue, self._group, error)
        return failures

    def _store_at(self, queues: list[MessageQueue]) -> dict[MessageQueue, GRocketMQError]:
        """Store offsets at one broker; it is left alone once it did not answer, since each other queue would wait as long."""
        failures: dict[MessageQueue, GRocketMQError] = {}
        for queue in queues:
            try:
                self._store(queue)
            except GRocketMQError as error:
                failures[queue] = error
                if isinstance(error, RemotingError):
                    break
        return failures

    def _store(self, queue: MessageQueue) -> None:
        offset = self._offsets.get(queue)
        if offset is not None:
            value = offset.value
            self._instance.api.update_offset(self._address(queue), self._group, queue, value, oneway=False)
            offset.stored, offset.stored_at = value, monotonic()
            self._refused.discard(queue)

    def _address(self, queue: MessageQueue) -> str:
        """Its broker's master; while there is none, a slave, which knows the offsets too."""
        try:
            return self._instance.master_address(queue, Deadline(_FIND_TIMEOUT))
        except RouteNotFoundError:
            return self._instance.routes.broker_for_pull(queue, MASTER_ID)[0]


def _by_broker(queues: Iterable[MessageQueue]) -> dict[str, list[MessageQueue]]:
    groups: dict[str, list[MessageQueue]] = {}
    for queue in in_turns(queues):
        groups.setdefault(queue.broker_name, []).append(queue)
    return groups
