"""grocketmq's clients as the tests here use them, in this process and in one that can be killed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.fileobject import FileObject

from grocketmq import ConsumeContext, ConsumeFromWhere, ConsumeStatus, Message, MessageExt, MessageQueue, Producer, PushConsumer
from grocketmq.errors import QueryNotFoundError
from tests.helpers import wait_for
from tests.meta.source import ROOT

from .cluster import UPDATE_BROKER_CONFIG, RealCluster, remoting_request
from .java_driver import JavaDriver

#: Seconds for messages to arrive, on a machine that has other things to do.
ARRIVAL = 60.0

_instances = itertools.count(1)


class Inbox:
    """A listener that keeps what it is given, in the order it came.

    :param fail_times: fail a message until it was given back so often.
    :param before: called with each message before it is kept; may block.
    """

    def __init__(self, fail_times: int = 0, before: Callable[[MessageExt], object] = lambda message: None) -> None:
        self.messages: list[MessageExt] = []
        self._fail_times = fail_times
        self._before = before

    def __call__(self, msgs: list[MessageExt], context: ConsumeContext) -> ConsumeStatus:
        for message in msgs:
            self._before(message)
            self.messages.append(message)
        failed = any(message.reconsume_times < self._fail_times for message in msgs)
        return ConsumeStatus.RECONSUME_LATER if failed else ConsumeStatus.SUCCESS

    def keep(self, msgs: list[MessageExt]) -> None:
        """The same as a listener that fails nothing, in order or not."""
        self.messages += msgs

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of :attr:`messages`."""
        return [message.body for message in self.messages]

    def wait(self, count: int, timeout: float = ARRIVAL) -> list[MessageExt]:
        """Wait for at least ``count`` messages, and return all there are."""
        wait_for(lambda: len(self.messages) >= count, timeout, f"{count} messages, {len(self.messages)} so far")
        return self.messages

    def wait_for_bodies(self, bodies: Iterable[bytes], timeout: float = ARRIVAL) -> None:
        """Wait until each of these bodies has come at least once."""
        wanted = set(bodies)
        wait_for(lambda: not wanted.difference(self.bodies), timeout, f"all of {len(wanted)} bodies")


def new_consumer(
    cluster: RealCluster, group: str, topic: str, listener: Callable[..., object], *, expression: str = "*", **options: Any
) -> PushConsumer:
    """A consumer that begins at the first offset, with an instance of its own; not started."""
    options.setdefault("consume_from", ConsumeFromWhere.FIRST_OFFSET)
    options.setdefault("instance_name", f"test-{next(_instances)}")
    orderly = options.pop("orderly", False)
    consumer = PushConsumer(group, namesrv=cluster.namesrv, **options)
    consumer.subscribe(topic, expression)
    consumer.register_listener(listener, orderly=orderly)
    return consumer


@contextmanager
def consuming(
    cluster: RealCluster, group: str, topic: str, listener: Callable[..., object], *, expression: str = "*", **options: Any
) -> Iterator[PushConsumer]:
    """A running :func:`new_consumer`."""
    consumer = new_consumer(cluster, group, topic, listener, expression=expression, **options)
    consumer.start()
    try:
        yield consumer
    finally:
        consumer.shutdown()


def producing(cluster: RealCluster, group: str = "test_producer", **options: Any) -> Producer:
    """A producer with an instance of its own and some patience, to be used as a context manager."""
    options.setdefault("send_timeout", 20.0)
    options.setdefault("instance_name", f"test-{next(_instances)}")
    return Producer(group, namesrv=cluster.namesrv, **options)


def send_bodies(producer: Producer, topic: str, bodies: Iterable[bytes], queue: MessageQueue | None = None) -> None:
    """Send a message per body, one after the other."""
    for body in bodies:
        producer.send(Message(topic, body), queue=queue)


def numbered(prefix: str, count: int) -> list[bytes]:
    """``count`` bodies that no other prefix has."""
    return [f"{prefix} {number}".encode() for number in range(count)]


def all_queues(cluster: RealCluster, topic: str, queues: int = 4) -> set[tuple[str, str, int]]:
    """The queues of a topic that ``cluster.create_topic`` made."""
    return {(topic, name, number) for name in cluster.broker_names for number in range(queues)}


def assigned(consumer: PushConsumer) -> set[tuple[str, str, int]]:
    """A consumer's queues, as ``JavaConsumer.assigned`` tells them."""
    return {(queue.topic, queue.broker_name, queue.queue_id) for queue in consumer.queues()}


def stored_offset(client: Producer | PushConsumer, group: str, queue: MessageQueue) -> int | None:
    """The offset that a queue's broker has for a group."""
    instance = client._instance
    address = instance.routes.master(queue.broker_name)
    assert address is not None
    try:
        return instance.api.query_offset(address, group, queue)
    except QueryNotFoundError:
        return None


def store_offset(client: Producer | PushConsumer, group: str, queue: MessageQueue, offset: int) -> None:
    """Give a group an offset that it has not reached."""
    instance = client._instance
    address = instance.routes.master(queue.broker_name)
    assert address is not None
    instance.api.update_offset(address, group, queue, offset, oneway=False)


@contextmanager
def broker_config(cluster: RealCluster, setting: str, value: object, usual: object) -> Iterator[None]:
    """Change a setting of all brokers while they run.

    :param value: what to set, with ``true`` or ``false`` for a bool.
    :param usual: what to set afterwards.
    """

    def change(to: object) -> None:
        body = f"{setting}={str(to).lower() if isinstance(to, bool) else to}".encode()
        for name in cluster.broker_names:
            code, _ = remoting_request(cluster.broker_address(name), UPDATE_BROKER_CONFIG, body=body, timeout=10.0)
            assert code == 0

    change(value)
    try:
        yield
    finally:
        change(usual)


class Member:
    """A consumer of a group in a process of its own, which can be killed; it collects what its listener got.

    Blocks until its consumer has started.

    :param kind: ``concurrent``, ``orderly`` or ``pop``.
    """

    def __init__(self, cluster: RealCluster, group: str, topic: str, kind: str = "concurrent") -> None:
        self.bodies: list[bytes] = []
        #: When each came, seconds of the system's monotonic clock.
        self.times: list[float] = []
        self._queues: set[tuple[str, str, int]] = set()
        self._started = False
        stdout, child_stdout = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.broker.member", cluster.namesrv, group, topic, kind],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=child_stdout,
            )
        finally:
            os.close(child_stdout)
        self._lines = FileObject(stdout, "rb")
        self._reader = gevent.spawn(self._read)
        wait_for(lambda: self._started or self._process.poll() is not None, ARRIVAL, "the member's consumer has started")
        assert self._started, "the member ended at once"

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def assigned(self) -> set[tuple[str, str, int]]:
        """The queues it has now, as ``JavaConsumer.assigned`` tells them."""
        return set() if self._process.poll() is not None else self._queues

    def leave(self) -> None:
        """Have it leave the group in order."""
        self._wait_for_the_end()

    def kill(self) -> None:
        """``kill -9``; whatever its listener got is in ``bodies`` all the same."""
        self._process.kill()
        self._wait_for_the_end()

    def _wait_for_the_end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        wait_for(lambda: self._process.poll() is not None, ARRIVAL, "the member has ended")
        self._reader.join(ARRIVAL)
        self._lines.close()

    def _read(self) -> None:
        for line in self._lines:
            told = json.loads(line)
            if "body" in told:
                self.bodies.append(b64decode(told["body"]))
                self.times.append(told["at"])
            else:
                self._started = True
                self._queues = {tuple(queue) for queue in told["queues"]}


def java_ends_transactions(java: JavaDriver, namesrv: str, group: str, topic: str) -> None:
    """Java's transactions end in each way.

    Its listener tells brokers that ask what its local transaction came to, as they may ask about one that has just ended too.
    """
    inbox = Inbox()
    consumer = PushConsumer(group, namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, instance_name=f"of-{group}")
    consumer.subscribe(topic)
    consumer.register_listener(inbox)
    with consumer, java.transactions(f"java_{group}", topic) as transactions:
        sent = {
            body: transactions.send(body, local, check).msg_id
            for body, local, check in (
                (b"committed", "COMMIT_MESSAGE", "COMMIT_MESSAGE"),
                (b"rolled back", "ROLLBACK_MESSAGE", "ROLLBACK_MESSAGE"),
                (b"committed later", "UNKNOW", "COMMIT_MESSAGE"),
                (b"rolled back later", "UNKNOW", "ROLLBACK_MESSAGE"),
            )
        }
        asked = {b"committed later", b"rolled back later"}
        wait_for(lambda: asked <= {one.body for one in transactions.messages}, ARRIVAL, "the broker has asked")
        inbox.wait_for_bodies([b"committed", b"committed later"])
        transactions.send(b"the last", "COMMIT_MESSAGE", "COMMIT_MESSAGE")
        inbox.wait_for_bodies([b"the last"])
    assert set(inbox.bodies) == {b"committed", b"committed later", b"the last"}
    assert {one.msg_id for one in inbox.messages} >= {sent[b"committed"], sent[b"committed later"]}
    assert {one.topic for one in transactions.messages} == {topic}
