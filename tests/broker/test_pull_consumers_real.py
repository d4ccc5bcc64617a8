"""Consumers that ask for their messages, on real brokers of both releases."""

from __future__ import annotations

import itertools
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gevent import subprocess

from grocketmq import ConsumeFromWhere, LitePullConsumer, MessageQueue, Producer, PullConsumer, PullStatus
from grocketmq.errors import ConfigError
from grocketmq.model.subscription import Sql
from tests.helpers import wait_for
from tests.meta.source import ROOT

from .clients import ARRIVAL, Inbox, consuming, numbered, producing, send_bodies, stored_offset
from .cluster import RealCluster
from .conftest import Pair

_instances = itertools.count(1)


@contextmanager
def polling(
    cluster: RealCluster, group: str, topic: str | None = None, *, expression: str = "*", **options: Any
) -> Iterator[LitePullConsumer]:
    """A running lite pull consumer with an instance of its own, that begins at the first offset and commits by hand."""
    options.setdefault("auto_commit", False)
    options.setdefault("consume_from", ConsumeFromWhere.FIRST_OFFSET)
    options.setdefault("instance_name", f"lite-{next(_instances)}")
    consumer = LitePullConsumer(group, namesrv=cluster.namesrv, **options)
    if topic is not None:
        consumer.subscribe(topic, expression)
    with consumer:
        yield consumer


@contextmanager
def pulling(cluster: RealCluster, group: str) -> Iterator[PullConsumer]:
    with PullConsumer(group, namesrv=cluster.namesrv, instance_name=f"pull-{next(_instances)}") as consumer:
        yield consumer


def poll_all(consumer: LitePullConsumer, count: int) -> list[bytes]:
    """Poll until so many have come."""
    got: list[bytes] = []
    wait_for(
        lambda: got.extend(message.body for message in consumer.poll(1.0)) or len(got) >= count,
        ARRIVAL,
        f"{count} messages",
    )
    return got


def offsets(consumer: LitePullConsumer) -> list[int]:
    return [message.queue_offset for message in consumer.poll(ARRIVAL)]


def offsets_at_once(consumer: LitePullConsumer) -> list[int]:
    return [message.queue_offset for message in consumer.poll(1.0)]


@pytest.fixture
def hundred(pair: Pair, topic_name: str) -> MessageQueue:
    """A queue with 100 messages."""
    pair.cluster.create_topic(topic_name, queues=1)
    queue = MessageQueue(topic_name, pair.cluster.broker_names[0], 0)
    with producing(pair.cluster) as producer:
        send_bodies(producer, topic_name, numbered("m", 100), queue)
    return queue


# Subscribing


def test_members_share_the_queues_and_hand_them_over(pair: Pair, topic_name: str, group_name: str) -> None:
    cluster = pair.cluster
    cluster.create_topic(topic_name)
    told: list[int] = []
    before, after = numbered("before", 100), numbered("after", 100)
    with (
        producing(cluster) as producer,
        polling(cluster, group_name, topic_name, on_rebalance=lambda topic, everyone, mine: told.append(len(mine))) as first,
    ):
        send_bodies(producer, topic_name, before)
        got = poll_all(first, 100)
        first.commit()
        with polling(cluster, group_name, topic_name) as second:
            wait_for(lambda: (len(first.queues()), len(second.queues())) == (4, 4), ARRIVAL)
            assert not set(first.queues()) & set(second.queues())
            send_bodies(producer, topic_name, after)
            others: list[bytes] = []
            wait_for(
                lambda: (
                    got.extend(message.body for message in first.poll(0.1))
                    or others.extend(message.body for message in second.poll(0.1))
                    or len(got + others) >= 200
                ),
                ARRIVAL,
            )
            assert sorted(got + others) == sorted(before + after)
            first.commit()
        wait_for(lambda: len(first.queues()) == 8, ARRIVAL)
        wait_for(lambda: told == [8, 4, 8], ARRIVAL)
        again = poll_all(first, len(others))
        assert sorted(again) == sorted(others), "what the other did not commit comes again, and nothing that was committed"


def test_tags_and_iteration(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    pair.java.send(topic_name, numbered("yes", 20), tags="yes")
    pair.java.send(topic_name, numbered("no", 20), tags="no")
    with polling(pair.cluster, group_name, topic_name, expression="yes || maybe") as consumer:
        got = []
        for message in consumer:
            assert message.tags == "yes"
            got.append(message.body)
            if len(got) == 20:
                break
        assert sorted(got) == sorted(numbered("yes", 20))
        wait_for(lambda: consumer.commit() or sum(consumer.committed(one) or 0 for one in consumer.queues()) == 40, ARRIVAL)


def test_java_goes_on_at_the_position_committed(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name, queues=1)
    with producing(pair.cluster) as producer, polling(pair.cluster, group_name, topic_name) as consumer:
        send_bodies(producer, topic_name, numbered("done", 30))
        assert len(poll_all(consumer, 30)) == 30
        consumer.commit()
        send_bodies(producer, topic_name, numbered("open", 30))
        assert len(poll_all(consumer, 30)) == 30
    java = pair.java.consume(group_name, topic_name)
    try:
        wait_for(lambda: len(java.messages) >= 30, ARRIVAL)
        assert sorted(message.body for message in java.messages) == sorted(numbered("open", 30))
    finally:
        java.stop()


# Assigning, seeking, pausing


def test_seek(pair: Pair, hundred: MessageQueue, group_name: str) -> None:
    with polling(pair.cluster, group_name) as consumer:
        assert hundred in consumer.fetch_subscribe_queues(hundred.topic)
        consumer.assign([hundred])
        assert offsets(consumer) == list(range(10))
        consumer.seek(hundred, 95)
        assert offsets(consumer) == list(range(95, 100))
        consumer.seek_to_begin(hundred)
        assert offsets(consumer) == list(range(10))
        consumer.seek(hundred, 42)
        at = consumer.poll(ARRIVAL)[0].store_timestamp
        consumer.seek_to_timestamp(hundred, at)
        found = consumer.poll(ARRIVAL)[0]
        assert (found.queue_offset <= 42, found.store_timestamp) == (True, at)
        consumer.seek_to_timestamp(hundred, int(time.time() * 1000) + 60_000)
        assert offsets_at_once(consumer) == ([99] if pair.cluster.version.startswith("4.") else [])
        consumer.seek_to_end(hundred)
        consumer.commit()
        assert consumer.committed(hundred) == 100
        with producing(pair.cluster) as producer:
            send_bodies(producer, hundred.topic, [b"new"], hundred)
        assert offsets(consumer) == [100]
        for offset in (-1, 102):
            with pytest.raises(ConfigError, match="not within"):
                consumer.seek(hundred, offset)
        assert consumer.queues() == [hundred]
        assert consumer.running_info().properties["PROP_CONSUME_TYPE"] == "CONSUME_ACTIVELY"


def test_pause(pair: Pair, hundred: MessageQueue, group_name: str) -> None:
    with polling(pair.cluster, group_name) as consumer:
        consumer.assign([hundred])
        wait_for(lambda: consumer.stats().cached_messages >= 20, ARRIVAL)
        consumer.pause([hundred])
        assert consumer.poll(0.3) == []
        consumer.resume([hundred])
        assert [offset for _ in range(10) for offset in offsets(consumer)] == list(range(100))


# Committing


def test_auto_commit_is_a_poll_behind(pair: Pair, hundred: MessageQueue, group_name: str) -> None:
    with polling(pair.cluster, group_name, auto_commit=True, auto_commit_interval=0.0) as consumer:
        consumer.assign([hundred])
        for _ in range(3):
            assert len(consumer.poll(ARRIVAL)) == 10
    with polling(pair.cluster, group_name) as consumer:
        consumer.assign([hundred])
        assert consumer.committed(hundred) == 20
        assert offsets(consumer) == list(range(20, 30)), "what the last poll got comes again"


def start_member(cluster: RealCluster, group: str, topic: str, *limit: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.broker.lite_member", cluster.namesrv, group, topic, *limit]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def read(member: subprocess.Popen[bytes], count: int | None = None) -> list[bytes]:
    """Bodies that it has done: so many, or all until its end."""
    assert member.stdout is not None
    lines = member.stdout if count is None else itertools.islice(member.stdout, count)
    return [b64decode(line) for line in lines if line.endswith(b"\n")]


@pytest.mark.parametrize("by", ["os._exit", "kill -9"])
def test_a_crash_loses_nothing(pair: Pair, topic_name: str, group_name: str, by: str) -> None:
    """Each member dies in the middle of a batch; what it was done with or had not committed, another one does."""
    cluster = pair.cluster
    cluster.create_topic(topic_name, queues=2)
    bodies = numbered("m", 400)
    with producing(cluster) as producer:
        send_bodies(producer, topic_name, bodies)
    done: list[bytes] = []
    for _ in range(3):
        with start_member(cluster, group_name, topic_name, *(["77"] if by == "os._exit" else [])) as member:
            try:
                done += read(member, 77)
            finally:
                member.kill()
            done += read(member)
            member.wait(ARRIVAL)
    assert 77 * 3 <= len(done) < 400, "the members were killed before they were through"
    with polling(cluster, group_name, topic_name) as last:
        rest: list[bytes] = []
        wait_for(
            lambda: rest.extend(m.body for m in last.poll(1.0)) or set(done) | set(rest) >= set(bodies),
            ARRIVAL,
            "every message",
        )
    assert len(set(done)) > 77, "a member went on where the one before had committed"


def test_an_operator_resets_offsets(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name, queues=1)
    with producing(real_cluster) as producer, polling(real_cluster, group_name, topic_name) as consumer:
        bodies = numbered("m", 40)
        send_bodies(producer, topic_name, bodies)
        assert sorted(poll_all(consumer, 40)) == sorted(bodies)
        consumer.commit()
        real_cluster.mqadmin("resetOffsetByTime", "-g", group_name, "-t", topic_name, "-s", "0")
        send_bodies(producer, topic_name, numbered("wake", 4))  # ends the pulls that brokers hold
        assert set(poll_all(consumer, 44)) == {*bodies, *numbered("wake", 4)}


# One pull at a time


def test_pull_consumer(pair: Pair, hundred: MessageQueue, group_name: str) -> None:
    with pulling(pair.cluster, group_name) as consumer:
        assert hundred in consumer.fetch_subscribe_queues(hundred.topic)
        got, offset = [], consumer.min_offset(hundred)
        while (result := consumer.pull(hundred, "*", offset)).status is PullStatus.FOUND:
            got += [message.body for message in result.messages]
            offset = result.next_begin_offset
        assert got == numbered("m", 100)
        assert (result.status, result.max_offset) == (PullStatus.NO_NEW_MSG, 100)
        assert consumer.pull(hundred, "other", 0).status is PullStatus.NO_MATCHED_MSG
        refused = consumer.pull(hundred, "*", 1000)
        assert (refused.status, refused.next_begin_offset) == (PullStatus.OFFSET_ILLEGAL, 100)
        assert consumer.fetch_offset(hundred) in (None, 0)
        for offset in (60, 40):
            consumer.update_offset(hundred, offset)
            assert consumer.fetch_offset(hundred) == stored_offset(consumer, group_name, hundred) == offset
        waiting = consumer.pull_async(hundred, "*", 100, block=True)
        with producing(pair.cluster) as producer:
            send_bodies(producer, hundred.topic, [b"new"], hundred)
        assert [message.body for message in waiting.get(timeout=ARRIVAL).messages] == [b"new"]
        assert consumer.consumer_ids(group_name, hundred.topic) == [consumer.client_id]
        with pytest.raises(ConfigError, match="SQL92"):
            consumer.pull(hundred, Sql("price >"), 0)


def test_what_a_pull_consumer_sends_back_comes_to_the_group(pair: Pair, hundred: MessageQueue, group_name: str) -> None:
    with pulling(pair.cluster, group_name) as consumer:
        message = consumer.pull(hundred, "*", 0, 1).messages[0]
        consumer.send_back(message, 1)
    inbox = Inbox()
    with consuming(pair.cluster, group_name, hundred.topic, inbox, consume_from=ConsumeFromWhere.LAST_OFFSET):
        wait_for(lambda: any(one.reconsume_times == 1 and one.body == message.body for one in inbox.messages), ARRIVAL)


@pytest.mark.parametrize("client", [LitePullConsumer, PullConsumer])
def test_start_and_stop_leave_nothing(client: Any, real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    for _ in range(5):
        consumer = client(group_name, namesrv=real_cluster.namesrv)
        with consumer:
            queues = consumer.fetch_subscribe_queues(topic_name)
            assert len(queues) == 8
            if isinstance(consumer, LitePullConsumer):
                consumer.assign(queues)
                assert consumer.poll(0.01) == []
            else:
                assert consumer.pull(queues[0], "*", 0).messages == []


def test_producer_and_consumers_share_an_instance(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name, queues=1)
    common = {"namesrv": real_cluster.namesrv, "instance_name": topic_name}
    lite = LitePullConsumer(group_name, consume_from=ConsumeFromWhere.FIRST_OFFSET, **common)
    lite.subscribe(topic_name)
    with Producer("test_producer", **common) as producer, lite, PullConsumer(f"{group_name}_2", **common) as pulls:
        send_bodies(producer, topic_name, numbered("m", 20))
        assert lite.client_id == pulls.client_id == producer.client_id
        assert sorted(poll_all(lite, 20)) == sorted(numbered("m", 20))
        assert sum(len(pulls.pull(one, "*", 0).messages) for one in pulls.fetch_subscribe_queues(topic_name)) == 20
