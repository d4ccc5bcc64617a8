"""What was popped and is not acknowledged yet.

A check point stands for the messages that one pop took from one queue.  Those that nobody has acknowledged when their invisible
time is over go to the group's retry topic, so that they are popped again.

Source: Apache RocketMQ 5.5.0, module broker, classes ``PopReviveService``, ``AckMessageProcessor``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from grocketmq.embedded.clock import Clock, Timer, Timers
from grocketmq.embedded.delay import Draft, Intake
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.store import MessageStore
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.model.namespace import is_retry_topic, pop_retry_topic_v1, pop_retry_topic_v2
from grocketmq.model.properties import Property
from grocketmq.wire.message_codec import decode_message

__all__ = ["CheckPoints", "PoppedQueue"]

_RETRY_QUEUES = 1
#: Brokers of 5.5 note for whom a message is tried again.
_ORIGIN_GROUP = "ORIGIN_GROUP"


class PoppedQueue(NamedTuple):
    """A queue as one group pops it; the topic is the one where the messages are stored."""

    group: str
    topic: str
    queue_id: int


class _Key(NamedTuple):
    queue: PoppedQueue
    pop_time: int
    start: int


@dataclass(slots=True)
class _CheckPoint:
    """Offsets that are not acknowledged, and what ends their invisible time."""

    offsets: set[int]
    timer: Timer


class CheckPoints:
    """The check points of one broker.

    :param store: its messages.
    :param intake: stores those that were not acknowledged.
    :param topics: its topics.
    :param offsets: its groups' offsets.
    :param timers: end invisible times.
    :param clock: the time.
    :param retry_topic_v2: by which of its two names a POP retry topic goes.
    """

    def __init__(
        self,
        store: MessageStore,
        intake: Intake,
        topics: TopicTable,
        offsets: OffsetTable,
        timers: Timers,
        clock: Clock,
        retry_topic_v2: bool,
    ) -> None:
        self._store = store
        self._intake = intake
        self._topics = topics
        self._offsets = offsets
        self._timers = timers
        self._clock = clock
        self._retry_topic_v2 = retry_topic_v2
        #: What is handed out and not acknowledged.
        self.popped: Table[PoppedQueue, set[int]] = Table()
        self._points: dict[_Key, _CheckPoint] = {}

    def retry_topic(self, topic: str, group: str, *, first_version: bool = False) -> str:
        """Where a group's messages of a topic wait for their next try.

        :param first_version: by the older name, whatever the broker is set to.
        """
        newer = self._retry_topic_v2 and not first_version
        return pop_retry_topic_v2(topic, group) if newer else pop_retry_topic_v1(topic, group)

    def add(self, queue: PoppedQueue, start: int, offsets: Iterable[int], pop_time: int, invisible_ms: int) -> None:
        """Note what was handed out; never blocks.

        :param start: where the pop began to read.
        :param pop_time: when, ms since the epoch.
        :param invisible_ms: for how long nobody else gets it.
        """
        key = _Key(queue, pop_time, start)
        old = self._points.pop(key, None)
        if old is not None:  # the group was moved back within a millisecond
            old.timer.cancel()
        timer = self._timers.after(invisible_ms / 1000, self._revive, key)
        point = self._points[key] = _CheckPoint({*offsets, *(old.offsets if old is not None else ())}, timer)
        self.popped.setdefault(queue, set()).update(point.offsets)
        self.popped.touch(queue)

    def move(self, queue: PoppedQueue, start: int, pop_time: int, offset: int, now_ms: int, invisible_ms: int) -> int:
        """Give one message a check point of its own, with another invisible time; never blocks.

        :param start: what its check point so far is known by, as is ``pop_time``.
        :returns: the pop time of the new one.
        """
        self.acknowledge(queue, start, (offset,), pop_time)
        while _Key(queue, now_ms, offset) in self._points:
            now_ms += 1
        self.add(queue, offset, (offset,), now_ms, invisible_ms)
        return now_ms

    def acknowledge(self, queue: PoppedQueue, start: int, offsets: Iterable[int], pop_time: int) -> None:
        """Note what is done; never blocks.  What no check point knows any more comes again in spite of it."""
        key = _Key(queue, pop_time, start)
        point = self._points.get(key)
        if point is not None:
            done = point.offsets.intersection(offsets)
            point.offsets -= done
            self._no_longer_out(queue, done)
            if not point.offsets:
                point.timer.cancel()
                del self._points[key]

    def load(self) -> None:
        """Have all tried again that was out when the broker ended; never blocks."""
        for queue, offsets in list(self.popped.items()):
            del self.popped[queue]
            self.add(PoppedQueue(*queue), -1, offsets, self._clock.now_ms(), 0)

    def _no_longer_out(self, queue: PoppedQueue, offsets: set[int]) -> None:
        out = self.popped.get(queue)
        if out is not None:
            out -= offsets
            if out:
                self.popped.touch(queue)
            else:
                del self.popped[queue]

    def forget_topic(self, topic: str) -> None:
        """Drop what was popped of a topic."""
        for key in [key for key in self._points if key.queue.topic == topic]:
            self._points.pop(key).timer.cancel()
        for queue in [queue for queue in self.popped if queue.topic == topic]:
            del self.popped[queue]

    def _revive(self, key: _Key) -> None:
        """The invisible time is over."""
        point = self._points.pop(key)
        self._no_longer_out(key.queue, point.offsets)
        queue = self._store.queue(key.queue.topic, key.queue.queue_id)
        for offset in sorted(point.offsets):
            frame = queue.at(offset)
            if frame is not None:
                self._try_again(key, frame)

    def _try_again(self, key: _Key, frame: bytes) -> None:
        group, topic, _ = key.queue
        message = decode_message(frame, decompress=False)
        properties = message.properties
        if message.reconsume_times == 0 or Property.FIRST_POP_TIME not in properties:
            properties[Property.FIRST_POP_TIME] = str(key.pop_time)
        properties.setdefault(_ORIGIN_GROUP, group)
        if not is_retry_topic(topic):
            topic = self.retry_topic(topic, group)
        self._topics.create_own(topic, _RETRY_QUEUES)
        self._offsets.offsets.setdefault((group, topic, 0), 0)
        draft = Draft.of(message, topic, 0)
        draft.born_host = self._store.store_host
        draft.reconsume_times += 1
        self._intake.put_plain(draft)
