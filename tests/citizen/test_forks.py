"""A process forks while its clients work: the child touches nothing of the parent's and works, the parent never notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.forking import SENDERS, SENDS, TOPIC
from tests.citizen.stored import wrong_answers
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
