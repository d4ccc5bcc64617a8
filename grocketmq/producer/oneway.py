"""Paces oneway sends.

A 5.x broker drops oneway requests without a word when its send queue (10,000 requests by default) is full, or when one
has waited there for 200 ms.  So one oneway message in some hundred asks for an answer, and no more go out while too
many of those answers are missing: what is under way stays far below the queue's bound.
"""

from __future__ import annotations

from collections.abc import Callable

from gevent.lock import Semaphore

from grocketmq.errors import TooManyRequestsError
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["OnewayPacer"]

#: One message of so many asks for an answer.
PROBE_EVERY = 128
#: So many of those answers may be missing.
MAX_PROBES = 4


class _Lane:
    """The oneway sends to one broker."""

    def __init__(self) -> None:
        self.sent = 0
        self.probes = Semaphore(MAX_PROBES)


class OnewayPacer:
    """Decides which oneway message asks for an answer.

    :param tasks: owns the greenlets that wait for those answers.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._lanes: dict[str, _Lane] = {}

    def probe(self, broker_name: str, deadline: Deadline, send: Callable[[], object]) -> bool:
        """Count a message; if it is its turn, send it so that it is answered.  Blocks only while too many answers are missing.

        :param broker_name: where it goes.
        :param deadline: when to give up waiting.
        :param send: sends it and waits for its answer; runs in a greenlet of its own.
        :returns: whether the message was taken over; else the caller sends it oneway.
        :raises TooManyRequestsError: when the broker does not keep up.
        """
        lane = self._lanes.get(broker_name)
        if lane is None:
            lane = self._lanes[broker_name] = _Lane()
        lane.sent += 1
        if lane.sent % PROBE_EVERY:
            return False
        if not lane.probes.acquire(timeout=deadline.remaining()):
            raise TooManyRequestsError(f"broker {broker_name} does not keep up with oneway messages")
        self._tasks.spawn(f"oneway probe to {broker_name}", self._send, lane, send)
        return True

    def _send(self, lane: _Lane, send: Callable[[], object]) -> None:
        try:
            send()
        finally:
            lane.probes.release()
