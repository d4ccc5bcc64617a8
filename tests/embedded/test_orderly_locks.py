"""The brokers' locks of an orderly consumer: kept, lost, got back, given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from grocketmq import ConsumeFromWhere, Message, MessageExt, MessageQueue, Producer, PushConsumer
from grocketmq.codes import RequestCode
from grocketmq.consumer.process_queue import LOCK_LIFE, ProcessQueue
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import fail
from tests.helpers import wait_for

T0 = MessageQueue("T", "broker-a", 0)


@pytest.fixture(autouse=True)
def _renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCK_INTERVAL", "FIRST_LOCK"):
        monkeypatch.setattr(f"grocketmq.consumer.pull_consumption.{name}", 0.05)


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        yield producer


class Ordered:
    """A member of group ``g``, and what its listener got."""

    def __init__(self, cluster: EmbeddedCluster, name: str = "one") -> None:
        self.came: list[bytes] = []
        options: dict[str, Any] = {"client_id": name, "instance_name": name, "consume_from": ConsumeFromWhere.FIRST_OFFSET}
        self.consumer = PushConsumer("g", namesrv=cluster.namesrv, **options)
        self.consumer.subscribe("T")
        self.consumer.register_listener(self.listen, orderly=True)

    def listen(self, msgs: list[MessageExt]) -> None:
        self.came += [message.body for message in msgs]

    def held(self) -> ProcessQueue:
        found = self.consumer._parts.held()[T0]
        assert isinstance(found, ProcessQueue)
        return found


def holders(cluster: EmbeddedCluster) -> dict[MessageQueue, str]:
    """Who has each queue of the topic locked."""
    locks = cluster.brokers["broker-a"].locks.held.get("g", {})
    return {queue: client for queue, (client, _) in locks.items() if queue.topic == "T"}


def send(producer: Producer, *numbers: int) -> list[bytes]:
    bodies = [b"%d" % number for number in numbers]
    for body in bodies:
        producer.send(Message("T", body), queue=T0)
    return bodies


def test_who_has_a_queue_has_its_lock_and_gives_it_back(cluster: EmbeddedCluster) -> None:
    cluster.create_topic("T", queues=4)
    first, second = Ordered(cluster, "one"), Ordered(cluster, "two")

    def locked_by_their_owners() -> bool:
        wanted = {queue: name for one, name in ((first, "one"), (second, "two")) for queue in one.consumer.queues()}
        return len({queue for queue in wanted if queue.topic == "T"}) == 4 and holders(cluster).items() <= wanted.items()

    with second.consumer:
        assert set(holders(cluster).values()) == {"two"}
        with first.consumer:
            wait_for(lambda: list(holders(cluster).values()).count("one") == 2, 20, "a lock moves with its queue")
            wait_for(locked_by_their_owners, 20)
        assert "one" not in holders(cluster).values(), "given back at the shutdown"
        wait_for(lambda: list(holders(cluster).values()) == ["two"] * 4, 20)
    assert holders(cluster) == {}


def test_a_queue_whose_lock_was_lost_goes_on_where_the_other_one_stopped(cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.create_topic("T", queues=1)
    broker = cluster.brokers["broker-a"]
    member = Ordered(cluster)
    with member.consumer:
        first = send(producer, 0, 1, 2)
        wait_for(lambda: member.came == first)
        locks = broker.locks.held["g"]
        locks[T0] = ("thief", cluster.clock.monotonic())
        wait_for(lambda: not member.held().locked)
        send(producer, 3, 4, 5)
        wait_for(lambda: member.held().offsets(), 5, "the pull that was under way brings them")
        assert member.came == first
        broker.offsets.offsets["g", "T", 0] = 5
        del locks[T0]
        wait_for(lambda: member.came == [*first, b"5"], 20)
    assert broker.offsets.offsets["g", "T", 0] == 6


def test_a_lock_that_cannot_be_renewed_is_not_trusted_for_long(cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.create_topic("T", queues=1)
    member = Ordered(cluster)
    with member.consumer:
        first = send(producer, 0)
        wait_for(lambda: member.came == first)
        member.consumer.persist_offsets()
        fault = cluster.control(RequestCode.LOCK_BATCH_MQ, fail(), times=None)
        wait_for(lambda: fault.taken > 1)
        member.held().last_lock -= LOCK_LIFE + 1
        second = send(producer, 1)
        wait_for(lambda: member.held().offsets())
        assert member.came == first
        cluster.release(fault)
        wait_for(lambda: member.came == first + second, 20)
