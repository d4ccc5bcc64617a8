"""Which brokers are chosen, by how they did."""

from __future__ import annotations

from collections import Counter

import pytest

from grocketmq.errors import BrokerError, ConnectError, GRocketMQError, RequestTimeout, RouteNotFoundError, broker_error
from grocketmq.model.message import Message
from grocketmq.model.route import MessageQueue, TopicPublishInfo
from grocketmq.producer import faults
from grocketmq.producer.faults import FaultTable
from grocketmq.producer.picker import QueuePicker
from tests.unit.client.fakes import route

from .fakes import Brokers, producer_with

TWO = {"T": route("a", "b")}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(faults, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(("seconds", "pause"), [(0.01, 0), (0.3, 0), (0.6, 2), (2.0, 5), (3.5, 6), (7.0, 10), (20.0, 30)])
def test_a_slow_answer_costs_a_pause(clock: Clock, seconds: float, pause: float) -> None:
    table = FaultTable(detecting=False)
    table.note("a", seconds)
    assert table.is_reachable("a")
    assert table.is_available("a") is (pause == 0)
    clock.now += pause
    assert table.is_available("a")


@pytest.mark.parametrize(
    ("error", "detecting", "reachable"),
    [
        (ConnectError("x"), False, True),
        (RequestTimeout("x"), True, False),
        (broker_error(1, "x", "a"), False, False),
    ],
)
def test_a_failure_isolates(clock: Clock, error: GRocketMQError, detecting: bool, reachable: bool) -> None:
    table = FaultTable(detecting=detecting)
    table.note("a", 0.001, error)
    assert (table.is_available("a"), table.is_reachable("a")) == (False, reachable)
    clock.now += 10
    assert (table.is_available("a"), table.is_reachable("a")) == (True, reachable)
    table.note("a", 0.001)
    assert table.is_reachable("a")


def test_a_fault_without_an_answer_to_blame_costs_by_its_time_only(clock: Clock) -> None:
    table = FaultTable(detecting=True)
    table.note("a", 0.001, RouteNotFoundError("T"))
    assert table.is_available("a")
    assert table.is_reachable("a")


def test_a_quick_answer_does_not_shorten_a_pause(clock: Clock) -> None:
    table = FaultTable(detecting=False)
    table.note("a", 20.0)
    table.note("a", 0.6)
    clock.now += 29
    assert not table.is_available("a")


def test_the_detector_finds_who_answers_again(clock: Clock) -> None:
    table, asked = FaultTable(detecting=True), []
    for name in ("a", "b", "gone"):
        table.note(name, 0.001, ConnectError("x"))

    def answers(address: str) -> bool:
        asked.append(address)
        return address == "a:1"

    for _ in range(2):
        table.detect({"a": "a:1", "b": "b:1"}.get, answers)
    assert asked == ["a:1", "b:1"]
    assert [table.is_reachable(name) for name in ("a", "b", "gone")] == [True, False, True]
    clock.now += faults.DETECT_INTERVAL
    table.detect({"a": "a:1", "b": "b:1"}.get, answers)
    assert asked == ["a:1", "b:1", "b:1"]


def picked(table: FaultTable, avoid: str | None = None) -> set[str]:
    topic = TopicPublishInfo("T", tuple(MessageQueue("T", name, i) for name in "abc" for i in range(2)))
    picker = QueuePicker(table)
    counts = Counter(picker.pick(topic, avoid).broker_name for _ in range(60))
    assert max(counts.values()) <= 2 * min(counts.values())
    return set(counts)


def test_available_brokers_go_first_then_reachable_ones_then_any(clock: Clock) -> None:
    table = FaultTable(detecting=True)
    assert picked(table) == {"a", "b", "c"}
    table.note("a", 20.0)
    assert picked(table) == {"b", "c"}
    assert picked(table, avoid="b") == {"c"}
    table.note("b", 0.1, ConnectError("x"))
    table.note("c", 0.1, ConnectError("x"))
    assert picked(table) == {"a"}
    table.note("a", 0.1, ConnectError("x"))
    assert picked(table) == {"a", "b", "c"}
    assert picked(table, avoid="b") == {"a", "c"}


def test_a_producer_stays_away_from_a_broker_that_failed() -> None:
    brokers = Brokers(a=ConnectError("refused"))
    with producer_with(brokers, routes=TWO, latency_fault_tolerance=True) as producer:
        for _ in range(20):
            producer.send(Message("T", b"x"))
    assert brokers.asked.count("a") <= 1


def test_without_the_option_every_other_send_meets_it() -> None:
    brokers = Brokers(a=ConnectError("refused"))
    with producer_with(brokers, routes=TWO) as producer:
        for _ in range(20):
            producer.send(Message("T", b"x"))
    assert brokers.asked.count("a") >= 9


@pytest.mark.parametrize(("codes", "tries"), [(None, 1), ([13], 2), ([], 1)])
def test_the_codes_that_are_tried_again_can_be_said(codes: list[int] | None, tries: int) -> None:
    refusal = broker_error(13, "illegal", "a:10911")
    brokers = Brokers(a=refusal, b=refusal)
    with (
        producer_with(brokers, routes=TWO, retries=1, retry_response_codes=codes) as producer,
        pytest.raises(GRocketMQError),
    ):
        producer.send(Message("T", b"x"))
    assert len(brokers.tries) == tries


def test_a_code_left_out_is_not_tried_again() -> None:
    brokers = Brokers(a=broker_error(2, "busy", "a:10911"), b=broker_error(2, "busy", "b:10911"))
    with producer_with(brokers, routes=TWO, retry_response_codes=[1]) as producer, pytest.raises(BrokerError, match="busy"):
        producer.send(Message("T", b"x"))
    assert len(brokers.tries) == 1
