"""A caller is killed at its first switch, at its second, ... until its call ends: nothing is held, nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import greenlet
import pytest

from grocketmq import (
    ConsumeFromWhere,
    LitePullConsumer,
    Message,
    MessageQueue,
    Producer,
    PullConsumer,
    PushConsumer,
    SimpleConsumer,
)
from grocketmq.embedded import EmbeddedCluster
from grocketmq.remoting.connection import MAX_IN_FLIGHT

TOPIC = "killed"
#: Far more switches than any call takes.
MANY = 60


class Killed(BaseException):
    """As a ``gevent.Timeout``: not an ``Exception``."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic(TOPIC)
        yield cluster


def killed_at(number: int, call: Callable[[], Any], how: BaseException) -> bool:
    """Run a call in a greenlet, and throw into it when it gives way for the so-many-th time.

    :returns: whether it came so far.
    """
    seen = 0
    hub = gevent.get_hub()

    def run() -> None:
        try:
            call()
        except Killed:
            pass

    job = gevent.Greenlet(run)

    def trace(event: str, args: Any) -> None:
        nonlocal seen
        if event in ("switch", "throw") and args[0] is job and not job.dead:
            seen += 1
            if seen == number:
                hub.loop.run_callback(lambda: None if job.dead else job.throw(how))

    before = greenlet.settrace(trace)
    try:
        job.start()
        assert job.join(20) is None
        assert job.dead, "the call does not end"
    finally:
        greenlet.settrace(before)
    return seen >= number


def check_connections(client: Any) -> None:
    """Every permit is back, but for calls of the client's own greenlets that wait for their answers."""

    def kept() -> list[Any]:
        peers = client._instance.remoting._peers.values()
        open_ones = [peer.connection for peer in peers if peer.connection is not None]
        return [one for one in open_ones if one._permits.counter + one.in_flight != MAX_IN_FLIGHT]

    with gevent.Timeout(5, AssertionError("permits are kept")):
        while kept():  # a greenlet that has its answer and not run yet
            gevent.sleep(0.001)


PRODUCER_CALLS: dict[str, Callable[[Producer], Any]] = {
    "send": lambda producer: producer.send(Message(TOPIC, b"x")),
    "send to a new topic": lambda producer: producer.send(Message("killed_new", b"x")),
    "large body": lambda producer: producer.send(Message(TOPIC, b"x" * 300_000)),
    "send_orderly": lambda producer: producer.send_orderly(Message(TOPIC, b"x"), "key"),
    "send_batch": lambda producer: producer.send_batch([Message(TOPIC, b"x"), Message(TOPIC, b"y")]),
    "send_async": lambda producer: producer.send_async(Message(TOPIC, b"x")).get(),
    "send_oneway": lambda producer: [producer.send_oneway(Message(TOPIC, b"x")) for _ in range(130)],
    "create_topic": lambda producer: producer.create_topic("killed_made"),
    "fetch_publish_queues": lambda producer: producer.fetch_publish_queues(TOPIC),
    "topic_list": lambda producer: producer.topic_list(),
    "topic_route": lambda producer: producer.topic_route(TOPIC),
    "max_offset": lambda producer: producer.max_offset(MessageQueue(TOPIC, "broker-a", 0)),
    "search_offset": lambda producer: producer.search_offset(MessageQueue(TOPIC, "broker-a", 0), 0),
}


@pytest.mark.parametrize("name", PRODUCER_CALLS)
def test_producer(cluster: EmbeddedCluster, name: str) -> None:
    with Producer("killed", namesrv=cluster.namesrv) as producer:
        for number in range(1, MANY):
            for how in (Killed(), gevent.GreenletExit()):
                came_so_far = killed_at(number, lambda: PRODUCER_CALLS[name](producer), how)
                result = producer.send(Message(TOPIC, "after"))
                assert producer.view_message(result.offset_msg_id).body == b"after"
            check_connections(producer)
            assert producer._sends.under_way == 0
            if not came_so_far:
                break
        else:
            pytest.fail("the call takes more switches than were tried")
        producer._tasks.join(10)
        assert producer._window.messages == 0


def test_first_send_of_a_producer(cluster: EmbeddedCluster) -> None:
    """It fetches the route, connects, and sends; another caller, who shares the fetch, gets his answer all the same."""
    for number in range(1, MANY):
        with Producer("killed", namesrv=cluster.namesrv) as producer:
            other = gevent.spawn(producer.send, Message(TOPIC, "other"))
            came_so_far = killed_at(number, lambda producer=producer: producer.send(Message(TOPIC, b"x")), Killed())
            assert other.get(timeout=10).msg_id
            check_connections(producer)
        if not came_so_far:
            return
    pytest.fail("the call takes more switches than were tried")


def make(kind: str, cluster: EmbeddedCluster) -> Any:
    if kind == "producer":
        return Producer("killed", namesrv=cluster.namesrv)
    if kind == "pull":
        return PullConsumer("killed", namesrv=cluster.namesrv)
    if kind == "simple":
        simple = SimpleConsumer("killed_simple", namesrv=cluster.namesrv)
        simple.subscribe(TOPIC)
        return simple
    if kind == "lite":
        lite = LitePullConsumer("killed_lite", namesrv=cluster.namesrv)
        lite.subscribe(TOPIC)
        return lite
    consumer = PushConsumer("killed_push", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.LAST_OFFSET)
    consumer.subscribe(TOPIC)
    consumer.register_listener(lambda msgs: None, orderly=kind == "orderly")
    return consumer


@pytest.mark.parametrize("kind", ["producer", "pull", "simple", "lite", "push", "orderly"])
def test_start_and_shutdown(cluster: EmbeddedCluster, kind: str) -> None:
    """A start that was killed can be made again, and a shutdown be finished; what is left behind, the test's own rules find."""
    for step in ("start", "shutdown"):
        for number in range(1, MANY):
            client = make(kind, cluster)
            if step == "shutdown":
                client.start()
            came_so_far = killed_at(number, getattr(client, step), Killed())
            client.start() if step == "start" else None
            client.shutdown()
            if not came_so_far:
                break
        else:
            pytest.fail("the call takes more switches than were tried")


CONSUMER_CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "pull": ("pull", lambda one: one.pull(MessageQueue(TOPIC, "broker-a", 0), "*", 0)),
    "update_offset": ("pull", lambda one: one.update_offset(MessageQueue(TOPIC, "broker-a", 0), 0)),
    "fetch_offset": ("pull", lambda one: one.fetch_offset(MessageQueue(TOPIC, "broker-a", 0))),
    "receive": ("simple", lambda one: one.receive(wait=0)),
    "poll": ("lite", lambda one: one.poll(0.05)),
    "commit": ("lite", lambda one: one.commit()),
    "seek": ("lite", lambda one: one.seek_to_begin(one.queues()[0])),
    "subscribe": ("push", lambda one: one.subscribe("killed_too")),
    "unsubscribe": ("push", lambda one: one.unsubscribe("killed_too")),
    "rebalance": ("push", lambda one: one.rebalance()),
    "persist_offsets": ("push", lambda one: one.persist_offsets()),
}


@pytest.mark.parametrize("name", CONSUMER_CALLS)
def test_consumer(cluster: EmbeddedCluster, name: str) -> None:
    kind, call = CONSUMER_CALLS[name]
    with make(kind, cluster) as client:
        for number in range(1, MANY):
            came_so_far = killed_at(number, lambda: call(client), Killed())
            call(client)
            check_connections(client)
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")
