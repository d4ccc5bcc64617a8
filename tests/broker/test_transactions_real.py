"""Transactions at a real broker, which asks after two seconds: what consumers get, and how often."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import subprocess
from gevent.event import Event

from grocketmq import LocalTransactionState, Message, MessageExt, TransactionProducer
from tests.helpers import wait_for
from tests.meta.source import ROOT

from .clients import ARRIVAL, Inbox, consuming, java_ends_transactions
from .cluster import RealCluster
from .java_driver import JavaDriver

COMMIT, ROLLBACK, UNKNOWN = LocalTransactionState.COMMIT, LocalTransactionState.ROLLBACK, LocalTransactionState.UNKNOWN
#: Longer than a broker waits before it asks, and asks again.
QUIET = 5.0

_instances = itertools.count(1)


class Local:
    """Local transactions that end as the message's tag says, and as its key says when the broker asks."""

    def __init__(self) -> None:
        self.checked: list[MessageExt] = []
        self.release = Event()

    def execute(self, msg: Message, arg: object) -> LocalTransactionState:
        if msg.tags == "waits":
            self.release.wait()
            return COMMIT
        if msg.tags == "raises":
            raise RuntimeError("the database is gone")
        return LocalTransactionState[str(msg.tags)]

    def check(self, msg: MessageExt) -> LocalTransactionState:
        self.checked.append(msg)
        times = int(msg.properties["TRANSACTION_CHECK_TIMES"])
        if msg.keys == "raises-first" and times == 1:
            raise RuntimeError("the database is gone")
        return COMMIT if msg.keys == "raises-first" else LocalTransactionState[str(msg.keys)]


@contextmanager
def transactional(cluster: RealCluster, group: str, local: Local, **options: Any) -> Iterator[TransactionProducer]:
    with TransactionProducer(
        group,
        namesrv=cluster.namesrv,
        execute=local.execute,
        check=local.check,
        instance_name=f"transactional-{next(_instances)}",
        send_timeout=20.0,
        **options,
    ) as producer:
        wait_for(lambda: producer._instance.heartbeats.versions, ARRIVAL, "the broker knows the producer")
        yield producer


def test_every_state_and_every_answer(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """Each combination of how the local transaction ended and what the check says; what is committed comes exactly once."""
    small_cluster.create_topic(topic_name)
    local, inbox = Local(), Inbox()
    cases = {
        ("COMMIT", "ROLLBACK"): 1,
        ("ROLLBACK", "COMMIT"): 0,
        ("UNKNOWN", "COMMIT"): 1,
        ("UNKNOWN", "ROLLBACK"): 0,
        ("raises", "COMMIT"): 1,
        ("raises", "raises-first"): 1,
    }
    with consuming(small_cluster, group_name, topic_name, inbox), transactional(small_cluster, "tx_states", local) as producer:
        results = {}
        for tag, key in cases:
            msg = Message(topic_name, f"{tag} {key}", tags=tag, keys=key, properties={"own": "1"})
            results[tag, key] = producer.send_in_transaction(msg)
        assert {case: result.local_transaction_state.name for case, result in results.items()} == {
            (tag, key): "UNKNOWN" if tag == "raises" else tag for tag, key in cases
        }
        inbox.wait_for_bodies(f"{tag} {key}".encode() for (tag, key), count in cases.items() if count)
        wait_for(lambda: any(one.keys == "ROLLBACK" for one in local.checked), ARRIVAL, "the rolled back one was asked for")
        gevent.sleep(QUIET)
    assert {case: inbox.bodies.count(" ".join(case).encode()) for case in cases} == cases
    for message in inbox.messages:
        result = results[str(message.tags), str(message.keys)]
        assert (message.msg_id, message.properties["own"]) == (result.transaction_id, "1")
    asked = sorted(f"{one.tags} {one.keys}" for one in local.checked)
    assert asked == ["UNKNOWN COMMIT", "UNKNOWN ROLLBACK", "raises COMMIT", "raises raises-first", "raises raises-first"]
    assert {one.topic for one in local.checked} == {topic_name}


def test_java_ends_transactions(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    with JavaDriver(small_cluster.version, small_cluster.namesrv) as java:
        java_ends_transactions(java, small_cluster.namesrv, group_name, topic_name)


def test_a_broker_that_asks_while_the_local_transaction_runs(
    small_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    small_cluster.create_topic(topic_name)
    local, inbox = Local(), Inbox()
    with consuming(small_cluster, group_name, topic_name, inbox), transactional(small_cluster, "tx_slow", local) as producer:
        sending = gevent.spawn(producer.send_in_transaction, Message(topic_name, b"x", tags="waits"))
        wait_for(lambda: producer._executing, ARRIVAL)
        [end] = producer._executing.values()
        place = end.commit_log_offset
        wait_for(lambda: end.commit_log_offset != place, ARRIVAL, "the broker has asked")
        local.release.set()
        assert sending.get(timeout=ARRIVAL).local_transaction_state is COMMIT
        inbox.wait(1)
        gevent.sleep(QUIET)
    assert inbox.bodies == [b"x"]
    assert local.checked == []


def test_another_member_answers_for_one_that_was_killed(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    local, inbox = Local(), Inbox()
    local.check = lambda msg: local.checked.append(msg) or COMMIT  # type: ignore[assignment,method-assign,func-returns-value]
    member = subprocess.Popen(
        [sys.executable, "-m", "tests.broker.transaction_member", small_cluster.namesrv, "tx_killed", topic_name, "orphan"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        with gevent.Timeout(ARRIVAL):
            transaction_id = member.stdout.readline().decode().strip()
    finally:
        member.kill()
        member.communicate()
    with consuming(small_cluster, group_name, topic_name, inbox), transactional(small_cluster, "tx_killed", local):
        [message, *_] = inbox.wait(1)
        gevent.sleep(QUIET)
    assert inbox.bodies == [b"orphan"]
    assert (message.msg_id, len(local.checked)) == (transaction_id, 1)


def test_immunity_time(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """The one that is immune for longer is asked for later, though it was sent earlier."""
    small_cluster.create_topic(topic_name)
    local, inbox = Local(), Inbox()
    with consuming(small_cluster, group_name, topic_name, inbox), transactional(small_cluster, "tx_immune", local) as producer:
        for name, seconds in (("late", 7.0), ("early", None)):
            msg = Message(topic_name, name, tags="UNKNOWN", keys="COMMIT")
            producer.send_in_transaction(msg, immunity_time=seconds)
        inbox.wait(2)
    assert inbox.bodies == [b"early", b"late"]
    late = local.checked[1]
    assert late.properties["CHECK_IMMUNITY_TIME_IN_SECONDS"] == "7"
    assert inbox.messages[1].store_timestamp - late.born_timestamp >= 0
