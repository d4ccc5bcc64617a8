"""A process forks while its clients work: the child touches nothing of the parent's and works, the parent never notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from grocketmq import PullConsumer
from grocketmq.embedded import EmbeddedCluster
from tests.citizen.forking import SENDERS, SENDS, TOPIC
from tests.citizen.stored import wrong_answers
from tests.helpers import wait_for
from tests.programs import run_program


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic(TOPIC)
        yield cluster


def run(cluster: EmbeddedCluster, how: str, patched: bool) -> dict[str, Any]:
    patch = ["-m", "gevent.monkey", "--module"] if patched else ["-m"]
    done = run_program("-W", "error", *patch, "tests.citizen.forking", how, namesrv=cluster.namesrv)
    assert (done.status, done.stderr) == (0, ""), done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    sends = told["parent"] + told["child"].get("sends", [])
    assert len(told["parent"]) == 2 * SENDERS * SENDS
    assert wrong_answers(cluster.namesrv, sends) == []
    if how != "unused":
        # A message that the child's copy of the consumer had taken away would be missing.
        assert {one["body"] for one in sends} <= set(told["got"])
    return told


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("how", ["os", "multiprocessing"])
def test_started_before_the_fork(cluster: EmbeddedCluster, how: str, patched: bool) -> None:
    told = run(cluster, how, patched)
    child = told["child"]
    assert len(child["sends"]) == SENDERS * SENDS
    assert child["inherited"] == child["copies"] == []
    assert child["consumed"] == 0
    assert "restart_after_fork=True" in child["refused"]
    assert child["client_id"] not in (None, told["client_id"])
    assert child["restarted"] not in (None, child["client_id"])


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
def test_made_before_the_fork(cluster: EmbeddedCluster, patched: bool) -> None:
    told = run(cluster, "unused", patched)
    assert len(told["child"]["sends"]) == SENDERS * SENDS
    assert told["child"]["client_id"] not in (None, told["client_id"])


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
def test_programs_started_meanwhile(cluster: EmbeddedCluster, patched: bool) -> None:
    run(cluster, "subprocess", patched)


@pytest.mark.parametrize("how", ["send", "oneway", "auto_batch", "transaction"])
def test_copies_of_sends(cluster: EmbeddedCluster, how: str) -> None:
    """Given a send under way at the fork, when the child has started its producer anew, then the copy sends nothing through it,
    nor tells the end of a transaction, and the child's shutdown does not wait for it."""
    topic = f"forked-{how}"
    cluster.create_topic(topic, queues=1)
    done = run_program("-W", "error", "-m", "tests.citizen.forked_send", how, namesrv=cluster.namesrv)
    assert (done.status, done.stderr) == (0, ""), done.stderr
    told = json.loads(done.stdout)
    assert told["copy"] == "ForkError"
    assert told["under_way"] == 0
    assert told["shutdown"] < 2.0
    assert told["parent"] == "sent"
    with PullConsumer("judge", namesrv=cluster.namesrv) as consumer:

        def stored() -> list[str]:
            pulled = [consumer.pull(queue, "*", 0) for queue in consumer.fetch_subscribe_queues(topic)]
            return sorted(msg.body.decode() for one in pulled for msg in one.messages)

        wait_for(lambda: len(stored()) >= 2)
        assert stored() == ["of both", "of the child"]
