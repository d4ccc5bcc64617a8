"""Callers are thrown out of sends at random points: the broker stores whole messages only, and nobody else is harmed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

import gevent
import pytest

from grocketmq import ConsumeContext, ConsumeStatus, Message, MessageExt, Producer, SendStatus
from grocketmq.errors import GRocketMQError
from grocketmq.remoting.connection import Connection, ConnectionState
from tests.helpers import wait_for

from .clients import ARRIVAL, consuming, producing
from .cluster import RealCluster

SMALLEST, LARGEST = 100, 3_900_000
#: Sends of one wave run at the same time; some are never thrown out.
WAVES, CALLERS = 4, 60
NUMBER_BYTES = 4
#: For what stays to the end.
PATIENCE = 60.0


class OutOfTime(Exception):
    """Raised in a caller by its own timeout."""


@dataclass
class Ledger:
    """What was sent, what was acknowledged, and what became of the callers."""

    chance: random.Random
    digests: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    ends: dict[str, int] = field(default_factory=dict)

    def new_body(self) -> bytes:
        """The next body, which begins with its number; sizes are spread over their magnitudes."""
        number = len(self.digests)
        size = int(SMALLEST * (LARGEST / SMALLEST) ** self.chance.random())
        body = number.to_bytes(NUMBER_BYTES, "big") + self.chance.randbytes(size - NUMBER_BYTES)
        self.digests[number] = hashlib.sha256(body).digest()
        return body

    def end(self, how: str) -> None:
        self.ends[how] = self.ends.get(how, 0) + 1


def number_of(body: bytes) -> int:
    return int.from_bytes(body[:NUMBER_BYTES], "big")


def connections_of(producer: Producer) -> set[Connection]:
    peers = producer._instance.remoting._peers.values()
    return {peer.connection for peer in peers if peer.connection is not None}


def send(producer: Producer, topic: str, ledger: Ledger, body: bytes, limit: float | None, timeout: float) -> None:
    """One caller: sends once, for ``limit`` seconds at most where it has one."""
    try:
        with gevent.Timeout(limit, OutOfTime):
            result = producer.send(Message(topic, body), timeout=timeout)
        assert result.status is SendStatus.SEND_OK
        ledger.acknowledged.add(number_of(body))
        ledger.end("acknowledged")
    except OutOfTime:
        ledger.end("timed out")
    except GRocketMQError:
        ledger.end("failed")
    except gevent.GreenletExit:
        ledger.end("killed")
        raise


def wave(producer: Producer, topic: str, ledger: Ledger) -> None:
    """Many callers at once; half of them leave early, each in its way and at its time."""
    chance, callers = ledger.chance, []
    for _ in range(CALLERS):
        fate, moment = chance.choice(["stay", "stay", "kill", "limit", "short"]), 10 ** chance.uniform(-4, 0)
        limit = moment if fate == "limit" else None
        timeout = moment if fate == "short" else PATIENCE
        caller = gevent.spawn(send, producer, topic, ledger, ledger.new_body(), limit, timeout)
        callers.append(caller)
        if fate == "kill":
            gevent.spawn_later(moment, caller.kill, block=False)
    gevent.joinall(callers, timeout=ARRIVAL)
    assert all(caller.dead for caller in callers)
    gevent.sleep(1.0 if any(not caller.successful() for caller in callers) else 0)  # the last spawn_later


def settled(producer: Producer, topic: str) -> int:
    """How many messages the topic holds, once the number stays the same."""
    queues = producer.fetch_publish_queues(topic)

    def count() -> int:
        return sum(producer.max_offset(queue) for queue in queues)

    last = -1
    while (now := count()) != last:
        last = now
        gevent.sleep(0.5)
    return last


class Reader:
    """A listener that keeps digests only, by where a message is stored."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, int, int], tuple[int, bytes]] = {}

    def __call__(self, msgs: list[MessageExt], context: ConsumeContext) -> ConsumeStatus:
        for message in msgs:
            place = (message.broker_name, message.queue_id, message.queue_offset)
            self.found[place] = number_of(message.body), hashlib.sha256(message.body).digest()
        return ConsumeStatus.SUCCESS


@pytest.mark.parametrize("seed", [1, 2])
def test_callers_thrown_out_of_sends(real_cluster: RealCluster, topic_name: str, group_name: str, seed: int) -> None:
    real_cluster.create_topic(topic_name)
    ledger = Ledger(random.Random(seed))
    with producing(real_cluster, max_message_size=LARGEST) as producer:
        for queue in producer.fetch_publish_queues(topic_name):
            body = ledger.new_body()
            producer.send(Message(topic_name, body), queue=queue)
            ledger.acknowledged.add(number_of(body))
        connections = connections_of(producer)
        for _ in range(WAVES):
            wave(producer, topic_name, ledger)
        assert min(ledger.ends[end] for end in ("acknowledged", "killed", "timed out", "failed")) >= 5, ledger.ends

        for queue in producer.fetch_publish_queues(topic_name):
            body = ledger.new_body()
            producer.send(Message(topic_name, body), queue=queue)
            ledger.acknowledged.add(number_of(body))
        assert connections_of(producer) == connections
        for connection in connections:
            assert connection.state is ConnectionState.OPEN
            wait_for(lambda connection=connection: connection.in_flight == 0 and connection.flushed())
        stored = settled(producer, topic_name)

        reader = Reader()
        with consuming(real_cluster, group_name, topic_name, reader):
            wait_for(lambda: len(reader.found) >= stored, ARRIVAL, f"{stored} messages, {len(reader.found)} so far")
    assert all(ledger.digests.get(number) == digest for number, digest in reader.found.values())
    assert ledger.acknowledged <= {number for number, _ in reader.found.values()}
    assert len(reader.found) == stored
