"""The simple consumer, over scripted brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import Any

import gevent
import pytest

from grocketmq.client.pop_api import PopAnswer, PopStatus
from grocketmq.consumer import simple
from grocketmq.consumer.simple import SimpleConsumer
from grocketmq.errors import (
    ClientStateError,
    ConfigError,
    MessageError,
    RequestTimeout,
    RouteNotFoundError,
    UnsupportedRequestError,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere
from grocketmq.wire.bodies import CMResult, ConsumeType
from grocketmq.wire.headers import (
    ChangeInvisibleTimeResponseHeader,
    PopMessageRequestHeader,
    PopMessageResponseHeader,
)
from grocketmq.wire.message_codec import encode_message
from tests.unit.client.fakes import NAMESRV, FakeAPI, FakeInstance, FakeManager, give, route

NOTHING = PopAnswer(PopStatus.NOT_FOUND)
TIMEOUT = RequestTimeout("no answer")
#: ``zlib`` by its flags, and no such stream.
PACKED = 1 | 3 << 8


def now_ms() -> int:
    return int(time() * 1000)


def found(*offsets: int, tags: str = "a", sys_flag: int = 0, age_ms: int = 0) -> PopAnswer:
    """Messages of queue 0."""
    texts = ",".join(map(str, offsets))
    header = PopMessageResponseHeader(
        pop_time=now_ms() - age_ms,
        invisible_time=30_000,
        revive_qid=0,
        rest_num=0,
        start_offset_info=f"0 0 {offsets[0]}",
        msg_offset_info=f"0 0 {texts}",
    )
    frames = [encode_message("T", b"x", f"TAGS\x01{tags}\x02", queue_offset=one, sys_flag=sys_flag) for one in offsets]
    return PopAnswer(PopStatus.FOUND, header, b"".join(frames))


class Instance(FakeInstance):
    """Knows routes, as the real one does."""

    remoting = None

    def subscribe_queues(self, topic: str) -> tuple[MessageQueue, ...]:
        if topic not in self.routes.subscribe:
            raise RouteNotFoundError(topic)
        return self.routes.subscribe[topic]


class Bench:
    """A running consumer of topic "T", which lies at brokers "a" and "b"; ``answers`` are its brokers' by address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[Any]] = {"a:10911": [], "b:10911": []}
        self.asked: list[tuple[str, PopMessageRequestHeader]] = []
        changed = ChangeInvisibleTimeResponseHeader(pop_time=now_ms(), invisible_time=10_000, revive_qid=0)
        self.api = FakeAPI(pop=self._pop, change_invisible=changed)
        self.instance = Instance(self.api, T=route("a", "b"), U=route("a"))
        monkeypatch.setattr(simple, "PopAPI", lambda remoting: self.api)
        self.consumer = self.new()

    def new(self, **options: Any) -> SimpleConsumer:
        consumer = SimpleConsumer("g", namesrv=NAMESRV, **options)
        consumer.bind(FakeManager(self.instance))  # type: ignore[arg-type]
        return consumer

    def _pop(self, address: str, header: PopMessageRequestHeader) -> PopAnswer:
        self.asked.append((address, header))
        if self.answers[address]:
            return give(self.answers[address].pop(0))
        gevent.sleep(header.poll_time / 1000)
        return NOTHING

    def looked(self) -> list[tuple[str, int]]:
        """Brokers asked, and ms they might have waited."""
        return [(address[0], header.poll_time) for address, header in self.asked]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(monkeypatch)
    made.consumer.subscribe("T")
    made.consumer.start()
    yield made
    made.consumer.shutdown()


def offsets(messages: list[MessageExt]) -> list[int]:
    return [message.queue_offset for message in messages]


def test_all_brokers_are_looked_at_before_it_returns(bench: Bench) -> None:
    bench.answers.update({"a:10911": [found(1, 2)], "b:10911": [found(3)]})
    assert offsets(bench.consumer.receive()) == [1, 2, 3]
    assert bench.looked() == [("a", 0), ("b", 0)]


def test_it_asks_for_no_more_than_is_wanted(bench: Bench) -> None:
    bench.answers.update({"a:10911": [found(1, 2)], "b:10911": [found(3)]})
    assert len(bench.consumer.receive(40, invisible=12.5)) == 3
    first, second = (header for _, header in bench.asked)
    assert (first.max_msg_nums, second.max_msg_nums) == (32, 32)
    assert (first.queue_id, first.invisible_time, first.consumer_group, first.bname) == (-1, 12_500, "g", "a")


def test_enough_is_enough_and_the_next_call_goes_on(bench: Bench) -> None:
    bench.answers.update({"a:10911": [found(1, 2)], "b:10911": [found(3)]})
    assert offsets(bench.consumer.receive(2)) == [1, 2]
    assert offsets(bench.consumer.receive(1)) == [3]
    assert bench.looked() == [("a", 0), ("b", 0)]


def test_it_waits_at_one_broker_after_the_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "_TURN", 0.02)
    began = monotonic()
    assert bench.consumer.receive(wait=0.1) == []
    assert 0.09 < monotonic() - began < 1
    assert [name for name, _ in bench.looked()[:5]] == ["a", "b", "a", "b", "a"]
    assert bench.looked()[:2] == [("a", 0), ("b", 0)]
    assert all(0 <= poll <= 20 for _, poll in bench.looked()[2:])


def test_at_a_single_broker_it_waits_all_the_time(bench: Bench) -> None:
    bench.consumer.unsubscribe("T")
    bench.consumer.subscribe("U")
    assert bench.consumer.receive(wait=0.1) == []
    assert [poll > 50 for _, poll in bench.looked()] == [False, True]


def test_a_look_only(bench: Bench) -> None:
    assert bench.consumer.receive(wait=0.0) == []
    assert bench.looked() == [("a", 0), ("b", 0)]


def test_a_broker_that_holds_no_more_requests_is_not_asked_all_the_time(bench: Bench) -> None:
    full = PopAnswer(PopStatus.POLLING_FULL)
    bench.answers.update({"a:10911": [full] * 99, "b:10911": [full] * 99})
    assert bench.consumer.receive(wait=0.1) == []
    assert len(bench.asked) < 6


def test_a_broker_that_fails_does_not_hide_the_others(bench: Bench) -> None:
    bench.answers.update({"a:10911": [TIMEOUT], "b:10911": [found(3)]})
    assert offsets(bench.consumer.receive()) == [3]


def test_when_all_fail_it_says_so(bench: Bench) -> None:
    bench.answers.update({"a:10911": [TIMEOUT] * 9, "b:10911": [TIMEOUT] * 9})
    with pytest.raises(RequestTimeout):
        bench.consumer.receive()
    assert len(bench.asked) == 2


def test_an_old_broker_is_a_clear_error(bench: Bench) -> None:
    bench.answers["a:10911"] = [UnsupportedRequestError(3, None, "a:10911")]
    with pytest.raises(ConfigError, match=r"a:10911 is too old for POP.*5\.0"):
        bench.consumer.receive()


def test_tags_that_only_look_alike_are_acknowledged(bench: Bench) -> None:
    bench.consumer.subscribe("T", "b")
    bench.answers["a:10911"] = [found(1, tags="other")]
    bench.answers["b:10911"] = [found(2, tags="b")]
    assert offsets(bench.consumer.receive()) == [2]
    assert [header.offset for _, header in bench.api.named("ack")] == [1]


def test_a_body_that_cannot_be_unpacked_hides_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.answers.update({"a:10911": [found(1, sys_flag=PACKED)], "b:10911": [found(2)]})
    assert offsets(bench.consumer.receive()) == [2]
    assert "cannot be unpacked" in caplog.text
    assert bench.api.named("ack") == []


def test_ack(bench: Bench) -> None:
    bench.answers["a:10911"] = [found(7)]
    (message,) = bench.consumer.receive()
    bench.consumer.ack(message)
    ((address, header),) = bench.api.named("ack")
    assert (address, header.topic, header.offset) == ("a:10911", "T", 7)


def test_a_message_kept_longer_has_a_new_handle(bench: Bench) -> None:
    bench.answers["a:10911"] = [found(7)]
    (message,) = bench.consumer.receive()
    before = message.properties["POP_CK"]
    bench.consumer.change_invisible(message, 10.0)
    assert message.properties["POP_CK"] != before
    assert bench.api.named("change_invisible")[0][1].invisible_time == 10_000


@pytest.mark.parametrize("use", [SimpleConsumer.ack, lambda consumer, message: consumer.change_invisible(message, 9.0)])
def test_a_stale_handle(bench: Bench, use: Callable[[SimpleConsumer, MessageExt], None]) -> None:
    """By the broker's clock, which is told with each answer, not by ours."""
    bench.answers["a:10911"] = [found(7, age_ms=3_600_000), found(8)]
    (message,) = bench.consumer.receive(1)
    assert offsets(bench.consumer.receive(1)) == [8]
    with pytest.raises(MessageError, match="its invisible time is over"):
        use(bench.consumer, message)


def test_a_message_from_elsewhere_has_no_handle(bench: Bench) -> None:
    with pytest.raises(MessageError, match="was not received by popping"):
        bench.consumer.ack(MessageExt("T", b""))


def test_what_is_no_message_is_not_acknowledged(bench: Bench) -> None:
    with pytest.raises(MessageError, match="not list"):
        bench.consumer.ack([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"max_messages": 0}, {"invisible": 4.9}, {"invisible": 43_201.0}],
)
def test_numbers_out_of_range(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bench.consumer.receive(**options)
    assert bench.asked == []


@pytest.mark.parametrize("seconds", [0.0, -1.0, 43_201.0, float("nan")])
def test_no_invisible_time(bench: Bench, seconds: float) -> None:
    bench.answers["a:10911"] = [found(7)]
    (message,) = bench.consumer.receive()
    with pytest.raises(ConfigError):
        bench.consumer.change_invisible(message, seconds)


def test_without_a_subscription(bench: Bench) -> None:
    bench.consumer.unsubscribe("T")
    with pytest.raises(ConfigError, match="subscribe"):
        bench.consumer.receive()


def test_an_unknown_topic(bench: Bench) -> None:
    bench.consumer.unsubscribe("T")
    bench.consumer.subscribe("V")
    with pytest.raises(RouteNotFoundError):
        bench.consumer.receive()


def test_brokers_are_told_of_it(bench: Bench) -> None:
    data = bench.consumer.heartbeat_data()
    assert (data.consume_type, [one.topic for one in data.subscriptions]) == (ConsumeType.POP, ["T"])
    assert bench.instance.events[-1] == "heartbeat_now"
    assert bench.instance.members == [bench.consumer]


def test_what_operators_see(bench: Bench) -> None:
    assert bench.consumer.running_info().properties["PROP_CONSUME_TYPE"] == "CONSUME_POP"
    assert bench.consumer.consume_directly(MessageExt("T", b"")).consume_result is CMResult.THROW_EXCEPTION


def test_states(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Bench(monkeypatch).consumer
    with pytest.raises(ClientStateError):
        consumer.receive()
    with consumer:
        consumer.subscribe("T")
    for call in (consumer.receive, lambda: consumer.ack(MessageExt("T", b"")), lambda: consumer.subscribe("T")):
        with pytest.raises(ClientStateError):
            call()


def test_where_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError):
        SimpleConsumer("g", namesrv=NAMESRV, consume_from=ConsumeFromWhere.TIMESTAMP)
    bench = Bench(monkeypatch)
    for where, mode in ((ConsumeFromWhere.FIRST_OFFSET, 0), (ConsumeFromWhere.LAST_OFFSET, 1)):
        with bench.new(consume_from=where) as consumer:
            consumer.subscribe("T")
            consumer.receive(wait=0.0)
        assert bench.asked[-1][1].init_mode == mode


@pytest.mark.parametrize(
    "numbers", [{"max_messages": 0}, {"max_messages": 2.5}, {"invisible": "30"}, {"invisible": 4.9}, {"wait": "1"}]
)
def test_numbers_that_cannot_work(bench: Bench, numbers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be a (whole )?number"):
        bench.consumer.receive(**numbers)
    assert not bench.asked
