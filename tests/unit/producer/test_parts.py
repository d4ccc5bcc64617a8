"""The parts of a producer: which queue, how many at once, how fast, how packed."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq.codes import RequestCode
from grocketmq.errors import ConfigError, MessageError, TooManyRequestsError
from grocketmq.model.message import Message
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.properties import Property, decode_properties
from grocketmq.model.route import MessageQueue, TopicPublishInfo
from grocketmq.producer import (
    Backpressure,
    Producer,
    ProducerConfig,
    select_queue_by_hash,
    select_queue_by_java_hash,
    select_queue_by_random,
    split_batch,
)
from grocketmq.producer.checks import CheckPool
from grocketmq.producer.faults import FaultTable
from grocketmq.producer.oneway import FIRST_WINDOW, LARGEST_WINDOW, PROBE_EVERY, SLOW, OnewayPacer
from grocketmq.producer.outgoing import OutgoingMaker
from grocketmq.producer.picker import QueuePicker
from grocketmq.producer.window import SendWindow
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.flags import CompressionType, MessageSysFlag
from grocketmq.wire.message_codec import decode_batch
from tests.helpers import wait_for


def info(*brokers: str, queues: int = 2, topic: str = "T") -> TopicPublishInfo:
    return TopicPublishInfo(topic, tuple(MessageQueue(topic, name, i) for name in brokers for i in range(queues)))


# -- QueuePicker -------------------------------------------------------------------------------------------------------------


def test_every_queue_gets_its_turn() -> None:
    picker, topic = QueuePicker(), info("a", "b", "c")
    picked = Counter(picker.pick(topic) for _ in range(60))
    assert picked == dict.fromkeys(topic.queues, 10)


def test_each_topic_has_its_own_turn() -> None:
    picker, topics = QueuePicker(), [info("a", "b"), info("a", "b", topic="U")]
    picked = Counter(picker.pick(topic) for _ in range(20) for topic in topics)
    assert set(picked.values()) == {5}


@pytest.mark.parametrize("faults", [None, FaultTable(detecting=False)])
def test_turns_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, faults: FaultTable | None) -> None:
    monkeypatch.setattr("grocketmq.producer.picker.MAX_TURNS", 5)
    picker = QueuePicker(faults)
    for number in range(20):
        picker.pick(info("a", topic=f"topic-{number}"))
        assert len(picker._turns) <= 5


def test_producers_do_not_all_begin_at_the_same_queue() -> None:
    topic = info("a", "b")
    assert {QueuePicker().pick(topic) for _ in range(200)} == set(topic.queues)


def test_a_broker_to_avoid_is_avoided_and_the_others_share() -> None:
    picker, topic = QueuePicker(), info("a", "b", "c")
    picked = Counter(picker.pick(topic, avoid="b").broker_name for _ in range(60))
    assert picked.keys() == {"a", "c"}
    assert min(picked.values()) >= 20


def test_the_only_broker_is_not_avoided() -> None:
    picker, topic = QueuePicker(), info("a")
    assert {picker.pick(topic, avoid="a") for _ in range(4)} == set(topic.queues)


def test_a_route_that_shrinks() -> None:
    picker = QueuePicker()
    for _ in range(7):
        picker.pick(info("a", "b", "c"))
    assert {picker.pick(info("a", queues=1)) for _ in range(3)} == {MessageQueue("T", "a", 0)}


# -- SendWindow --------------------------------------------------------------------------------------------------------------


def test_the_window_is_bounded_by_count() -> None:
    window = SendWindow(Backpressure(max_messages=2))
    window.enter(1, Deadline(0))
    window.enter(1, Deadline(0))
    with pytest.raises(TooManyRequestsError, match="2 messages"):
        window.enter(1, Deadline(0.01))
    window.leave(1)
    window.enter(1, Deadline(0))
    assert window._messages == 2


def test_the_window_is_bounded_by_bytes() -> None:
    window = SendWindow(Backpressure(max_bytes=100))
    window.enter(60, Deadline(0))
    with pytest.raises(TooManyRequestsError, match="60 bytes"):
        window.enter(41, Deadline(0.01))
    window.enter(40, Deadline(0))


def test_a_message_larger_than_the_window_goes_alone() -> None:
    window = SendWindow(Backpressure(max_bytes=100))
    window.enter(1000, Deadline(0))
    with pytest.raises(TooManyRequestsError):
        window.enter(1, Deadline(0.01))
    window.leave(1000)
    window.enter(1, Deadline(0))


def test_who_waits_gets_in_as_room_comes() -> None:
    """Given three who wait, when room comes piece by piece, then they get in one by one in their order."""
    window, inside = SendWindow(Backpressure(max_messages=1)), []
    window.enter(1, Deadline(0))

    def enter(number: int) -> None:
        window.enter(1, Deadline(5))
        inside.append(number)

    waiting = [gevent.spawn(enter, number) for number in range(3)]
    gevent.sleep(0.01)
    assert inside == []
    for count in range(1, 4):
        window.leave(1)
        wait_for(lambda count=count: len(inside) == count)
        gevent.sleep(0.01)
        assert inside == list(range(count))
        assert window._messages == 1
    gevent.joinall(waiting, raise_error=True)


def test_who_gives_up_takes_no_room() -> None:
    window = SendWindow(Backpressure(max_messages=1))
    window.enter(1, Deadline(0))
    killed = gevent.spawn(window.enter, 1, Deadline(5))
    gevent.sleep(0)
    killed.kill()
    window.leave(1)
    window.enter(1, Deadline(0))
    assert window._messages == 1


# -- OnewayPacer -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pacer() -> Iterator[OnewayPacer]:
    tasks = TaskGroup("test")
    pacer = OnewayPacer(tasks)
    yield pacer
    pacer.close()
    tasks.kill()


def burst(pacer: OnewayPacer, count: int, send: Any, broker: str = "a", seconds: float = 1.0) -> int:
    """How many of so many messages asked for an answer."""
    asked = 0
    for _ in range(count):
        if pacer.turn(broker, Deadline(seconds)):
            pacer.watch(broker, send, lambda: None)
            asked += 1
    return asked


def window_of(pacer: OnewayPacer) -> int:
    """How many answers may be missing: send until the next message would have to wait."""
    release = Event()
    probes = 0
    with pytest.raises(TooManyRequestsError, match="broker a"):
        while True:
            probes += burst(pacer, PROBE_EVERY, release.wait, seconds=0.02)
    release.set()
    gevent.sleep(0.01)
    return probes


def test_one_in_many_asks_for_an_answer(pacer: OnewayPacer) -> None:
    answered: list[int] = []
    assert burst(pacer, 10 * PROBE_EVERY - 1, lambda: answered.append(1)) == 9
    wait_for(lambda: len(answered) == 9)


def test_a_broker_that_does_not_answer_holds_the_burst_back(pacer: OnewayPacer) -> None:
    """Given that no answer comes, when more than its share is sent, then it waits, and goes on with the first answer."""
    release = Event()
    assert burst(pacer, FIRST_WINDOW * PROBE_EVERY, release.wait) == FIRST_WINDOW
    with pytest.raises(TooManyRequestsError, match="broker a"):
        burst(pacer, PROBE_EVERY, release.wait, seconds=0.02)
    assert burst(pacer, PROBE_EVERY, release.wait, broker="b") == 1
    waiting = gevent.spawn(burst, pacer, PROBE_EVERY, release.wait, "a", 5.0)
    gevent.sleep(0.01)
    assert not waiting.ready()
    release.set()
    assert waiting.get(timeout=2) == 1


def test_a_probe_that_fails_gives_its_place_back(pacer: OnewayPacer, caplog: pytest.LogCaptureFixture) -> None:
    assert burst(pacer, 3 * FIRST_WINDOW * PROBE_EVERY, lambda: 1 / 0) == 3 * FIRST_WINDOW


def test_fast_answers_let_more_out_and_slow_ones_less(pacer: OnewayPacer, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an answer takes is the clock's word here, not the machine's."""
    now = 0.0
    monkeypatch.setattr("grocketmq.producer.oneway.monotonic", lambda: now)

    def answer_late() -> None:
        nonlocal now
        now += SLOW * 2

    burst(pacer, 3 * LARGEST_WINDOW * PROBE_EVERY, lambda: None, seconds=5)
    gevent.sleep(0.01)
    assert window_of(pacer) == LARGEST_WINDOW
    burst(pacer, 6 * PROBE_EVERY, answer_late, seconds=5)
    gevent.sleep(0.01)
    assert window_of(pacer) == 1


# -- selectors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", [select_queue_by_hash, select_queue_by_java_hash])
def test_hash_selectors(select: Any) -> None:
    queues, message = info("a", "b", queues=4).queues, Message("T", b"x")
    chosen = [select(queues, message, f"key-{i}") for i in range(400)]
    assert chosen == [select(queues, message, f"key-{i}") for i in range(400)]
    assert set(chosen) == set(queues)


def test_the_java_hash_is_javas() -> None:
    """``Math.abs(hashCode % size)``: "abc" is 96354, 7L is 7, the last one is the smallest integer."""
    queues, message = info("a", queues=5).queues, Message("T", b"x")
    assert select_queue_by_java_hash(queues, message, "abc").queue_id == 96354 % 5
    assert select_queue_by_java_hash(queues, message, 7).queue_id == 2
    assert select_queue_by_java_hash(queues, message, "polygenelubricants").queue_id == 3


def test_the_random_selector_leaves_out_none() -> None:
    queues = info("a", queues=3).queues
    assert {select_queue_by_random(queues, Message("T", b"x"), None) for _ in range(200)} == set(queues)


# -- split_batch -------------------------------------------------------------------------------------------------------------


def test_batches_are_full_in_order_and_within_the_bound() -> None:
    messages = [Message("T", bytes(100), properties={"n": str(i)}) for i in range(50)]
    batches = list(split_batch(messages, 1000))
    assert [one for batch in batches for one in batch] == messages
    maker = maker_of(max_message_size=1000)
    sizes = [len(maker.batch(batch).body) for batch in batches]
    assert max(sizes) <= 1000
    assert min(sizes[:-1]) > 1000 - 2 * 200


def test_nothing_to_split() -> None:
    assert list(split_batch([])) == []


def test_a_message_too_large_for_any_batch() -> None:
    with pytest.raises(MessageError, match="more than the 100"):
        list(split_batch([Message("T", bytes(200))], 100))


# -- OutgoingMaker -----------------------------------------------------------------------------------------------------------


def maker_of(**options: Any) -> OutgoingMaker:
    return OutgoingMaker("p", ProducerConfig(**options), UniqueIdGenerator(b"\x7f\0\0\1", 1, 1), unit_mode=False)


def test_an_id_is_given_once() -> None:
    message = Message("T", b"x")
    first = maker_of().message(message)
    assert maker_of().message(message).msg_id == first.msg_id == message.properties[Property.UNIQ_KEY]
    assert decode_properties(first.properties)[Property.UNIQ_KEY] == first.msg_id


@pytest.mark.parametrize(("size", "packed"), [(99, False), (100, True), (300 * 1024, True)])
def test_bodies_are_packed_from_the_threshold(size: int, packed: bool) -> None:
    body = bytes(size)
    outgoing = maker_of(compress_above=100).message(Message("T", body))
    assert (outgoing.body == body) is not packed
    assert outgoing.sys_flag == (MessageSysFlag.COMPRESSED | CompressionType.ZLIB.sys_flag if packed else 0)
    assert (zlib.decompress(outgoing.body) if packed else outgoing.body) == body


def test_the_message_itself_stays_as_it_was() -> None:
    message = Message("T", bytes(10_000))
    maker_of().message(message)
    assert message.body == bytes(10_000)


@pytest.mark.parametrize("letter", ["x", "中"])
def test_properties_too_long(letter: str) -> None:
    room = 32_000 // len(letter.encode())
    maker_of().message(Message("T", b"x", properties={"big": letter * room}))
    with pytest.raises(MessageError, match="bytes of properties"):
        maker_of().message(Message("T", b"x", properties={"big": letter * (room + 1000)}))


def test_a_property_that_is_no_text() -> None:
    with pytest.raises(MessageError):
        message = Message("T", b"x", properties={"big": "\ud800" * 12_000})
        maker_of().message(message)


@pytest.mark.parametrize("message", [Message("T", b""), Message("no such topic!", b"x"), Message("T", bytes(101)), "text"])
def test_messages_no_broker_would_take(message: Any) -> None:
    with pytest.raises(MessageError):
        maker_of(max_message_size=100).message(message)


def test_the_request_says_what_the_message_says() -> None:
    maker = maker_of(default_topic_queues=7)
    outgoing = maker.message(Message("T", b"x", tags="t", flag=9))
    fields = maker.command(outgoing, "broker-a", 3).ext_fields
    assert {name: fields[name] for name in "abcdefhjkmn"} == {
        "a": "p",
        "b": "T",
        "c": "TBW102",
        "d": "7",
        "e": "3",
        "f": "0",
        "h": "9",
        "j": "0",
        "k": "false",
        "m": "false",
        "n": "broker-a",
    }
    assert decode_properties(fields["i"] or "") == outgoing.message.properties


def test_a_batch_holds_all_messages() -> None:
    messages = [Message("T", b"1", tags="a"), Message("T", b"2", keys="k", flag=3)]
    maker = maker_of()
    outgoing = maker.batch(messages)
    assert outgoing.code is RequestCode.SEND_BATCH_MESSAGE
    assert maker.command(outgoing, "a", 0).ext_fields["m"] == "true"
    inner = decode_batch(outgoing.body)
    assert [(one.body, one.flag) for one in inner] == [(b"1", 0), (b"2", 3)]
    assert outgoing.msg_id.split(",") == [one.properties[Property.UNIQ_KEY] for one in messages]
    assert len(set(outgoing.msg_id.split(","))) == 2


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("T", b"x"), Message("U", b"x")],
        [Message("T", b"x"), Message("T", b"x", wait_store_ok=False)],
        [Message("T", b"x", delay_level=1)],
        [Message("T", b"x", delay=5.0)],
        [Message("%RETRY%g", b"x")],
        [Message("T", b"x"), Message("T", b"")],
        [Message("T", bytes(60)), Message("T", bytes(60))],
    ],
    ids=["none", "topics", "wait", "level", "timer", "retry", "empty", "large"],
)
def test_lists_that_cannot_travel_together(messages: list[Message]) -> None:
    with pytest.raises(MessageError):
        maker_of(max_message_size=150).batch(messages)


def test_templates_do_not_fill_the_memory() -> None:
    maker = maker_of()
    outgoing = maker.message(Message("T", b"x"))
    for number in range(5000):
        assert maker.command(outgoing, f"broker-{number}", 0).ext_fields["n"] == f"broker-{number}"
    assert len(maker._templates) < 5000


# -- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("compress_above", 0),
        ("max_message_size", 0),
        ("default_topic_queues", 0),
        ("compression", "gzip"),
        ("compress_level", 0),
        ("compress_level", 10),
        ("send_timeout", 0),
        ("try_timeout", 0),
        ("backpressure", 5),
        ("auto_batch", 5),
    ],
)
def test_settings_that_cannot_work_are_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        Producer("p", namesrv="a:1", **{option: value})


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        Producer("p", namesrv="a:1", nonsense=1)


# -- CheckPool ---------------------------------------------------------------------------------------------------------------


def fail(error: Exception) -> None:
    raise error


def test_a_check_that_ends_its_greenlet_leaves_none_waiting() -> None:
    tasks, ran = TaskGroup("test"), []
    pool = CheckPool(tasks, 1)
    assert pool.put(lambda: fail(ValueError("slip")))
    for number in range(3):
        assert pool.put(lambda number=number: ran.append(number))
    wait_for(lambda: ran == [0, 1, 2])
    wait_for(lambda: not len(tasks))


def test_checks_that_wait_end_with_their_owner() -> None:
    tasks, ran = TaskGroup("test"), []
    pool = CheckPool(tasks, 1)
    pool.put(lambda: gevent.sleep(30))
    pool.put(lambda: ran.append(1))
    gevent.sleep(0)
    tasks.kill()
    gevent.sleep(0.01)
    assert (ran, len(tasks)) == ([], 0)
