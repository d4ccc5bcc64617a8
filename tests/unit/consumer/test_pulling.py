"""Pulling: when to ask, what to make of the answer, when to ask again."""

from __future__ import annotations

import sys
import zlib
from typing import Any

import pytest

from grocketmq.codes import RequestCode
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import LONGEST_PAUSE, FlowControl
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_service import AFTER_ERROR, AFTER_FLOW_CONTROL, WHILE_PAUSED
from grocketmq.consumer.puller import Puller, PullOptions
from grocketmq.errors import (
    ConnectError,
    FlowControlError,
    RemoteProtocolError,
    RequestTimeout,
    SubscriptionNotExistError,
    SubscriptionNotLatestError,
    SystemBusyError,
)
from grocketmq.hooks import Hooks
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property, encode_properties
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import BrokerData, MessageQueue, QueueData, TopicRouteData
from grocketmq.model.subscription import Sql, subscription
from grocketmq.wire import compression
from grocketmq.wire.flags import CompressionType, MessageSysFlag, PullSysFlag
from grocketmq.wire.headers import PullMessageRequestHeader
from grocketmq.wire.message_codec import encode_message
from tests.unit.client.fakes import FakeAPI, FakeInstance
from tests.unit.consumer.fakes import AT_ONCE, QUEUE, answer, messages, pulls

OPTIONS = PullOptions(max_nums=32, hold=15.0, timeout=30.0)


def found(*offsets: int, status: PullStatus = PullStatus.FOUND, next_offset: int = 10) -> PullResult:
    return PullResult(status, messages(*offsets), next_offset, 0, 100)


# -- PullService: when to ask ------------------------------------------------------------------------------------------------


def test_while_suspended_nothing_is_asked() -> None:
    with pulls(found(5)) as bench:
        bench.service.paused = True
        assert bench.once() == WHILE_PAUSED
        assert bench.asked == []
        bench.service.paused = False
        bench.once()
        assert bench.asked == [(5, None)]


def test_while_too_much_is_cached_nothing_is_asked() -> None:
    with pulls(found(5), max_cached_messages_per_queue=2) as bench:
        bench.held.put(messages(1, 2, 3))
        assert 0 < bench.once() <= LONGEST_PAUSE
        assert (bench.asked, bench.stats.flow_controlled) == ([], 1)
        bench.held.remove(messages(1))
        bench.once()
        assert bench.asked


def test_who_consumes_may_ask_for_a_pause() -> None:
    with pulls(found(5)) as bench:
        bench.consuming.pause = 3.0
        assert bench.once() == 3.0
        assert bench.asked == []


def test_a_topic_without_subscription_waits() -> None:
    with pulls(found(5)) as bench:
        bench.subscriptions.remove("T")
        assert bench.once() == AFTER_ERROR
        assert bench.asked == []


def test_even_a_paused_queue_counts_as_looked_after() -> None:
    """Else the rebalance would take it for broken."""
    with pulls(found(5)) as bench:
        bench.service.paused = True
        bench.once()
        assert bench.held.last_pull > 0


def test_a_dropped_queue_is_pulled_no_more() -> None:
    with pulls(found(5)) as bench:
        bench.held.dropped = True
        bench.dropped_once()
        assert bench.asked == []


# -- PullService: what to make of the answer ---------------------------------------------------------------------------------


def test_what_is_found_is_handed_on() -> None:
    with pulls(found(5, 6, 7, next_offset=8), pull_interval=0.25) as bench:
        bench.store.memory[QUEUE] = 4
        assert bench.once() == 0.25
        assert bench.asked == [(5, 4)]
        assert bench.consuming.submitted == [[5, 6, 7]]
        assert bench.request.next_offset == 8
        assert bench.stats.topic("T").pulled == 3


def test_messages_that_were_filtered_out_move_the_request_on() -> None:
    with pulls(found(next_offset=40)) as bench:
        assert bench.once() == AT_ONCE
        assert (bench.consuming.submitted, bench.request.next_offset) == ([], 40)


@pytest.mark.parametrize("status", [PullStatus.NO_NEW_MSG, PullStatus.NO_MATCHED_MSG])
@pytest.mark.parametrize("held", [False, True])
def test_nothing_found_moves_the_offset_unless_messages_are_under_way(status: PullStatus, held: bool) -> None:
    with pulls(found(status=status, next_offset=40)) as bench:
        if held:
            bench.held.put(messages(3))
        assert bench.once() == AT_ONCE
        assert bench.request.next_offset == 40
        assert bench.store.calls == ([] if held else [("update", QUEUE, 40, True)])


def test_an_offset_that_is_refused_ends_the_request() -> None:
    """Given code 21, then the queue is dropped and handed over with the broker's offset, and nothing else happens."""
    with pulls(found(status=PullStatus.OFFSET_ILLEGAL, next_offset=77)) as bench:
        bench.dropped_once()
        assert bench.illegal == [(QUEUE, 77)]
        assert (bench.request.next_offset, bench.store.calls, bench.consuming.submitted) == (5, [], [])


def test_an_answer_for_a_queue_dropped_meanwhile_is_thrown_away() -> None:
    with pulls() as bench:

        def drop() -> PullResult:
            bench.held.dropped = True
            return found(5)

        bench.answer = drop
        bench.dropped_once()
        assert bench.consuming.submitted == []
        assert bench.store.calls == []


# -- PullService: errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "pause", "events"),
    [
        (RequestTimeout("silent"), AFTER_ERROR, []),
        (ConnectError("refused"), AFTER_ERROR, ["refresh_routes_soon"]),
        (SystemBusyError(2, "", ""), AFTER_ERROR, []),
        (FlowControlError(215, "", ""), AFTER_FLOW_CONTROL, []),
        (SubscriptionNotExistError(24, "", ""), AFTER_ERROR, ["heartbeat_soon"]),
        (SubscriptionNotLatestError(25, "", ""), AFTER_ERROR, ["heartbeat_soon"]),
        (RemoteProtocolError("nonsense"), AFTER_ERROR, []),
        (ZeroDivisionError(), AFTER_ERROR, []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors(error: Exception, pause: float, events: list[str]) -> None:
    with pulls(error) as bench:
        assert bench.once() == pause
        assert bench.instance.events == events
        assert bench.request.next_offset == 5


def test_a_series_of_failures_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with pulls(ConnectError("refused")) as bench:
        for _ in range(3):
            bench.once()
        assert len(caplog.records) == 1
        bench.answer = found(5)
        bench.once()
        bench.answer = ConnectError("refused")
        bench.once()
        assert len(caplog.records) == 2


# -- FlowControl -------------------------------------------------------------------------------------------------------------


def held_with(*offsets: int, size: int = 1) -> ProcessQueue:
    held = ProcessQueue(0.0)
    held.put([MessageExt("T", bytes(size), queue_offset=offset) for offset in offsets])
    return held


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("settings", "held", "others", "expected"),
    [
        ({}, held_with(*range(1000)), 0, False),
        ({}, held_with(*range(1001)), 0, True),
        ({"max_cached_mib_per_queue": 1}, held_with(1, size=MIB), 0, False),
        ({"max_cached_mib_per_queue": 1}, held_with(1, size=MIB + 1), 0, True),
        ({}, held_with(0, 2000), 0, False),
        ({}, held_with(0, 2001), 0, True),
        ({"max_cached_messages_per_topic": 8}, held_with(1, 2), 3, False),
        ({"max_cached_messages_per_topic": 8}, held_with(1, 2, 3), 3, True),
        ({"max_cached_messages_per_topic": 8}, held_with(*range(8)), 0, False),
        ({"max_cached_messages_per_topic": 1}, held_with(1), 9, False),
    ],
)
def test_flow_control(settings: dict[str, Any], held: ProcessQueue, others: int, expected: bool) -> None:
    queues = {MessageQueue("T", "a", number): ProcessQueue(0.0) for number in range(others)}
    queues[MessageQueue("T", "b", 0)] = held
    assert FlowControl(PushConsumerConfig(**settings), queues).holds_back(held) is expected


def test_a_slow_message_holds_back_no_orderly_queue_but_its_own() -> None:
    held = held_with(0, 5000)
    assert not FlowControl(PushConsumerConfig(), {QUEUE: held}, orderly=True).holds_back(held)


# -- Puller ------------------------------------------------------------------------------------------------------------------


def stored(offset: int, body: bytes = b"x", tag: str = "a", sys_flag: int = 0) -> bytes:
    return encode_message("T", body, encode_properties({"TAGS": tag}), queue_offset=offset, sys_flag=sys_flag)


def puller_with(pulled: Any, *ids: int) -> tuple[Puller, FakeAPI]:
    api = FakeAPI(pull=pulled)
    broker = BrokerData("a", {one: f"a{one}:1" for one in ids or (0,)})
    instance = FakeInstance(api, T=TopicRouteData((QueueData("a", 1, 1, 6),), (broker,)))
    return Puller("g", instance, Hooks()), api  # type: ignore[arg-type]


def asked(api: FakeAPI) -> list[tuple[str, PullMessageRequestHeader]]:
    return [(address, PullMessageRequestHeader.parse(request.ext_fields)) for address, request, _ in api.named("pull")]


def test_the_request_says_what_is_wanted() -> None:
    puller, api = puller_with(answer())
    puller.pull(QUEUE, subscription("T", "a||b", 17), 5, OPTIONS, 3)
    ((_, request, timeout),) = api.named("pull")
    ((address, header),) = asked(api)
    assert (address, timeout, request.code) == ("a0:1", 30.0, RequestCode.PULL_MESSAGE)
    assert (header.consumer_group, header.topic, header.queue_id, header.bname) == ("g", "T", 0, "a")
    assert (header.queue_offset, header.max_msg_nums, header.suspend_timeout_millis) == (5, 32, 15_000)
    assert (header.sub_version, header.subscription, header.expression_type) == (17, None, "TAG")
    assert (header.sys_flag, header.commit_offset) == (PullSysFlag.COMMIT_OFFSET | PullSysFlag.SUSPEND, 3)


@pytest.mark.parametrize("reached", [None, 0])
def test_without_an_offset_none_is_stored_on_the_way(reached: int | None) -> None:
    puller, api = puller_with(answer())
    puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, reached)
    ((_, header),) = asked(api)
    assert (header.sys_flag, header.commit_offset) == (PullSysFlag.SUSPEND, 0)


def test_a_pull_may_carry_its_expression_and_not_wait() -> None:
    puller, api = puller_with(answer())
    options = PullOptions(max_nums=1, hold=0.0, timeout=3.0, send_subscription=True, lite=True)
    puller.pull(QUEUE, subscription("T", Sql("x > 1")), 5, options, None)
    ((_, header),) = asked(api)
    assert api.named("pull")[0][1].code == RequestCode.LITE_PULL_MESSAGE
    assert (header.subscription, header.expression_type) == ("x > 1", "SQL92")
    assert header.sys_flag == PullSysFlag.SUBSCRIPTION | PullSysFlag.LITE_PULL


def test_the_suggested_broker_is_asked_next_and_stores_no_offset() -> None:
    puller, api = puller_with(answer(suggest_which_broker_id=1), 0, 1)
    wanted = subscription("T", "*")
    puller.pull(QUEUE, wanted, 5, OPTIONS, 3)
    api.answers["pull"] = answer(suggest_which_broker_id=0)
    puller.pull(QUEUE, wanted, 6, OPTIONS, 3)
    puller.pull(QUEUE, wanted, 7, OPTIONS, 3)
    assert [address for address, _ in asked(api)] == ["a0:1", "a1:1", "a0:1"]
    assert [header.sys_flag & PullSysFlag.COMMIT_OFFSET for _, header in asked(api)] == [1, 0, 1]


def test_a_suggestion_is_forgotten_with_its_queue() -> None:
    puller, api = puller_with(answer(suggest_which_broker_id=1), 0, 1)
    puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None)
    puller.forget(QUEUE)
    puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None)
    assert [address for address, _ in asked(api)] == ["a0:1", "a0:1"]


def test_tags_are_compared_by_their_text() -> None:
    """Given tags with the same hash (``Aa`` and ``BB``), when the broker lets both through, then the wrong one is left out."""
    body = stored(5, tag="Aa") + stored(6, tag="BB") + stored(7, tag="Aa")
    puller, _ = puller_with(answer(body=body, next_offset=8))
    result = puller.pull(QUEUE, subscription("T", "BB"), 5, OPTIONS, None)
    assert [message.queue_offset for message in result.messages] == [6]
    assert (result.status, result.next_begin_offset) == (PullStatus.FOUND, 8)


def test_all_tags_and_sql_are_left_to_the_broker() -> None:
    puller, _ = puller_with(answer(body=stored(5) + stored(6, tag="b")))
    for expression in ("*", Sql("x > 1")):
        assert len(puller.pull(QUEUE, subscription("T", expression), 5, OPTIONS, None).messages) == 2


@pytest.mark.parametrize("size", [10, 500_000])
def test_packed_bodies_are_unpacked(size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    packed = zlib.compress(plain, 0)
    flag = MessageSysFlag.COMPRESSED | CompressionType.ZLIB.sys_flag
    puller, _ = puller_with(answer(body=stored(5, packed, sys_flag=flag) + stored(6)))
    first, second = puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None).messages
    assert first.body == plain
    assert not first.sys_flag & MessageSysFlag.COMPRESSED
    assert second.body == b"x"


def test_a_body_that_cannot_be_unpacked_does_not_hold_up_its_queue(caplog: pytest.LogCaptureFixture) -> None:
    puller, _ = puller_with(answer(body=stored(5, b"nonsense", sys_flag=MessageSysFlag.COMPRESSED) + stored(6, b"fine")))
    bad, good = puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None).messages
    assert (bad.body, bad.sys_flag & MessageSysFlag.COMPRESSED) == (b"nonsense", MessageSysFlag.COMPRESSED)
    assert good.body == b"fine"
    assert "ZLIB" in caplog.text


def test_a_form_whose_package_is_missing_is_told_of_until_somebody_mends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No message of it is lost meanwhile: the queue waits, and each try says what to install."""
    compression._codec.cache_clear()
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    monkeypatch.setitem(sys.modules, "lz4", None)
    body = stored(5, b"packed", sys_flag=MessageSysFlag.COMPRESSED | CompressionType.LZ4.sys_flag)
    puller, _ = puller_with(answer(body=body))
    with pulls(lambda: puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None)) as bench:
        for times in (1, 2, 3):
            assert bench.once() == AFTER_ERROR
            assert caplog.text.count("pip install 'grocketmq[lz4]'") == times
        assert (bench.consuming.submitted, bench.request.next_offset, bench.store.calls) == ([], 5, [])
        bench.answer = found(5)
        bench.once()
        assert bench.consuming.submitted == [[5]]


@pytest.mark.parametrize("packed", [b"nonsense" * 10_000, zlib.compress(bytes(80 * 1024 * 1024), 1)], ids=["damaged", "bomb"])
def test_a_large_one_that_cannot_be_unpacked(packed: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried in the thread pool, whose own report of the error would say nothing more."""
    assert len(packed) > 64 * 1024
    puller, _ = puller_with(answer(body=stored(5, packed, sys_flag=MessageSysFlag.COMPRESSED) + stored(6, b"fine")))
    bad, good = puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None).messages
    assert bad.body == packed
    assert good.body == b"fine"
    assert "cannot be unpacked" in caplog.text


def test_messages_know_where_they_come_from() -> None:
    """The queue and its bounds are those of the answer: a static topic's offsets are moved by the delta."""
    queue = MessageQueue("T", "a", 3)
    puller, _ = puller_with(answer(body=stored(5) + stored(6), offset_delta=1000, min_offset=2, max_offset=1010))
    result = puller.pull(queue, subscription("T", "*"), 5, OPTIONS, None)
    assert [message.queue_offset for message in result.messages] == [1005, 1006]
    assert {message.message_queue for message in result.messages} == {queue}
    assert result.messages[0].properties[Property.MIN_OFFSET] == "2"
    assert result.messages[0].properties[Property.MAX_OFFSET] == "1010"


@pytest.mark.parametrize("status", [status for status in PullStatus if status is not PullStatus.FOUND])
def test_nothing_found(status: PullStatus) -> None:
    puller, _ = puller_with(answer(status, 50, min_offset=1, max_offset=60))
    assert puller.pull(QUEUE, subscription("T", "*"), 5, OPTIONS, None) == PullResult(status, [], 50, 1, 60)
