"""The store: offsets, filters, bounds, search by time."""

from __future__ import annotations

import pytest

from grocketmq.embedded.filters import EVERYTHING, MessageFilter
from grocketmq.embedded.store import MAX_FILTERED, GetStatus, MessageStore, tags_code
from grocketmq.wire.message_codec import decode_message, decode_messages

HOST = (b"\x7f\x00\x00\x01", 10911)
MANY = 1 << 20


class Time:
    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> MessageStore:
    return MessageStore(HOST, time)


def put(store: MessageStore, body: bytes = b"body", tag: str | None = None, topic: str = "T", queue: int = 0) -> int:
    return store.put(topic, queue, body, "", tags_code(tag), born_host=HOST).commit_log_offset


def tagged(*tags: str) -> MessageFilter:
    return MessageFilter(frozenset(map(tags_code, tags)))


def bodies(frames: list[bytes]) -> list[bytes]:
    return [message.body for message in decode_messages(b"".join(frames))]


def test_messages_know_where_they_are(store: MessageStore) -> None:
    offsets = [put(store, b"a"), put(store, b"bb", queue=1), put(store, b"ccc")]
    assert [store.queue("T", 0).max_offset, store.queue("T", 1).max_offset] == [2, 1]
    messages = [decode_message(store.log.at(offset) or b"") for offset in offsets]
    assert [(message.queue_id, message.queue_offset, message.body) for message in messages] == [
        (0, 0, b"a"),
        (1, 0, b"bb"),
        (0, 1, b"ccc"),
    ]
    assert [message.commit_log_offset for message in messages] == offsets
    assert offsets[1] == messages[0].store_size


def test_only_where_a_message_starts(store: MessageStore) -> None:
    offset = put(store)
    assert store.log.at(offset) is not None
    assert store.log.at(offset + 1) is None
    assert store.log.at(-1) is None
    assert store.log.at(store.log.end) is None


@pytest.mark.parametrize(
    ("offset", "status", "next_offset"),
    [
        (-1, GetStatus.TOO_SMALL, 0),
        (0, GetStatus.FOUND, 3),
        (2, GetStatus.FOUND, 3),
        (3, GetStatus.OVERFLOW_ONE, 3),
        (4, GetStatus.OVERFLOW_BADLY, 3),
    ],
)
def test_offsets_in_and_beyond_a_queue(store: MessageStore, offset: int, status: GetStatus, next_offset: int) -> None:
    for _ in range(3):
        put(store)
    got = store.queue("T", 0).get(offset, 32, MANY)
    assert (got.status, got.next_offset, got.min_offset, got.max_offset) == (status, next_offset, 0, 3)
    assert len(got.frames) == (3 - offset if status is GetStatus.FOUND else 0)


def test_empty_queue(store: MessageStore) -> None:
    got = store.queue("T", 7).get(5, 32, MANY)
    assert (got.status, got.next_offset) == (GetStatus.NO_MESSAGE_IN_QUEUE, 0)
    assert ("T", 7) not in store.queues


def test_tags(store: MessageStore) -> None:
    for number in range(9):
        put(store, b"%d" % number, "abc"[number % 3])
    put(store, b"none")
    queue = store.queue("T", 0)
    got = queue.get(1, 2, MANY, tagged("a", "c"))
    assert bodies(got.frames) == [b"2", b"3"]
    assert got.next_offset == 5, "up to the next message that is wanted"
    none = queue.get(0, 32, MANY, tagged("other"))
    assert (none.status, none.next_offset) == (GetStatus.NO_MATCHED, 10)
    assert queue.holds(tagged("c"), 8)
    assert not queue.holds(tagged("b"), 8)
    assert queue.holds(EVERYTHING, 9)
    assert not queue.holds(EVERYTHING, 10)


def test_a_filter_does_not_look_at_all_at_once(store: MessageStore) -> None:
    for _ in range(MAX_FILTERED + 10):
        put(store, b"")
    got = store.queue("T", 0).get(0, 32, MANY, tagged("other"))
    assert (got.status, got.next_offset) == (GetStatus.NO_MATCHED, MAX_FILTERED)


def test_count_and_bytes_are_bounded_but_one_message_always_comes(store: MessageStore) -> None:
    for _ in range(5):
        put(store, b"x" * 1000)
    queue = store.queue("T", 0)
    assert len(queue.get(0, 3, MANY).frames) == 3
    assert len(queue.get(0, 32, 2500).frames) == 2
    assert len(queue.get(0, 32, 10).frames) == 1
    assert len(queue.get(0, -1, MANY).frames) == 1


@pytest.mark.parametrize(
    ("at", "lower", "upper"), [(0, 0, 0), (1000, 0, 1), (1500, 2, 1), (2000, 2, 2), (2001, 3, 2), (3000, 3, 3), (9999, 4, 3)]
)
def test_search_by_time(store: MessageStore, time: Time, at: int, lower: int, upper: int) -> None:
    for ms in (1000, 1000, 2000, 3000):
        time.ms = ms
        put(store)
    queue = store.queue("T", 0)
    assert (queue.search(at), queue.search(at, upper=True)) == (lower, upper)
    assert queue.earliest_time() == 1000


def test_search_in_an_empty_queue(store: MessageStore) -> None:
    queue = store.queue("T", 0)
    assert (queue.search(5), queue.search(5, upper=True), queue.earliest_time()) == (0, 0, -1)


def test_the_oldest_messages_go_when_the_store_is_full(time: Time) -> None:
    store = MessageStore(HOST, time, max_bytes=100_000)
    first = put(store, b"x" * 1000, queue=1)
    for number in range(500):
        time.ms = number
        put(store, b"%03d" % number * 300, queue=0)
        assert store.log.end - decode_message(store.log.frame(store.log.first)).commit_log_offset <= 100_000
    queue, emptied = store.queue("T", 0), store.queue("T", 1)
    assert queue.max_offset == 500
    assert 400 < queue.min_offset < 420
    assert bodies(queue.get(499, 1, MANY).frames) == [b"499" * 300]
    assert queue.get(0, 1, MANY).status is GetStatus.TOO_SMALL
    assert queue.earliest_time() == queue.min_offset
    assert queue.search(0) == queue.min_offset
    assert (emptied.min_offset, emptied.max_offset) == (1, 1)
    assert emptied.get(1, 1, MANY).status is GetStatus.OVERFLOW_ONE
    assert store.log.at(first) is None


def test_a_topic_is_forgotten(store: MessageStore) -> None:
    put(store)
    put(store, topic="other")
    store.forget_topic("T")
    assert store.queue("T", 0).max_offset == 0
    assert store.queue("other", 0).max_offset == 1
