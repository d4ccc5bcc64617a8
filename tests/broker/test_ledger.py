"""Whatever happens to brokers and name server: what a broker has acknowledged is consumed, and nothing is altered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import gevent
import pytest

from grocketmq import Message, Producer
from grocketmq.errors import GRocketMQError
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, Member, consuming, producing
from .cluster import RealCluster

PRODUCERS = 6
CONSUMERS = 3
#: Seconds a sender rests between two sends.
PACE = 0.02

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def make_body(sender: int, number: int) -> bytes:
    """Another body for each message, from a few to some thousand bytes, that tells by itself whether it was altered."""
    content = f"{sender}:{number}:".encode() + random.Random(sender << 32 | number).randbytes(number * 97 % 6000)
    return hashlib.sha256(content).digest() + content


def is_whole(body: bytes) -> bool:
    return hashlib.sha256(body[32:]).digest() == body[:32]


class Ledger:
    """Producers and consumers of one topic, and what they did.

    :param acknowledged: bodies a broker has answered for.
    :param unanswered: bodies that failed, which may have been stored all the same.
    """

    def __init__(self, cluster: RealCluster, topic: str, group: str) -> None:
        self.acknowledged: set[bytes] = set()
        self.unanswered: set[bytes] = set()
        self._cluster, self._topic, self._group = cluster, topic, group
        self._inbox = Inbox()
        self._member: Member | None = None
        self._sending = True
        self._senders: list[gevent.Greenlet] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            for _ in range(CONSUMERS):
                stack.enter_context(consuming(self._cluster, self._group, self._topic, self._inbox))
            self._member = stack.enter_context(Member(self._cluster, self._group, self._topic))
            stack.callback(self._stop)
            for number in range(PRODUCERS):
                producer = stack.enter_context(producing(self._cluster, send_timeout=6.0, retries=3))
                self._senders.append(gevent.spawn(self._send, producer, number))
            yield

    def more(self, count: int) -> None:
        """Wait until so many more messages have been acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, ARRIVAL, f"{count} more messages are acknowledged")

    def settle(self) -> None:
        """Send no more, and wait until every acknowledged message was consumed."""
        self._stop()
        wait_for(lambda: not self.acknowledged - self.consumed(), ARRIVAL, "every acknowledged message was consumed")

    def consumed(self) -> set[bytes]:
        """All bodies that came."""
        assert self._member is not None
        return {*self._inbox.bodies, *self._member.bodies}

    def check(self) -> None:
        """No message was altered, or came that nobody sent; both processes had a share."""
        assert self._member is not None
        assert self._member.bodies
        assert self._inbox.bodies
        assert all(is_whole(body) for body in self.consumed())
        assert not self.consumed() - self.acknowledged - self.unanswered

    def _send(self, producer: Producer, sender: int) -> None:
        number = 0
        while self._sending:
            body = make_body(sender, number)
            self.unanswered.add(body)
            try:
                producer.send(Message(self._topic, body))
            except GRocketMQError:
                pass
            else:
                self.acknowledged.add(body)
                self.unanswered.discard(body)
            number += 1
            gevent.sleep(PACE)

    def _stop(self) -> None:
        self._sending = False
        gevent.joinall(self._senders, timeout=ARRIVAL, raise_error=True)


@pytest.fixture
def ledger(own_cluster: RealCluster, topic_name: str, group_name: str) -> Iterator[Ledger]:
    own_cluster.create_topic(topic_name)
    ledger = Ledger(own_cluster, topic_name, group_name)
    with ledger.running():
        ledger.more(100)
        yield ledger


def test_a_broker_killed_and_restarted(own_cluster: RealCluster, ledger: Ledger) -> None:
    own_cluster.kill_broker("broker-b")
    ledger.more(200)
    own_cluster.start_broker("broker-b")
    ledger.more(200)
    ledger.settle()
    ledger.check()


def test_a_broker_stopped_in_order_and_the_other_killed(own_cluster: RealCluster, ledger: Ledger) -> None:
    own_cluster.stop_broker("broker-a")
    ledger.more(100)
    own_cluster.start_broker("broker-a")
    ledger.more(100)
    own_cluster.kill_broker("broker-b")
    ledger.more(100)
    own_cluster.start_broker("broker-b")
    ledger.more(200)
    ledger.settle()
    ledger.check()


def test_every_broker_killed_at_once(own_cluster: RealCluster, ledger: Ledger) -> None:
    for name in own_cluster.broker_names:
        own_cluster.kill_broker(name)
    own_cluster.start_brokers(own_cluster.broker_names)
    ledger.more(200)
    ledger.settle()
    ledger.check()


def test_the_name_server_is_away(own_cluster: RealCluster, ledger: Ledger) -> None:
    """Nobody needs it while nothing changes, and clients find their way when a broker goes meanwhile."""
    own_cluster.kill_namesrv()
    gevent.sleep(6.0)
    ledger.more(200)
    own_cluster.kill_broker("broker-a")
    gevent.sleep(4.0)
    ledger.more(100)
    own_cluster.start_namesrv()
    own_cluster.start_broker("broker-a")
    ledger.more(200)
    ledger.settle()
    ledger.check()
