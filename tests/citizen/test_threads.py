"""Threads of the system share a client: each gets its own answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.citizen.threading_topics import SENDS, THREADS, TOPIC
from tests.programs import run_program


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic(TOPIC)
        yield cluster


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("how", ["executor", "bridge", "fork"])
def test_program(cluster: EmbeddedCluster, how: str, patched: bool) -> None:
    patch = ["-m", "gevent.monkey", "--module"] if patched else ["-m"]
    # A fork of a process with threads, which newer interpreters warn of, is what "fork" is about.
    ignore = ["-W", "ignore::DeprecationWarning"] if how == "fork" else []
    done = run_program("-W", "error", *ignore, *patch, "tests.citizen.threading_programs", how, namesrv=cluster.namesrv)
    assert (done.status, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert len(told["sends"]) == (3 if how == "fork" else THREADS) * SENDS
    assert wrong_answers(cluster.namesrv, told["sends"]) == []
    if how == "bridge":
        assert told["got"] == THREADS * SENDS
