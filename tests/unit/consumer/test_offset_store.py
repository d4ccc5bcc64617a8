"""Offsets kept by the brokers."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq.consumer.offset_store import RemoteBrokerOffsetStore
from grocketmq.errors import (
    BrokerSystemError,
    ConnectError,
    GroupNotExistError,
    QueryNotFoundError,
    RequestTimeout,
    RouteNotFoundError,
)
from grocketmq.model.route import MessageQueue
from tests.helpers import wait_for
from tests.unit.client.fakes import FakeAPI, FakeInstance, route
from tests.unit.consumer.fakes import QUEUE

OTHER = MessageQueue("T", "a", 1)


def store_with(**answers: Any) -> tuple[RemoteBrokerOffsetStore, FakeAPI]:
    api, store = FakeAPI(**answers), RemoteBrokerOffsetStore()
    store.open(FakeInstance(api, T=route("a", "b")), "g")  # type: ignore[arg-type]
    return store, api


def written(api: FakeAPI) -> list[tuple[MessageQueue, int]]:
    return [(queue, offset) for address, group, queue, offset, oneway in api.named("update_offset")]


@pytest.mark.parametrize(("answer", "offset"), [(7, 7), (0, 0), (-1, None), (QueryNotFoundError(22, "none", "a"), None)])
def test_reading(answer: Any, offset: int | None) -> None:
    store, api = store_with(query_offset=answer)
    assert store.read(QUEUE) == offset
    assert api.named("query_offset") == [("a:10911", "g", QUEUE)]


@pytest.mark.parametrize("error", [ConnectError("refused"), BrokerSystemError(1, "no", "a"), GroupNotExistError(26, "", "a")])
def test_a_failure_is_not_none(error: Exception) -> None:
    store, _ = store_with(query_offset=error)
    with pytest.raises(type(error)):
        store.read(QUEUE)


def test_a_broker_nobody_knows_is_not_none() -> None:
    store, _ = store_with(query_offset=3)
    with pytest.raises(RouteNotFoundError):
        store.read(MessageQueue("T", "unknown", 0))


def test_a_slave_answers_while_there_is_no_master() -> None:
    api, store, instance = FakeAPI(query_offset=7), RemoteBrokerOffsetStore(), FakeInstance(T=route("a"))
    instance.api = api
    instance.routes.broker_addrs["a"] = {1: "slave:10911"}
    store.open(instance, "g")  # type: ignore[arg-type]
    assert store.read(QUEUE) == 7
    assert api.named("query_offset") == [("slave:10911", "g", QUEUE)]


def test_offsets_increase_unless_told_otherwise() -> None:
    store, _ = store_with()
    assert store.in_memory(QUEUE) is None
    for offset, expected in ((5, 5), (3, 5), (8, 8)):
        store.update(QUEUE, offset, increase_only=True)
        assert store.in_memory(QUEUE) == expected
    store.update(QUEUE, 2, increase_only=False)
    assert store.in_memory(QUEUE) == 2


def test_a_frozen_offset_stays_until_the_queue_is_let_go() -> None:
    store, api = store_with()
    store.update(QUEUE, 50, increase_only=True)
    store.update_and_freeze(QUEUE, 10)
    store.update(QUEUE, 60, increase_only=True)
    store.update(QUEUE, 60, increase_only=False)
    assert store.in_memory(QUEUE) == 10
    store.persist_one(QUEUE)
    assert written(api) == [(QUEUE, 10)]
    store.remove(QUEUE)
    assert store.in_memory(QUEUE) is None
    store.update(QUEUE, 60, increase_only=True)
    assert store.in_memory(QUEUE) == 60


def test_storing_waits_for_the_answer_and_forgets_queues_of_others() -> None:
    store, api = store_with()
    store.update(QUEUE, 5, increase_only=True)
    store.update(OTHER, 6, increase_only=True)
    store.persist([QUEUE, MessageQueue("T", "a", 9)])
    assert api.named("update_offset") == [("a:10911", "g", QUEUE, 5, False)]
    assert store.in_memory(OTHER) is None


def test_storing_an_offset_that_is_not_there() -> None:
    store, api = store_with()
    assert store.persist_one(QUEUE)
    assert api.calls == []


def test_a_refusal_is_logged_once_and_met_again(caplog: pytest.LogCaptureFixture) -> None:
    """Given a broker that refuses, when offsets are stored again and again, then one line tells, until it works again."""
    store, api = store_with(update_offset=BrokerSystemError(1, "no", "a"))
    store.update(QUEUE, 5, increase_only=True)
    store.update(OTHER, 6, increase_only=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            store.persist([QUEUE, OTHER])
        assert not store.persist_one(QUEUE)
    assert len(written(api)) == 7
    assert len(caplog.records) == 2
    assert store.in_memory(QUEUE) == 5
    api.answers["update_offset"] = None
    store.persist([QUEUE, OTHER])
    api.answers["update_offset"] = BrokerSystemError(1, "no", "a")
    store.update(QUEUE, 7, increase_only=True)
    store.update(OTHER, 7, increase_only=True)
    store.persist([QUEUE, OTHER])
    assert len(caplog.records) == 4


def test_a_broker_that_does_not_answer_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Given a broker that does not answer, when offsets are stored, then it is asked once, and others have theirs meanwhile."""
    answering = Event()

    def update(address: str, *_: Any) -> None:
        if address.startswith("a:"):
            answering.wait(5)
            raise RequestTimeout("no answer")

    store, api = store_with(update_offset=update)
    queues = [MessageQueue("T", broker, number) for broker in "ab" for number in range(4)]
    for queue in queues:
        store.update(queue, 5, increase_only=True)
    storing = gevent.spawn(store.persist, queues)
    wait_for(lambda: {(queue, 5) for queue in queues[4:]} < set(written(api)), timeout=2)
    assert not storing.dead
    answering.set()
    storing.get(timeout=2)
    assert written(api).count((queues[0], 5)) == len(caplog.records) == 1
    assert len(written(api)) == 5
    with pytest.raises(RequestTimeout):
        store.flush(queues)
    assert len(written(api)) == 10


def test_storing_that_is_cut_off_stores_nothing_later() -> None:
    busy, answering = Event(), Event()

    def update(*_: Any) -> None:
        busy.set()
        answering.wait(5)

    store, api = store_with(update_offset=update)
    store.update(QUEUE, 5, increase_only=True)
    store.update(OTHER, 5, increase_only=True)
    storing = gevent.spawn(store.persist, [QUEUE, OTHER])
    assert busy.wait(2)
    storing.kill()
    gevent.sleep(0)
    answering.set()
    gevent.sleep(0.01)
    assert written(api) == [(QUEUE, 5)]


def test_an_offset_that_did_not_move_is_stored_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("grocketmq.consumer.offset_store.monotonic", lambda: now[0])
    store, api = store_with()
    store.update(QUEUE, 5, increase_only=True)
    for now[0] in (1.0, 6.0, 11.0):
        store.persist([QUEUE])
    assert written(api) == [(QUEUE, 5)]
    store.update(QUEUE, 6, increase_only=True)
    store.persist([QUEUE])
    now[0] = 70.0
    store.persist([QUEUE])
    now[0] = 131.0
    store.persist([QUEUE])
    assert written(api) == [(QUEUE, 5), (QUEUE, 6), (QUEUE, 6)]


def test_an_offset_that_moves_while_it_is_stored_is_stored_again() -> None:
    store, api = store_with(update_offset=lambda *_: store.update(QUEUE, 9, increase_only=True))
    store.update(QUEUE, 5, increase_only=True)
    store.persist([QUEUE])
    store.persist([QUEUE])
    assert written(api) == [(QUEUE, 5), (QUEUE, 9)]
