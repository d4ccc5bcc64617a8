"""A message that is refused reaches no broker, by whichever way it was to be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from grocketmq import ConfigError, Message, MessageError, Producer, RouteNotFoundError
from grocketmq.embedded import EmbeddedCluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    cluster.create_topic("T", queues=1)
    with Producer("senders", namesrv=cluster.namesrv, max_message_size=100, send_timeout=1.0) as producer:
        yield producer


def tampered(**properties: str) -> Message:
    message = Message("T", b"body")
    message.properties.update(properties)
    return message


WAYS: dict[str, Callable[[Producer, Message], object]] = {
    "send": lambda producer, message: producer.send(message),
    "async": lambda producer, message: producer.send_async(message),
    "oneway": lambda producer, message: producer.send_oneway(message),
    "orderly": lambda producer, message: producer.send_orderly(message, "key"),
    "batch": lambda producer, message: producer.send_batch([Message("T", b"good"), message]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Message("T", b""),
        lambda: Message("T", bytes(101)),
        lambda: Message("bad topic", b"x"),
        lambda: Message("SCHEDULE_TOPIC_XXXX", b"x"),
        lambda: tampered(own="x\x02TAGS\x01stolen"),
        lambda: tampered(own="\ud800"),
    ],
    ids=["empty", "too large", "topic", "system topic", "separator", "unencodable"],
)
def test_nothing_is_sent(producer: Producer, way: str, make: Callable[[], Message]) -> None:
    producer.fetch_publish_queues("T")
    with pytest.raises(MessageError):
        WAYS[way](producer, make())
    assert producer.send(Message("T", b"y")).queue_offset == 0


def test_a_topic_without_queues_is_not_created(producer: Producer) -> None:
    with pytest.raises(ConfigError, match="one queue at least, not 0"):
        producer.create_topic("U", queues=0)
    with pytest.raises(RouteNotFoundError):
        producer.fetch_publish_queues("U")


def test_the_largest_body_is_stored(producer: Producer) -> None:
    stored = producer.send(Message("T", bytes(100)))
    assert len(producer.view_message(stored.offset_msg_id).body) == 100
