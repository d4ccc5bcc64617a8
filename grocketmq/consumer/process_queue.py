"""``ProcessQueue``: what has been pulled from one queue, what is in hand, and what is done.

It knows neither network nor clock nor greenlets: no method switches, and all times are the caller's, in seconds of one
monotonic clock.

Source: Apache RocketMQ 5.3.3, module client, class ``ProcessQueue``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from grocketmq.model.message import MessageExt

__all__ = ["LOCK_LIFE", "NO_OFFSET", "PULL_IDLE_LIMIT", "ProcessQueue"]

#: Seconds after which a consumer no longer trusts a lock it has not renewed; the broker itself waits for 60.
LOCK_LIFE = 30.0
#: Seconds without a pull after which an assigned queue counts as broken and is rebuilt.
PULL_IDLE_LIMIT = 120.0
#: Stands for "there is nothing to commit".
NO_OFFSET = -1

#: How many messages of one queue are given up in one round of cleaning, so that a stuck listener does not flood the broker.
_EXPIRED_PER_ROUND = 16
#: How many removed offsets may stay in the order, beside as many as there are waiting ones, before it is made anew.
_STALE_ALLOWANCE = 1000


class ProcessQueue:
    """The messages of one assigned queue on their way from the pull to the committed offset.

    A concurrent consumer uses ``put``, ``mark_started``, ``remove`` and ``expired``; a message stays here until it is removed.
    An orderly consumer uses ``put`` and ``take``, and ends each batch by ``commit``, ``rollback`` or ``put_back``.

    :param now: the time of its making, from which idle times count.
    """

    __slots__ = (
        "_last_put",
        "_order",
        "_started",
        "_taken",
        "_waiting",
        "accumulated",
        "consuming",
        "dropped",
        "last_consume",
        "last_lock",
        "last_pull",
        "locked",
        "released",
        "size_bytes",
        "unlock_tries",
        "unlocking_since",
    )

    def __init__(self, now: float) -> None:
        #: Held and not taken: queue offset to message.
        self._waiting: dict[int, MessageExt] = {}
        #: The keys of ``_waiting`` in order, and some that were removed since; never one of those at the left end.
        self._order: deque[int] = deque()
        #: Taken by an orderly consumer, not committed.
        self._taken: dict[int, MessageExt] = {}
        #: Queue offset to the time a listener got the message.
        self._started: dict[int, float] = {}
        #: Offset of the message that was put last.
        self._last_put = 0

        #: Bytes of the bodies held, taken ones too.
        self.size_bytes = 0
        #: How many messages the broker had beyond the last pull that found some.
        self.accumulated = 0
        #: Whether an orderly consumer is at work here, or about to be.
        self.consuming = False
        #: Set when the queue is no longer this consumer's: nothing may be pulled, handed out or committed any more.
        self.dropped = False
        #: Set when the queue was let go of, and its offset stored: nothing may be committed any more.
        self.released = False
        #: Whether the broker has locked the queue for this consumer; see also :meth:`lock_expired`.
        self.locked = False
        #: When the lock was last got or renewed.
        self.last_lock = now
        #: When the last pull was sent.
        self.last_pull = now
        #: When messages were last taken or finished.
        self.last_consume = now
        #: How often giving up the queue was put off for a batch under way.
        self.unlock_tries = 0
        #: When giving up the queue was first tried.
        self.unlocking_since: float | None = None

    def put(self, messages: Sequence[MessageExt], max_offset: int | None = None) -> bool:
        """Add what a pull found; an offset that is held already is ignored.

        :param messages: messages of this queue, as pulled.
        :param max_offset: the queue's end as the answer told it, for :attr:`accumulated`.
        :returns: whether an orderly consumer is to be set to work, which is then taken as done.
        """
        waiting = self._waiting
        size = self.size_bytes
        fresh: list[int] = []
        for message in messages:
            offset = message.queue_offset
            if offset not in waiting:
                waiting[offset] = message
                size += len(message.body)
                fresh.append(offset)
        self.size_bytes = size
        if fresh:
            self._last_put = fresh[-1]
            self._enlist(fresh)
        if messages and max_offset is not None and max_offset > messages[-1].queue_offset:
            self.accumulated = max_offset - messages[-1].queue_offset
        if self.consuming or not waiting:
            return False
        self.consuming = True
        return True

    def take(self, limit: int) -> list[MessageExt]:
        """Hand the first messages to an orderly consumer; they stay counted until they are committed.

        When there are none, the consumer is taken to stop, and the next :meth:`put` asks for it again.

        :param limit: at most so many.
        :returns: the messages by offset, empty when none is waiting.
        """
        waiting, order, taken = self._waiting, self._order, self._taken
        batch: list[MessageExt] = []
        while order:
            offset = order[0]
            message = waiting.get(offset)
            if message is not None:
                if len(batch) >= limit:
                    break
                del waiting[offset]
                taken[offset] = message
                batch.append(message)
            order.popleft()
        if not batch:
            self.consuming = False
        return batch

    def remove(self, messages: Collection[MessageExt]) -> int:
        """Forget messages that are done or were sent back.

        :param messages: those to forget; some may be gone already.
        :returns: the offset to commit: the smallest one still held; one past the message put last when none is;
            ``NO_OFFSET`` when there was none before the call.
        """
        waiting = self._waiting
        if not waiting:
            return NO_OFFSET
        started = self._started
        for message in messages:
            offset = message.queue_offset
            held = waiting.pop(offset, None)
            if held is not None:
                self.size_bytes -= len(held.body)
                if offset in started:
                    del started[offset]
        order = self._order
        while order:
            offset = order[0]
            if offset in waiting:
                return offset
            order.popleft()
        return self._last_put + 1

    def mark_started(self, messages: Collection[MessageExt], now: float) -> None:
        """Note that a listener gets these messages now; those no longer held are passed over.

        :param messages: one listener call's messages.
        :param now: the time.
        """
        waiting, started = self._waiting, self._started
        for message in messages:
            if message.queue_offset in waiting:
                started[message.queue_offset] = now

    def expired(self, now: float, timeout: float, limit: int = _EXPIRED_PER_ROUND) -> list[MessageExt]:
        """The messages at the head that a listener has had for too long, and that so hold back the offset to commit.

        They stay held: send each back, then :meth:`remove` it if it is still ``in`` the queue.

        :param now: the time.
        :param timeout: seconds a listener may take.
        :param limit: at most so many.
        :returns: by offset, up to the first message that is not overdue.
        """
        overdue: list[MessageExt] = []
        for offset in self._order:
            message = self._waiting.get(offset)
            if message is None:
                continue
            since = self._started.get(offset)
            if since is None or now - since <= timeout or len(overdue) >= limit:
                break
            overdue.append(message)
        return overdue

    def commit(self) -> int:
        """Forget all that was taken.

        :returns: the offset to commit, ``NO_OFFSET`` when nothing was taken.
        """
        taken = self._taken
        if not taken:
            return NO_OFFSET
        offset = max(taken) + 1
        for message in taken.values():
            self.size_bytes -= len(message.body)
        taken.clear()
        return offset

    def rollback(self) -> None:
        """Put back all that was taken."""
        self.put_back(list(self._taken.values()))

    def put_back(self, messages: Collection[MessageExt]) -> None:
        """Make taken messages wait again; the next :meth:`take` gives them in their places.

        :param messages: of those taken; others are passed over.
        """
        back = [message for message in messages if self._taken.pop(message.queue_offset, None) is not None]
        if back:
            self._waiting.update((message.queue_offset, message) for message in back)
            self._enlist([message.queue_offset for message in back])

    def clear(self) -> None:
        """Forget everything, as after an offset reset."""
        self._waiting.clear()
        self._order.clear()
        self._taken.clear()
        self._started.clear()
        self._last_put = 0
        self.size_bytes = 0

    def __contains__(self, message: MessageExt) -> bool:
        """Whether the message waits here; a taken or removed one does not."""
        return message.queue_offset in self._waiting

    @property
    def count(self) -> int:
        """How many messages are held, taken ones too."""
        return len(self._waiting) + len(self._taken)

    @property
    def has_messages(self) -> bool:
        """Whether any message waits, taken ones aside."""
        return bool(self._waiting)

    @property
    def span(self) -> int:
        """From the first to the last waiting offset, 0 when none waits; large when one slow message holds the others back."""
        if not self._waiting:
            return 0
        order = self._order
        while order[-1] not in self._waiting:
            order.pop()
        return order[-1] - order[0]

    def offsets(self) -> list[int]:
        """The waiting offsets, in order."""
        return [offset for offset in self._order if offset in self._waiting]

    def taken_offsets(self) -> list[int]:
        """The taken and not committed offsets, in order."""
        return sorted(self._taken)

    def lock_expired(self, now: float) -> bool:
        """Whether the lock was last renewed too long ago to be trusted."""
        return now - self.last_lock > LOCK_LIFE

    def pull_expired(self, now: float) -> bool:
        """Whether nobody has pulled for so long that the queue must be rebuilt."""
        return now - self.last_pull > PULL_IDLE_LIMIT

    def _enlist(self, offsets: list[int]) -> None:
        """Bring offsets that now wait into the order: at an end, where they nearly always belong, or by sorting anew."""
        order = self._order
        offsets.sort()
        crowded = len(order) > 2 * len(self._waiting) + _STALE_ALLOWANCE
        if not crowded and (not order or offsets[0] > order[-1]):
            order.extend(offsets)
        elif not crowded and offsets[-1] < order[0]:
            order.extendleft(reversed(offsets))
        else:
            self._order = deque(sorted(self._waiting))

    def __repr__(self) -> str:
        marks = "".join(f" {mark}" for mark in ("dropped", "locked", "consuming") if getattr(self, mark))
        return f"<ProcessQueue {len(self._waiting)} waiting, {len(self._taken)} taken, {self.size_bytes} bytes{marks}>"
