"""What was popped and is not acknowledged yet.

A check point stands for the messages that one pop took from one queue.  Those that nobody has acknowledged when their invisible
time is over go to the group's retry topic, so that they are popped again.

Source: Apache RocketMQ 5.5.0, module broker, classes ``PopReviveService``, ``AckMessageProcessor``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from grocketmq.embedded.clock import Timer, Timers
from grocketmq.embedded.delay import Draft, Intake
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.store import MessageStore
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
    :param retry_topic_v2: by which of its two names a POP retry topic goes.
    """

    def __init__(
        self,
        store: MessageStore,
        intake: Intake,
        topics: TopicTable,
        offsets: OffsetTable,
        timers: Timers,
        retry_topic_v2: bool,
    ) -> None:
        self._store = store
        self._intake = intake
        self._topics = topics
        self._offsets = offsets
        self._timers = timers
        self._retry_topic_v2 = retry_topic_v2
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
        self._points[key] = _CheckPoint({*offsets, *(old.offsets if old is not None else ())}, timer)

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
            point.offsets.difference_update(offsets)
            if not point.offsets:
                point.timer.cancel()
                del self._points[key]

    def unacknowledged(self) -> dict[PoppedQueue, list[int]]:
        """The offsets handed out and not acknowledged, by queue."""
        found: dict[PoppedQueue, list[int]] = {}
        for key, point in self._points.items():
            found.setdefault(key.queue, []).extend(sorted(point.offsets))
        return found

    def forget_topic(self, topic: str) -> None:
        """Drop what was popped of a topic."""
        for key in [key for key in self._points if key.queue.topic == topic]:
            self._points.pop(key).timer.cancel()

    def _revive(self, key: _Key) -> None:
        """The invisible time is over."""
        point = self._points.pop(key)
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
        self._intake.put_plain(
            Draft(
                topic,
                0,
                message.body,
                properties,
                message.sys_flag,
                message.flag,
                message.born_timestamp,
                self._store.store_host,
                message.reconsume_times + 1,
            )
        )
