"""Calls that come too early or too late say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grocketmq import ClientStateError, LitePullConsumer, PullConsumer, PushConsumer, SimpleConsumer
from grocketmq.model.message import MessageExt

KINDS = [PushConsumer, PullConsumer, LitePullConsumer, SimpleConsumer]
CALLS: dict[str, Callable[[Any], object]] = {
    "rebalance": lambda consumer: consumer.rebalance(),
    "persist_offsets": lambda consumer: consumer.persist_offsets(),
    "offsets": lambda consumer: consumer.offsets("T"),
    "reset_offsets": lambda consumer: consumer.reset_offsets({}),
    "running_info": lambda consumer: consumer.running_info(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_before_the_start_and_after_the_end(kind: Callable[..., Any], call: Callable[[Any], object]) -> None:
    consumer = kind("G", namesrv="127.0.0.1:1")
    with pytest.raises(ClientStateError, match="call start"):
        call(consumer)
    consumer.shutdown()
    with pytest.raises(ClientStateError, match="make a new one"):
        call(consumer)


@pytest.mark.parametrize("kind", [PushConsumer, LitePullConsumer, SimpleConsumer])
def test_subscriptions_change_before_the_start_and_not_after_the_end(kind: Callable[..., Any]) -> None:
    consumer = kind("G", namesrv="127.0.0.1:1")
    consumer.subscribe("T")
    consumer.unsubscribe("T")
    assert list(consumer.topics()) == []
    consumer.shutdown()
    for change in (consumer.subscribe, consumer.unsubscribe):
        with pytest.raises(ClientStateError, match="make a new one"):
            change("T")


def test_direct_consumption_needs_a_started_consumer() -> None:
    with pytest.raises(ClientStateError, match="call start"):
        PushConsumer("G", namesrv="127.0.0.1:1").consume_directly(MessageExt("T", b""))
