"""Paces oneway sends.

A 5.x broker drops oneway requests without a word when its send queue (10,000 requests by default) is full, or when one
has waited there for 200 ms.  So one oneway message in some hundred asks for an answer, and how many of those answers
may be missing follows from how long they take: what is under way stays far below both bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gevent.event import Event

from grocketmq.errors import TooManyRequestsError
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["OnewayPacer"]

#: One message of so many asks for an answer.
PROBE_EVERY = 128
#: So many of those answers may be missing at first, and at most.
FIRST_WINDOW = 4
LARGEST_WINDOW = 16
#: Seconds: an answer that is faster widens the window, one that is slower halves it.
FAST = 0.04
SLOW = 0.08
#: Seconds of CPU a burst may take before the event loop gets its turn.
_BURST = 0.002


class _Lane:
    """The oneway sends to one broker."""

    def __init__(self) -> None:
        self.sent = 0
        self.window = FIRST_WINDOW
        self.missing = 0
        self.room = Event()

    def answered(self, seconds: float) -> None:
        """An answer came, or failed to."""
        self.missing -= 1
        if seconds < FAST:
            self.window = min(LARGEST_WINDOW, self.window + 1)
        elif seconds > SLOW:
            self.window = max(1, self.window // 2)
        self.room.set()


class OnewayPacer:
    """Decides which oneway message asks for an answer; belongs to the hub in which it was made.

    :param tasks: owns the greenlets that wait for those answers.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._lanes: dict[str, _Lane] = {}
        self._gate = FairGate(_BURST)

    def turn(self, broker_name: str, deadline: Deadline) -> bool:
        """Count a message.  Blocks only when it is one that asks for an answer: while too many of those are missing, and to
        let the event loop have its turn.

        :param broker_name: where it goes.
        :param deadline: when to give up waiting.
        :returns: whether it asks for an answer; then :meth:`watch` must follow.
        :raises TooManyRequestsError: when the broker does not keep up.
        """
        lane = self._lanes.get(broker_name)
        if lane is None:
            lane = self._lanes[broker_name] = _Lane()
        lane.sent += 1
        if lane.sent % PROBE_EVERY:
            return False
        self._gate.pass_through()
        while lane.missing >= lane.window:
            lane.room.clear()
            if not lane.room.wait(deadline.remaining()):
                raise TooManyRequestsError(f"broker {broker_name} does not keep up with oneway messages")
        return True

    def watch(self, broker_name: str, answer: Callable[[], object], give_up: Callable[[], None]) -> None:
        """Wait for an answer in the background; never blocks.

        :param broker_name: who answers.
        :param answer: waits for it.
        :param give_up: called instead when the wait was cut off before it began; must not block.
        """
        lane = self._lanes[broker_name]
        lane.missing += 1
        began: float | None = None

        def wait() -> None:
            nonlocal began
            began = monotonic()
            try:
                answer()
            finally:
                lane.answered(monotonic() - began)

        def ended(_: object) -> None:
            if began is None:  # it was killed before it ran
                lane.answered(FAST)
                give_up()

        self._tasks.spawn(f"oneway probe to {broker_name}", wait).rawlink(ended)

    def close(self) -> None:
        """End; never blocks."""
        self._gate.close()
