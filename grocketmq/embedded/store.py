"""Messages in memory: one commit log of encoded frames, and for each queue the places of its messages in that log.

A message is kept as the bytes that a pull answers, so it is encoded once and never decoded on its way.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from grocketmq.embedded.filters import EVERYTHING, MessageFilter
from grocketmq.embedded.journal import Journal, LoggedMessage
from grocketmq.embedded.table import Table
from grocketmq.hashing import java_string_hash
from grocketmq.wire.flags import MessageSysFlag
from grocketmq.wire.message_codec import encode_message

__all__ = ["CommitLog", "ConsumeQueue", "GetStatus", "Got", "MessageStore", "Stored", "queue_offset_of", "tags_code"]

Host = tuple[bytes, int]

#: A pull looks at no more entries, so a filter that takes few messages cannot hold the event loop.
MAX_FILTERED = 800
#: When the log is full so much of it is dropped at once, as a part of all.
_DROP_PART = 0.1
_QUEUE_OFFSET_AT = 20
_STORE_TIME_AT = 56
_SYS_FLAG_AT = 36
_INT32 = Struct(">i")
_INT64 = Struct(">q")


@lru_cache(4096)
def tags_code(tags: str | None) -> int:
    """By what brokers filter: the Java hash of a message's tag, 0 without one."""
    return java_string_hash(tags) if tags else 0


def queue_offset_of(frame: bytes) -> int:
    """The queue offset that a stored message tells."""
    offset: int = _INT64.unpack_from(frame, _QUEUE_OFFSET_AT)[0]
    return offset


class GetStatus(Enum):
    """How a read of a queue ended; the values are the remarks of answers to pulls."""

    FOUND = "FOUND"
    NO_MATCHED = "NO_MATCHED_MESSAGE"
    NO_MESSAGE_IN_QUEUE = "NO_MESSAGE_IN_QUEUE"
    OVERFLOW_ONE = "OFFSET_OVERFLOW_ONE"
    OVERFLOW_BADLY = "OFFSET_OVERFLOW_BADLY"
    TOO_SMALL = "OFFSET_TOO_SMALL"
    RESET = "OFFSET_RESET"


class Got(NamedTuple):
    """What a read of a queue found.

    :param frames: the messages, encoded.
    """

    status: GetStatus
    next_offset: int
    min_offset: int
    max_offset: int
    frames: list[bytes]


class Stored(NamedTuple):
    """Where a message was put."""

    queue_offset: int
    commit_log_offset: int


class CommitLog:
    """All messages of a broker, one behind the other.

    :param max_bytes: when it grows beyond that, its oldest messages are dropped; None for no bound.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        #: Where the next message starts.
        self.end = 0
        #: The number of the first message kept.
        self.first = 0
        #: Told where the log begins after some of it was dropped.
        self.on_drop: Callable[[int], object] = lambda start: None
        self._frames: list[bytes] = []
        self._starts = array("q")

    @property
    def count(self) -> int:
        """How many messages were ever put here, as far as it knows."""
        return self.first + len(self._frames)

    def append(self, frame: bytes) -> int:
        """Add a message whose commit log offset is :attr:`end`; never blocks.

        :returns: its number.
        """
        self._frames.append(frame)
        self._starts.append(self.end)
        self.end += len(frame)
        if self.max_bytes is not None and self.end - self._starts[0] > self.max_bytes:
            self._drop(self.end - int(self.max_bytes * (1 - _DROP_PART)))
        return self.first + len(self._frames) - 1

    def frame(self, number: int) -> bytes:
        """The message of a number, which must be kept."""
        return self._frames[number - self.first]

    def at(self, offset: int) -> bytes | None:
        """The message that starts at an offset, None if none does."""
        place = bisect_left(self._starts, offset)
        if place == len(self._starts) or self._starts[place] != offset:
            return None
        return self._frames[place]

    def holding(self, text: bytes) -> Iterator[bytes]:
        """The messages that hold a text somewhere, newest first."""
        return (frame for frame in reversed(self._frames) if text in frame)

    def _drop(self, before: int) -> None:
        count = min(bisect_left(self._starts, before), len(self._frames) - 1)
        del self._frames[:count]
        del self._starts[:count]
        self.first += count
        self.on_drop(self._starts[0])


class ConsumeQueue:
    """One queue of a topic.

    :param log: where its messages are.
    :param first: the offset of its first message.
    """

    def __init__(self, log: CommitLog, first: int = 0) -> None:
        self._log = log
        self._first = first
        self._numbers = array("q")
        self._tags = array("i")

    @property
    def min_offset(self) -> int:
        """The offset of the first message kept."""
        self._trim()
        return self._first

    @property
    def max_offset(self) -> int:
        """The offset that the next message gets."""
        return self._first + len(self._numbers)

    def append(self, number: int, tags: int) -> None:
        """Add the message of that number in the commit log."""
        self._numbers.append(number)
        self._tags.append(tags)

    def get(self, offset: int, most: int, most_bytes: int, wanted: MessageFilter = EVERYTHING) -> Got:
        """Read; never blocks.

        :param offset: where to begin.
        :param most: at most so many messages.
        :param most_bytes: and so many bytes, but one message at least.
        :param wanted: which messages to take.
        """
        low, high = self.min_offset, self.max_offset
        if not high:
            return Got(GetStatus.NO_MESSAGE_IN_QUEUE, 0, low, high, [])
        if offset < low:
            return Got(GetStatus.TOO_SMALL, low, low, high, [])
        if offset == high:
            return Got(GetStatus.OVERFLOW_ONE, offset, low, high, [])
        if offset > high:
            return Got(GetStatus.OVERFLOW_BADLY, high, low, high, [])
        frames: list[bytes] = []
        size = 0
        place = offset - self._first
        numbers, tags, frame_of = self._numbers, self._tags, self._log.frame
        everything = wanted == EVERYTHING
        last = min(len(numbers), place + max(MAX_FILTERED, most))
        while place < last:
            frame = frame_of(numbers[place])
            if everything or wanted.takes(tags[place], frame):
                if frames and (len(frames) >= most or size + len(frame) > most_bytes):
                    break
                frames.append(frame)
                size += len(frame)
            place += 1
        return Got(GetStatus.FOUND if frames else GetStatus.NO_MATCHED, self._first + place, low, high, frames)

    def frames(self) -> Iterator[bytes]:
        """All its messages, oldest first."""
        self._trim()
        return map(self._log.frame, self._numbers)

    def at(self, offset: int) -> bytes | None:
        """The message at an offset, None when it is not kept (any more)."""
        low = self.min_offset
        return self._log.frame(self._numbers[offset - low]) if low <= offset < self.max_offset else None

    def holds(self, wanted: MessageFilter, offset: int) -> bool:
        """Whether a message at or behind an offset is wanted."""
        self._trim()
        first = max(0, offset - self._first)
        if wanted == EVERYTHING:
            return first < len(self._tags)
        frame_of, numbers, tags = self._log.frame, self._numbers, self._tags
        return any(wanted.takes(tags[place], frame_of(numbers[place])) for place in range(first, len(tags)))

    def search(self, timestamp_ms: int, *, upper: bool = False) -> int:
        """The first offset stored at or after a time; with ``upper`` the last one stored at or before it."""
        low, high = self.min_offset, self.max_offset
        if low == high:
            return low
        target = timestamp_ms + 1 if upper else timestamp_ms
        first, last = 0, len(self._numbers)
        while first < last:
            middle = (first + last) // 2
            if self._store_time(middle) < target:
                first = middle + 1
            else:
                last = middle
        return max(low, low + first - 1) if upper else low + first

    def earliest_time(self) -> int:
        """When its first message was stored, ms since the epoch; -1 without any."""
        return self._store_time(0) if self.min_offset < self.max_offset else -1

    def store_time(self, offset: int) -> int:
        """When the message at an offset was stored, ms since the epoch; -1 when it is not kept."""
        low = self.min_offset
        return self._store_time(offset - low) if low <= offset < self.max_offset else -1

    def _store_time(self, place: int) -> int:
        frame = self._log.frame(self._numbers[place])
        sys_flag: int = _INT32.unpack_from(frame, _SYS_FLAG_AT)[0]
        at = _STORE_TIME_AT + (12 if sys_flag & MessageSysFlag.BORN_HOST_V6 else 0)
        found: int = _INT64.unpack_from(frame, at)[0]
        return found

    def _trim(self) -> None:
        """Leave out what the log has dropped."""
        if self._numbers and self._numbers[0] < self._log.first:
            count = bisect_left(self._numbers, self._log.first)
            del self._numbers[:count]
            del self._tags[:count]
            self._first += count


class MessageStore:
    """A broker's messages.

    :param store_host: the broker's packed address and port, which every message carries.
    :param now_ms: the clock, ms since the epoch.
    :param max_bytes: how much to keep; None for all.
    """

    def __init__(self, store_host: Host, now_ms: Callable[[], int], max_bytes: int | None = None) -> None:
        self.store_host = store_host
        self.log = CommitLog(max_bytes)
        self.queues: dict[tuple[str, int], ConsumeQueue] = {}
        #: Told of each message: topic, queue id.
        self.on_arrival: Callable[[tuple[str, int]], None] = lambda key: None
        #: Where queues stand of which messages were dropped; kept so that offsets are never given twice.
        self.ends: Table[tuple[str, int], int] = Table()
        self._journal: Journal | None = None
        self._now_ms = now_ms

    def put(
        self,
        topic: str,
        queue_id: int,
        body: bytes,
        properties: str,
        tags: int,
        *,
        sys_flag: int = 0,
        flag: int = 0,
        born_timestamp: int = 0,
        born_host: Host,
        reconsume_times: int = 0,
        prepared_transaction_offset: int = 0,
    ) -> Stored:
        """Store a message; never blocks.  The parameters are those of :func:`~grocketmq.wire.message_codec.encode_message`.

        :param tags: its tag's code.
        :raises LocalProtocolError: for a message that cannot be stored.
        """
        key = (topic, queue_id)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = ConsumeQueue(self.log)
        queue_offset, start = queue.max_offset, self.log.end
        frame = encode_message(
            topic,
            body,
            properties,
            queue_id=queue_id,
            queue_offset=queue_offset,
            commit_log_offset=start,
            sys_flag=sys_flag,
            flag=flag,
            born_timestamp=born_timestamp,
            born_host=born_host,
            store_timestamp=self._now_ms(),
            store_host=self.store_host,
            reconsume_times=reconsume_times,
            prepared_transaction_offset=prepared_transaction_offset,
        )
        if self._journal is not None:
            self._journal.message(LoggedMessage(start, topic, queue_id, tags, frame))
        queue.append(self.log.append(frame), tags)
        self.on_arrival(key)
        return Stored(queue_offset, start)

    def queue(self, topic: str, queue_id: int) -> ConsumeQueue:
        """A queue, an empty one when nothing was ever put there."""
        return self.queues.get((topic, queue_id)) or ConsumeQueue(self.log)

    def earliest_time(self) -> int:
        """When the oldest message was stored, ms since the epoch; -1 without any."""
        return min((time for queue in self.queues.values() if (time := queue.earliest_time()) >= 0), default=-1)

    def forget_topic(self, topic: str) -> None:
        """Drop a topic's queues; their messages stay in the log until it drops them."""
        for key in [key for key in self.queues if key[0] == topic]:
            del self.queues[key]
            self.ends.pop(key, None)
        if self._journal is not None:
            self._journal.forget_topic(topic)

    # -- on disk -------------------------------------------------------------------------------------------------------------

    def load(self, journal: Journal) -> None:
        """Take in what a journal has, and have it follow from now on; blocks this greenlet only."""
        for message in journal.messages():
            key = (message.topic, message.queue_id)
            queue = self.queues.get(key)
            if queue is None:
                queue = self.queues[key] = ConsumeQueue(self.log, queue_offset_of(message.frame))
            self.log.end = message.start
            queue.append(self.log.append(message.frame), message.tags)
        for key, end in self.ends.items():
            if self.queue(*key).max_offset < end:
                self.queues[key] = ConsumeQueue(self.log, end)
        self._journal = journal
        self.log.on_drop = self._dropped

    def _dropped(self, start: int) -> None:
        assert self._journal is not None
        for key, queue in self.queues.items():
            self.ends[key] = queue.max_offset
        self._journal.drop_before(start)
