"""Subscriptions and where a consumer begins."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.start_offset import start_offset
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import BrokerSystemError, ConfigError, ConnectError, RouteNotFoundError
from grocketmq.hashing import java_string_hash
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, Sql
from tests.unit.client.fakes import FakeAPI, FakeInstance, route
from tests.unit.consumer.fakes import QUEUE, FakeStore

RETRY = MessageQueue("%RETRY%g", "a", 0)
FIRST, LAST, TIMESTAMP = ConsumeFromWhere.FIRST_OFFSET, ConsumeFromWhere.LAST_OFFSET, ConsumeFromWhere.TIMESTAMP


# -- Subscriptions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["price > 10", "a|b", "a, b", "a || b = 1"])
def test_what_is_hardly_meant_as_a_tag_is_warned_of(expression: str, caplog: pytest.LogCaptureFixture) -> None:
    Subscriptions().add("T", expression)
    (line,) = caplog.messages
    assert "is one tag; tags are joined by ||, and SQL is written Sql('...')" in line


@pytest.mark.parametrize("expression", ["*", "a || b", "order-created.v1 || 主题", Sql("price > 10")])
def test_usual_expressions_are_not(expression: str | Sql, caplog: pytest.LogCaptureFixture) -> None:
    Subscriptions().add("T", expression)
    assert not caplog.messages


def test_what_is_no_expression() -> None:
    with pytest.raises(ConfigError, match="such as 'a || b', nor Sql".replace("|", "[|]")):
        Subscriptions().add("T", ["a", "b"])  # type: ignore[arg-type]


def test_subscribing_and_unsubscribing() -> None:
    subscriptions = Subscriptions()
    assert not subscriptions
    subscriptions.add("T", "a || b||a")
    subscriptions.add("U", Sql("x > 1"))
    found = subscriptions.get("T")
    assert found is not None
    assert (found.tags, found.codes) == (("a", "b"), (java_string_hash("a"), java_string_hash("b")))
    assert subscriptions.topics() == ["T", "U"]
    assert [one.expression_type for one in subscriptions.all()] == ["TAG", "SQL92"]
    subscriptions.remove("T")
    subscriptions.remove("never")
    assert subscriptions.get("T") is None
    assert subscriptions


@pytest.mark.parametrize("expression", ["||", "||||", Sql("")])
def test_an_expression_without_a_tag_changes_nothing(expression: Any) -> None:
    subscriptions = Subscriptions()
    subscriptions.add("T", "a")
    with pytest.raises(ConfigError):
        subscriptions.add("T", expression)
    assert subscriptions.get("T").tags == ("a",)  # type: ignore[union-attr]


def test_a_new_version_is_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker refuses pulls of a version newer than the heartbeat's, so a change must show."""
    clock = iter(range(1_000, 10_000, 1_000))
    monkeypatch.setattr("grocketmq.consumer.subscriptions.time_ns", lambda: next(clock) * 1_000_000)
    subscriptions = Subscriptions()
    subscriptions.add("T", "a")
    before = subscriptions.get("T")
    subscriptions.renew("T")
    subscriptions.renew("never subscribed")
    after = subscriptions.get("T")
    assert before is not None
    assert after is not None
    assert (before.sub_version, after.sub_version) == (1000, 2000)
    assert (after.tags, after.codes) == (before.tags, before.codes)


# -- where to begin ----------------------------------------------------------------------------------------------------------


def begin(queue: MessageQueue, stored: int | None, **settings: Any) -> tuple[int, list[str]]:
    """Where a consumer begins, and what brokers were asked."""
    api = FakeAPI(max_offset=70, search_offset=40)
    instance = FakeInstance(api, **{queue.topic: route("a")})
    store = FakeStore({} if stored is None else {queue: stored})
    offset = start_offset(queue, store, PushConsumerConfig(**settings), instance, 1_000_000.0)  # type: ignore[arg-type]
    return offset, [call[0] for call in api.calls]


@pytest.mark.parametrize("where", list(ConsumeFromWhere))
@pytest.mark.parametrize("queue", [QUEUE, RETRY])
@pytest.mark.parametrize("stored", [0, 33])
def test_a_stored_offset_counts_before_all(where: ConsumeFromWhere, queue: MessageQueue, stored: int) -> None:
    assert begin(queue, stored, consume_from=where) == (stored, [])


@pytest.mark.parametrize(
    ("where", "queue", "offset", "asked"),
    [
        (FIRST, QUEUE, 0, []),
        (LAST, QUEUE, 70, ["max_offset"]),
        (TIMESTAMP, QUEUE, 40, ["search_offset"]),
        (FIRST, RETRY, 0, []),
        (LAST, RETRY, 0, []),
        (TIMESTAMP, RETRY, 70, ["max_offset"]),
    ],
)
def test_without_a_stored_offset(where: ConsumeFromWhere, queue: MessageQueue, offset: int, asked: list[str]) -> None:
    assert begin(queue, None, consume_from=where) == (offset, asked)


def test_a_failure_to_ask_is_not_no_offset() -> None:
    instance = FakeInstance(FakeAPI(max_offset=ConnectError("refused")), T=route("a"))
    store = FakeStore()
    with pytest.raises(ConnectError):
        start_offset(QUEUE, store, PushConsumerConfig(), instance, 0.0)  # type: ignore[arg-type]
    store.fails = BrokerSystemError(1, "no", "a")
    with pytest.raises(BrokerSystemError):
        start_offset(QUEUE, store, PushConsumerConfig(), instance, 0.0)  # type: ignore[arg-type]
    with pytest.raises(RouteNotFoundError):
        start_offset(QUEUE, FakeStore(), PushConsumerConfig(), FakeInstance(), 0.0)  # type: ignore[arg-type]


def test_the_time_to_begin_at() -> None:
    noon = datetime(2024, 5, 6, 12, 0, 0)
    text, moment = (
        PushConsumerConfig(consume_from=TIMESTAMP, consume_timestamp=given).consume_timestamp_ms(0.0)
        for given in ("20240506120000", noon)
    )
    assert text == moment == int(noon.timestamp() * 1000)
    started = noon.timestamp()
    ago = PushConsumerConfig(consume_from=TIMESTAMP).consume_timestamp_ms(started)
    assert ago == int((noon - timedelta(minutes=30)).timestamp() * 1000)


@pytest.mark.parametrize("given", ["2024", "tomorrow", "20241306120000"])
def test_a_time_that_is_none(given: str) -> None:
    with pytest.raises(ConfigError, match="consume_timestamp"):
        PushConsumerConfig(consume_from=TIMESTAMP, consume_timestamp=given)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("listener_concurrency", 0),
        ("consume_batch_size", 0),
        ("consume_batch_size", 1025),
        ("pull_batch_size", 1025),
        ("max_span_concurrently", 0),
        ("max_cached_messages_per_queue", 0),
        ("max_reconsume_times", -1),
        ("consume_timeout", 0),
        ("delay_level_when_next_consume", 19),
        ("model", "CLUSTERING"),
        ("consume_from", "LAST"),
    ],
)
def test_settings_that_cannot_work_are_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        PushConsumerConfig(**{option: value})
