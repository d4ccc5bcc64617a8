"""Locust with the example's users, in one process and in several, on the embedded cluster and on a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.broker.cluster import DEFAULT_VERSION, RealCluster, Unavailable
from tests.stacks.servers import Server, free_port, serving, stored_bodies

pytest.importorskip("locust")

EXAMPLE = "examples/locust/locustfile.py"
ORDERS, QUESTIONS = "load_orders", "load_questions"
#: What the example reports.
STEPS = {"RMQ-SEND": ORDERS, "RMQ-CONSUME": ORDERS, "RMQ-E2E": ORDERS, "RMQ-REQUEST": QUESTIONS, "RMQ-CONNECT": "start"}
ENOUGH = {**dict.fromkeys(STEPS, 1), "RMQ-SEND": 40}
USERS = ["-u", "40", "-r", "100"]
#: Seconds; the tests end as soon as they have seen enough.
PATIENCE = 50


@contextmanager
def locust(
    cluster: Any, tmp_path: Path, *arguments: str, file: str = EXAMPLE, enough: dict[str, int] | None = None, log: str = "log"
) -> Iterator[Server]:
    command = ["locust", "-f", f"{file},tests/stacks/ends_early.py", "--headless", "--only-summary", "--stop-timeout", "10"]
    command += ["--host", cluster.namesrv, *arguments]
    report = {"ENOUGH": json.dumps(enough or ENOUGH), "REPORT": str(tmp_path / "report")}
    with serving(command, cluster, tmp_path / log, **report) as server:
        yield server
    assert "Traceback" not in server.log


def check(cluster: Any, server: Server, tmp_path: Path, processes: int = 1) -> None:
    """Let it run until each step was made, and compare what it reports with what is stored."""
    assert server.process.wait(timeout=PATIENCE) == 0, server.log
    steps = json.loads((tmp_path / "report").read_text())["steps"]
    assert {kind: step["name"] for kind, step in steps.items()} == STEPS
    assert all(step["num_failures"] == 0 for step in steps.values()), server.log
    assert steps["RMQ-CONNECT"]["num_requests"] == processes
    assert steps["RMQ-SEND"]["num_requests"] <= len(stored_bodies(cluster, ORDERS)), "what was reported is stored"
    assert steps["RMQ-REQUEST"]["avg_content_length"] == len(b"0.30")


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_example(cluster: EmbeddedCluster, tmp_path: Path, processes: int) -> None:
    several = [] if processes == 1 else ["--processes", str(processes)]
    with locust(cluster, tmp_path, *USERS, *several) as server:
        check(cluster, server, tmp_path, processes)


def test_example_with_a_master_and_a_worker(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    port = str(free_port())
    with (
        locust(cluster, tmp_path, *USERS, "--master", "--master-bind-port", port, "--expect-workers", "1") as server,
        locust(cluster, tmp_path, "--worker", "--master-port", port, log="worker") as worker,
    ):
        check(cluster, server, tmp_path)
        assert worker.process.wait(timeout=PATIENCE) == 0, worker.log


def test_failures_are_counted_by_their_kind(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """However many fail, each in its own words: a line for each kind; and a step that fails ends its task."""
    cluster.create_topic(ORDERS)
    enough = {"RMQ-SEND": 60, "RMQ-E2E": 5, "RMQ-REQUEST": 5}
    with locust(
        cluster, tmp_path, *USERS, "--exit-code-on-error", "7", file="tests/stacks/unlucky_users.py", enough=enough
    ) as server:
        assert server.process.wait(timeout=PATIENCE) == 7, server.log
    failures = json.loads((tmp_path / "report").read_text())["failures"]
    assert {(one["method"], one["error"]) for one in failures} == {
        ("RMQ-SEND", "MessageError"),
        ("RMQ-SEND", "SEND_OK"),
        ("RMQ-E2E", "RequestReplyTimeout"),
        ("RMQ-REQUEST", "RequestReplyTimeout"),
    }
    assert min(one["occurrences"] for one in failures) >= 2
    assert "went on" not in server.log


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_example_on_a_real_cluster(tmp_path: Path) -> None:
    cluster = RealCluster(DEFAULT_VERSION, brokers=1)
    try:
        cluster.start()
    except Unavailable as reason:
        pytest.skip(f"no real broker: {reason}")
    try:
        with locust(cluster, tmp_path, *USERS) as server:
            check(cluster, server, tmp_path)
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_five_thousand_users_in_one_process(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    cluster.create_topic(ORDERS)
    enough = {"RMQ-SEND": 15_000, "RMQ-E2E": 10_000}
    arguments = ["-u", "5000", "-r", "500"]
    most = 0
    with (
        locust(cluster, tmp_path, *arguments, file="tests/stacks/many_users.py", enough=enough) as server,
        gevent.Timeout(170, AssertionError("too little is sent")),
    ):
        while server.process.poll() is None:
            most = max(most, resident(server.process.pid))
            gevent.sleep(0.2)
        assert server.process.returncode == 0, server.log
    steps = json.loads((tmp_path / "report").read_text())["steps"]
    assert all(step["num_failures"] == 0 for step in steps.values()), server.log
    assert most < 400 * 1024 * 1024
    print(f"{most / 1024 / 1024:.0f} MiB, {steps['RMQ-SEND']['current_rps']:.0f} sends a second")


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 when it has ended."""
    try:
        words = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(words[1]) * 4096 if len(words) > 1 else 0
