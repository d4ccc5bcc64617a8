"""What a lite pull consumer has: its queues, their cached messages, and how far each was handed out.

Source: Apache RocketMQ 5.3.3, module client, classes ``AssignedMessageQueue``, ``DefaultLitePullConsumerImpl``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from time import monotonic

import gevent
from gevent.event import Event
from gevent.queue import Empty, Queue

from grocketmq.consumer.config import LitePullConsumerConfig
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.errors import ClientStateError
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline

__all__ = ["AssignedQueue", "AssignedQueues"]

#: Queues that are woken at once; each lets in so many again.
_LET_IN = 16


class AssignedQueue:
    """One queue of a lite pull consumer.

    :param request: where its first pull begins.
    """

    __slots__ = ("committed", "handed_out", "held", "paused", "pulling", "queue", "request", "wake")

    def __init__(self, request: PullRequest) -> None:
        self.queue = request.queue
        #: What was pulled and not handed out; its mark ``consuming`` says that the queue is in the line for polls.
        self.held: ProcessQueue = request.process_queue
        #: Where the next pull begins.  Another one takes its place at a seek: an answer to the old one is thrown away.
        self.request = request
        #: One past the message handed out last.
        self.handed_out = request.next_offset
        #: The position that was committed last, and surely stored; None for none.
        self.committed: int | None = None
        self.paused = False
        #: Set when there may be room for more messages, or the pause has ended.
        self.wake = Event()
        #: What pulls it.
        self.pulling: gevent.Greenlet | None = None

    @property
    def position(self) -> int:
        """The first offset that was not handed out; what a filter left out counts as handed out."""
        return self.handed_out if self.held.has_messages else self.request.next_offset


class AssignedQueues:
    """The queues of one consumer, and the line in which those with messages wait for polls.

    :param settings: the consumer's.
    :param process_queues: all that the consumer's rebalance has taken.
    """

    def __init__(self, settings: LitePullConsumerConfig, process_queues: Mapping[MessageQueue, ProcessQueue]) -> None:
        #: Messages cached, over all queues, and the bytes of their bodies.
        self.count = 0
        self.size_bytes = 0
        self._most = settings.max_cached_messages
        self._most_bytes = settings.max_cached_bytes
        self._queues: dict[MessageQueue, AssignedQueue] = {}
        self._flow_control = FlowControl(settings, process_queues)
        self._line: Queue[AssignedQueue | None] = Queue()
        #: Those that were not pulled because all queues together had too much, in the order in which they asked.
        self._crowd: dict[AssignedQueue, None] = {}

    def __iter__(self) -> Iterator[AssignedQueue]:
        return iter(list(self._queues.values()))

    def get(self, queue: MessageQueue) -> AssignedQueue | None:
        """A queue that is this consumer's; None for others, and for one that is being given back.  Never blocks."""
        assigned = self._queues.get(queue)
        return None if assigned is None or assigned.held.dropped else assigned

    def add(self, request: PullRequest) -> AssignedQueue:
        """Take a queue in; never blocks."""
        assigned = self._queues[request.queue] = AssignedQueue(request)
        return assigned

    def remove(self, queue: MessageQueue) -> AssignedQueue | None:
        """Forget a queue and its messages; never blocks.

        :returns: it, None when it was not there.
        """
        assigned = self._queues.pop(queue, None)
        if assigned is not None:
            self._crowd.pop(assigned, None)
            self._clear(assigned)
        return assigned

    def close(self) -> None:
        """Have every poll end, those to come too; never blocks."""
        self._line.put(None)

    # -- in ------------------------------------------------------------------------------------------------------------------

    def has_room(self, assigned: AssignedQueue) -> bool:
        """Whether a queue may be pulled, for what is cached of it and over all; never blocks."""
        if (self._most is not None and self.count > self._most) or (
            self._most_bytes is not None and self.size_bytes > self._most_bytes
        ):
            self._crowd[assigned] = None
            return False
        self._crowd.pop(assigned, None)
        self._let_in()
        return not self._flow_control.fills(assigned.held)

    def put(self, assigned: AssignedQueue, messages: list[MessageExt], max_offset: int) -> None:
        """Cache what a pull found; never blocks."""
        held = assigned.held
        count, size = held.count, held.size_bytes
        due = held.put(messages, max_offset)
        self.count += held.count - count
        self.size_bytes += held.size_bytes - size
        if due:
            self._line.put(assigned)

    def move(self, assigned: AssignedQueue, offset: int) -> None:
        """Go on at an offset, with nothing of before: neither cached messages nor pulls under way.  Never blocks."""
        self._clear(assigned)
        assigned.request = PullRequest(assigned.queue, assigned.held, offset)
        assigned.handed_out = offset

    def resume(self, assigned: AssignedQueue) -> None:
        """Pull and hand out a paused queue again; never blocks."""
        assigned.paused = False
        assigned.wake.set()
        if assigned.held.has_messages and not assigned.held.consuming:
            assigned.held.consuming = True
            self._line.put(assigned)

    # -- out -----------------------------------------------------------------------------------------------------------------

    def take(self, limit: int, deadline: Deadline | None) -> list[MessageExt]:
        """Hand out the next messages of the queue whose turn it is; blocks while there are none, at most to the deadline.

        :param limit: at most so many.
        :param deadline: None for no end.
        :returns: messages of one queue, in order; empty when none came in time.
        :raises ClientStateError: when the queues are closed.
        """
        while True:
            try:
                assigned = self._line.get(timeout=None if deadline is None else deadline.remaining())
            except Empty:
                if deadline is None or deadline.expired:
                    return []
                continue  # libuv's timers may be a millisecond early
            if assigned is None:
                self._line.put(None)  # for the next one
                raise ClientStateError("the consumer was shut down while a poll waited for messages")
            batch = self._take_from(assigned, limit)
            if batch:
                return batch

    def _take_from(self, assigned: AssignedQueue, limit: int) -> list[MessageExt]:
        held = assigned.held
        if held.dropped or assigned.paused:
            held.consuming = False
            return []
        size = held.size_bytes
        batch = held.take(limit)
        if batch:
            assigned.handed_out = held.commit()
            held.last_consume = monotonic()
            self.count -= len(batch)
            self.size_bytes -= size - held.size_bytes
            if held.has_messages:
                self._line.put(assigned)
            else:
                held.consuming = False
            assigned.wake.set()
            self._let_in()
        return batch

    def _clear(self, assigned: AssignedQueue) -> None:
        self.count -= assigned.held.count
        self.size_bytes -= assigned.held.size_bytes
        assigned.held.clear()
        self._let_in()

    def _let_in(self) -> None:
        """After all queues together had too much, have some pulled again, which then let in further ones; only below the half,
        so as to wake them rarely."""
        if (
            self._crowd
            and (self._most is None or self.count <= self._most // 2)
            and (self._most_bytes is None or self.size_bytes <= self._most_bytes // 2)
        ):
            for assigned in list(islice(self._crowd, _LET_IN)):
                del self._crowd[assigned]
                assigned.wake.set()
