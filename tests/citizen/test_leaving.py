"""Programs and workers that end: what was accepted is sent, what was begun is finished."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import subprocess

from grocketmq.client import leaving
from grocketmq.client.leaving import note_started, shutdown_all, started_clients
from grocketmq.embedded import EmbeddedCluster
from grocketmq.runtime.lifecycle import Lifecycle
from tests.citizen.leaving import ENDED, SENDS, TOPIC
from tests.meta.source import ROOT
from tests.stacks.servers import members, stored_bodies


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        for topic in (TOPIC, ENDED, "work"):
            cluster.create_topic(topic)
        yield cluster


#: How it ends, and its last word.
ENDS = {
    "exit": (0, ""),
    "wait": (128 + signal.SIGTERM, ""),
    "interrupt": (-signal.SIGINT, "KeyboardInterrupt"),
    "error": (1, "ZeroDivisionError"),
}


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("how", ["exit", "wait", "interrupt", "error"])
def test_program(cluster: EmbeddedCluster, how: str, patched: bool) -> None:
    """It ends by itself, by a SIGTERM, by a Ctrl-C that comes while its listener runs, or by an error."""
    patch = ["-m", "gevent.monkey", "--module"] if patched else ["-m"]
    process = subprocess.Popen(
        [sys.executable, *patch, "tests.citizen.leaving", how],
        cwd=ROOT,
        env={**os.environ, "NAMESRV_ADDR": cluster.namesrv},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process.stdout, process.stderr:
        if how == "wait":
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == ENDS[how][0]
        said = process.stderr.read().splitlines()
    assert (said[-1] if said else "") == ENDS[how][1], said
    assert sum(line.startswith("Traceback") for line in said) == bool(said), "only the main greenlet notices"
    assert sorted(stored_bodies(cluster, TOPIC), key=int) == [str(number) for number in range(SENDS)]
    assert stored_bodies(cluster, ENDED) == ["one job"]
    assert members(cluster, "leaving") == []


class Client(Lifecycle):
    """Notes when it was shut down."""

    def __init__(self, name: str, steps: list[str], *, last: bool = False, error: Exception | None = None) -> None:
        super().__init__()
        self.name = name
        self.steps = steps
        self.stops_last = last
        self.error = error

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _start(self) -> None:
        note_started(self)

    def _shutdown(self, timeout: float) -> None:
        gevent.sleep(0.01)
        self.steps.append(self.name)
        if self.error is not None:
            raise self.error


@pytest.fixture
def no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_started", set())


@pytest.mark.usefixtures("no_other")
def test_consumers_first() -> None:
    steps: list[str] = []
    clients = [Client("producer", steps, last=True), Client("consumer", steps), Client("unused", steps)]
    for client in clients[:2]:
        client.start()
    assert started_clients() == clients[:2] or started_clients() == clients[1::-1]
    shutdown_all(1)
    assert steps == ["consumer", "producer"]
    assert started_clients() == []
    shutdown_all(1)
    assert steps == ["consumer", "producer"]


@pytest.mark.usefixtures("no_other")
def test_one_that_fails_keeps_no_other_from_stopping(caplog: Any) -> None:
    steps: list[str] = []
    for client in [Client("bad", steps, error=ZeroDivisionError()), Client("good", steps, last=True)]:
        client.start()
    shutdown_all(1)
    assert steps == ["bad", "good"]
    assert "<bad>" in caplog.text
