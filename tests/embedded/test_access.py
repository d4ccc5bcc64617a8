"""Signed requests, and those that are not."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest
from gevent.event import Event

from grocketmq import (
    ConsumeFromWhere,
    Credentials,
    GRocketMQError,
    Message,
    NoPermissionError,
    Producer,
    PushConsumer,
)
from grocketmq.embedded import EmbeddedCluster

ACCOUNT = Credentials("clerk", "the-secret-key")
TOPIC = "guarded"


@pytest.fixture
def guarded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(credentials=ACCOUNT) as cluster:
        yield cluster


@pytest.mark.parametrize("serializer", ["JSON", "ROCKETMQ"])
def test_everything_is_signed(guarded: EmbeddedCluster, serializer: str) -> None:
    done, failed = Event(), []
    options = {"namesrv": guarded.namesrv, "credentials": ACCOUNT, "serializer": serializer}
    consumer = PushConsumer("readers", consume_from=ConsumeFromWhere.FIRST_OFFSET, **options)
    consumer.subscribe(TOPIC)

    @consumer.orderly_listener
    def listener(msgs: list[Message]) -> None:
        if msgs[0].body == b"last":
            done.set()

    with Producer("writers", **options) as producer:
        producer.create_topic(TOPIC, queues=1)
        producer.send(Message(TOPIC, b"named", tags="t", keys="k", properties={"名": "值"}))
        producer.send_async(Message(TOPIC, b"async"), on_error=failed.append).get(timeout=5)
        producer.send_batch([Message(TOPIC, b"one"), Message(TOPIC, b"two")])
        producer.send(Message(TOPIC, b"packed " * 2000))
        producer.send_oneway(Message(TOPIC, b"last"))
        with consumer:
            assert done.wait(10)
    assert not failed


@pytest.mark.parametrize(
    "credentials",
    [None, Credentials("clerk", "not-the-secret"), Credentials("nobody", "not-the-secret", "not-the-token")],
    ids=["none", "wrong secret", "unknown account"],
)
def test_wrong_keys(guarded: EmbeddedCluster, credentials: Credentials | None, caplog: pytest.LogCaptureFixture) -> None:
    """They give a clear error, and the secret is in no error, log line or repr."""
    caplog.set_level(logging.DEBUG)
    raised: list[GRocketMQError] = []
    with Producer("writers", namesrv=guarded.namesrv, credentials=credentials, retries=0) as producer:
        for call in (
            lambda: producer.send(Message(TOPIC, b"hello")),
            lambda: producer.send_async(Message(TOPIC, b"hello")).get(timeout=5),
            lambda: producer.create_topic(TOPIC),
        ):
            with pytest.raises(NoPermissionError) as caught:
                call()
            raised.append(caught.value)
        shown = repr(producer) + repr(producer.config) + repr(producer._instance) + repr(producer._instance.remoting)
    shown += caplog.text + "".join(text for error in raised for text in traceback.format_exception(error))
    assert "not-the" not in shown
