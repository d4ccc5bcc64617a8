"""The producer against real brokers, and against brokers that fail."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from grocketmq import (
    Backpressure,
    Message,
    MessageQueue,
    Producer,
    SendResult,
    SendStatus,
    split_batch,
)
from grocketmq.errors import (
    MessageError,
    MessageIllegalError,
    RouteNotFoundError,
    SendError,
    TooManyRequestsError,
)
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, numbered, producing
from .cluster import RealCluster

MIB = 1 << 20


def stored(producer: Producer, topic: str) -> int:
    """How many messages the queues of a topic have got."""
    return sum(producer.max_offset(queue) for queue in producer.fetch_publish_queues(topic))


@contextmanager
def paused(cluster: RealCluster) -> Iterator[None]:
    """Every broker silent, with its connections open."""
    for name in cluster.broker_names:
        cluster.pause_broker(name)
    try:
        yield
    finally:
        for name in cluster.broker_names:
            cluster.resume_broker(name)


@contextmanager
def longest_stall(limit: float) -> Iterator[None]:
    """The hub turns all the time, with no pause above ``limit`` seconds."""
    worst = 0.0

    def watch() -> None:
        nonlocal worst
        while True:
            began = time.monotonic()
            gevent.sleep(0.002)
            worst = max(worst, time.monotonic() - began)

    watcher = gevent.spawn(watch)
    try:
        yield
    finally:
        watcher.kill()
    assert worst < limit


# -- where messages go


def test_messages_spread_over_all_queues(real_cluster: RealCluster, topic_name: str) -> None:
    real_cluster.create_topic(topic_name)
    with producing(real_cluster) as producer:
        results = [producer.send(Message(topic_name, b"x")) for _ in range(32)]
    assert {result.status for result in results} == {SendStatus.SEND_OK}
    assert len({result.message_queue for result in results}) == 8
    assert len({result.msg_id for result in results}) == 32


def test_an_explicit_queue(real_cluster: RealCluster, topic_name: str) -> None:
    real_cluster.create_topic(topic_name)
    queue = MessageQueue(topic_name, "broker-b", 2)
    with producing(real_cluster) as producer:
        for number in range(5):
            result = producer.send(Message(topic_name, b"x"), queue=queue)
            assert (result.message_queue, result.queue_offset) == (queue, number)
        wait_for(lambda: producer.max_offset(queue) == 5, ARRIVAL, "the broker has put them into the queue")
        assert producer.min_offset(queue) == 0
        assert producer.view_message(result.offset_msg_id).msg_id == result.msg_id


def test_a_topic_that_brokers_create(real_cluster: RealCluster, topic_name: str) -> None:
    with producing(real_cluster) as producer:
        first = producer.send(Message(topic_name, b"x"))
        wait_for(lambda: topic_name in producer.topic_list(), ARRIVAL, "the name server knows the topic")
        route = producer.topic_route(topic_name)
        assert first.message_queue.broker_name in {data.broker_name for data in route.queue_datas}
        assert {(data.read_queue_nums, data.write_queue_nums) for data in route.queue_datas} == {(4, 4)}
        assert producer.send(Message(topic_name, b"y")).status is SendStatus.SEND_OK


def test_a_topic_that_no_broker_may_create(small_cluster: RealCluster, topic_name: str) -> None:
    with producing(small_cluster) as producer:
        for send in (producer.send, producer.send_oneway):
            with pytest.raises(RouteNotFoundError, match=topic_name):
                send(Message(topic_name, b"x"))
        with pytest.raises(RouteNotFoundError, match=topic_name):
            producer.send_async(Message(topic_name, b"x")).get(timeout=ARRIVAL)
        assert topic_name not in producer.topic_list()


def test_create_topic(real_cluster: RealCluster, topic_name: str) -> None:
    with producing(real_cluster) as producer:
        producer.create_topic(topic_name, queues=3)

        def brokers() -> dict[str, int]:
            try:
                return {data.broker_name: data.write_queue_nums for data in producer.topic_route(topic_name).queue_datas}
            except RouteNotFoundError:
                return {}

        wait_for(lambda: brokers() == {"broker-a": 3, "broker-b": 3}, ARRIVAL, "three queues at each broker")
        assert len(producer.fetch_publish_queues(topic_name)) == 6
        producer.send(Message(topic_name, b"x"), queue=MessageQueue(topic_name, "broker-b", 2))


# -- sizes


def test_the_largest_body(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    largest = random.Random(1).randbytes(4 * MIB)
    inbox = Inbox()
    with producing(real_cluster, compress_above=5 * MIB) as producer:
        with pytest.raises(MessageError):
            producer.send(Message(topic_name, largest + b"!"))
        assert producer.send(Message(topic_name, largest)).status is SendStatus.SEND_OK
    with producing(real_cluster, compress_above=9 * MIB, max_message_size=8 * MIB) as producer:
        with pytest.raises(MessageIllegalError):
            producer.send(Message(topic_name, largest + b"!"))
        assert stored(producer, topic_name) == 1
    with consuming(real_cluster, group_name, topic_name, inbox):
        assert inbox.wait(1)[0].body == largest


def test_batches(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    bodies = [body + b" " * 1000 for body in numbered("batch", 500)]
    inbox = Inbox()
    with producing(real_cluster) as producer:
        batches = list(split_batch([Message(topic_name, body) for body in bodies], 64 * 1024))
        assert len(batches) > 5
        ids = [one for batch in batches for one in producer.send_batch(batch).msg_id.split(",")]
        assert stored(producer, topic_name) == len(ids) == 500
        with pytest.raises(MessageError):
            producer.send_batch([Message(topic_name, b"x" * MIB) for _ in range(5)])
    with consuming(real_cluster, group_name, topic_name, inbox):
        inbox.wait(500)
    assert sorted(inbox.bodies) == sorted(bodies)
    assert {message.msg_id for message in inbox.messages} == set(ids)


# -- many at once


def test_a_oneway_burst_loses_nothing(real_cluster: RealCluster, topic_name: str) -> None:
    real_cluster.create_topic(topic_name)
    body = b"x" * 1024
    with producing(real_cluster) as producer:
        for _ in range(30_000):
            producer.send_oneway(Message(topic_name, body))
        wait_for(lambda: stored(producer, topic_name) >= 30_000, 20.0, "all are stored")
        assert stored(producer, topic_name) == 30_000


def test_async_sends(real_cluster: RealCluster, topic_name: str) -> None:
    real_cluster.create_topic(topic_name)
    called_back: list[SendResult] = []
    failures: list[Exception] = []
    with producing(real_cluster, send_timeout=60.0) as producer:
        pending = [
            producer.send_async(Message(topic_name, b"x"), on_success=called_back.append, on_error=failures.append)
            for _ in range(5000)
        ]
        results = [one.get(timeout=ARRIVAL) for one in pending]
        assert len({result.msg_id for result in results}) == 5000
        wait_for(lambda: len(called_back) == 5000, ARRIVAL, "every callback has been called")
        assert not failures
        assert stored(producer, topic_name) == 5000


def test_backpressure_bounds_what_is_under_way(own_cluster: RealCluster, topic_name: str) -> None:
    own_cluster.create_topic(topic_name)
    with producing(own_cluster, send_timeout=30.0, backpressure=Backpressure(max_messages=10)) as producer:
        producer.send(Message(topic_name, b"warm"))
        with paused(own_cluster):
            pending = [producer.send_async(Message(topic_name, b"x")) for _ in range(10)]
            began = time.monotonic()
            with pytest.raises(TooManyRequestsError):
                producer.send_async(Message(topic_name, b"x"), timeout=0.5)
            assert 0.4 < time.monotonic() - began < 2.0
            assert not any(one.ready() for one in pending)
        assert {one.get(timeout=ARRIVAL).status for one in pending} == {SendStatus.SEND_OK}
        producer.send_async(Message(topic_name, b"room again")).get(timeout=ARRIVAL)


def test_oneway_sends_wait_for_a_silent_broker(own_cluster: RealCluster, topic_name: str) -> None:
    """Given brokers that read nothing, then oneway sends wait, and fail before they fill the memory; none of them is lost."""
    own_cluster.create_topic(topic_name)
    body = random.Random(1).randbytes(MIB)
    with producing(own_cluster, send_timeout=1.0) as producer:
        producer.send(Message(topic_name, b"warm"))
        sent = 1
        with paused(own_cluster), pytest.raises(TooManyRequestsError):
            for _ in range(100):
                producer.send_oneway(Message(topic_name, body))
                sent += 1
        assert sent < 80
        wait_for(lambda: stored(producer, topic_name) >= sent, ARRIVAL, "what was let in is stored")


# -- brokers that fail


def test_timeouts_are_kept_while_brokers_are_silent(own_cluster: RealCluster, topic_name: str) -> None:
    own_cluster.create_topic(topic_name)
    with producing(own_cluster) as producer:
        producer.send(Message(topic_name, b"warm"))
        with paused(own_cluster), longest_stall(0.5):
            began = time.monotonic()

            def send(timeout: float) -> float:
                with pytest.raises(SendError):
                    producer.send(Message(topic_name, b"x"), timeout=timeout)
                return time.monotonic() - began

            timeouts = [0.3, 1.0, 2.0] * 5
            tasks = [gevent.spawn(send, timeout) for timeout in timeouts]
            gevent.joinall(tasks, timeout=ARRIVAL, raise_error=True)
            for timeout, task in zip(timeouts, tasks, strict=True):
                assert timeout * 0.9 <= task.get() <= timeout + 0.5
        assert producer.send(Message(topic_name, b"again")).status is SendStatus.SEND_OK


def test_sends_go_to_another_broker_when_one_is_killed(own_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    own_cluster.create_topic(topic_name)
    results: dict[bytes, SendResult] = {}
    killed = False
    after: list[SendResult] = []
    with producing(own_cluster) as producer:

        def send_until_enough(prefix: str) -> None:
            number = 0
            while len(after) < 200:
                body = f"{prefix} {number}".encode()
                results[body] = result = producer.send(Message(topic_name, body))
                if killed:
                    after.append(result)
                number += 1

        tasks = [gevent.spawn(send_until_enough, f"sender {number}") for number in range(4)]
        wait_for(lambda: len(results) > 100, ARRIVAL, "sends are under way")
        own_cluster.kill_broker("broker-a")
        killed = True
        gevent.joinall(tasks, timeout=ARRIVAL, raise_error=True)
        assert all(task.successful() for task in tasks)
    assert {result.status for result in results.values()} == {SendStatus.SEND_OK}
    assert {result.message_queue.broker_name for result in after[8:]} == {"broker-b"}
    own_cluster.heal()
    inbox = Inbox()
    with consuming(own_cluster, group_name, topic_name, inbox):
        inbox.wait_for_bodies(results)


def test_an_explicit_queue_has_no_other_broker(own_cluster: RealCluster, topic_name: str) -> None:
    own_cluster.create_topic(topic_name)
    with producing(own_cluster) as producer:
        producer.send(Message(topic_name, b"x"), queue=MessageQueue(topic_name, "broker-a", 0))
        own_cluster.kill_broker("broker-a")
        with pytest.raises(SendError) as failure:
            producer.send(Message(topic_name, b"x"), queue=MessageQueue(topic_name, "broker-a", 0), timeout=2.0)
        assert [attempt.broker_name for attempt in failure.value.attempts] == ["broker-a"]
        producer.send(Message(topic_name, b"x"), queue=MessageQueue(topic_name, "broker-b", 0))
