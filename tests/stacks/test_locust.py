"""Locust with the example's users, in one process and in several, on the embedded cluster and on a real one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, answer
from grocketmq.wire.command import RemotingCommand
from tests.broker.cluster import DEFAULT_VERSION, RealCluster, Unavailable
from tests.helpers import wait_for
from tests.stacks.servers import Server, free_port, serving, stored_bodies

pytest.importorskip("locust")

EXAMPLE = "examples/locust/locustfile.py"
ORDERS, QUESTIONS = "load_orders", "load_questions"
#: What the example reports of its topics, each in every process.
STEPS = {
    ("RMQ-SEND", ORDERS),
    ("RMQ-TRY", ORDERS),
    ("RMQ-TRY", QUESTIONS),
    ("RMQ-STORE", ORDERS),
    ("RMQ-CONSUME", ORDERS),
    ("RMQ-HANDLE", ORDERS),
    ("RMQ-E2E", ORDERS),
    ("RMQ-REQUEST", QUESTIONS),
    ("RMQ-ROUTE", ORDERS),
    ("RMQ-DRAIN", ORDERS),
    ("RMQ-START", "producer"),
    ("RMQ-START", "consumer"),
}
ENOUGH = {"RMQ-SEND": 40, "RMQ-CONSUME": 1, "RMQ-E2E": 1, "RMQ-REQUEST": 1}
USERS = ["-u", "40", "-r", "100"]
#: Seconds; the tests end as soon as they have seen enough.
PATIENCE = 50


@contextmanager
def locust(
    cluster: Any,
    tmp_path: Path,
    *arguments: str,
    file: str = EXAMPLE,
    enough: dict[str, int] | None = None,
    log: str = "log",
    **environment: str,
) -> Iterator[Server]:
    command = ["locust", "-f", f"{file},tests/stacks/ends_early.py", "--headless", "--only-summary", "--stop-timeout", "10"]
    command += ["--host", cluster.namesrv, *arguments]
    environment |= {"ENOUGH": json.dumps(enough or ENOUGH), "REPORT": str(tmp_path / "report")}
    with serving(command, cluster, tmp_path / log, **environment) as server:
        yield server
    assert "Uncaught" not in server.log


class Told:
    """What Locust counted, once it has ended."""

    def __init__(self, server: Server, tmp_path: Path, *, status: int = 0) -> None:
        assert server.process.wait(timeout=PATIENCE) == status, server.log
        told = json.loads((tmp_path / "report").read_text())
        self.steps: dict[tuple[str, str], dict[str, Any]] = {(one["method"], one["name"]): one for one in told["steps"]}
        self.failures = {(one["method"], one["error"]): one["occurrences"] for one in told["failures"]}
        self.report: dict[str, Any] = told["report"]

    def count(self, kind: str, name: str = ORDERS) -> int:
        return int(self.steps[kind, name]["num_requests"])

    def slow(self, kind: str, milliseconds: int) -> int:
        """How many steps took longer."""
        times = self.steps[kind, ORDERS]["times"].items()
        return sum(count for time, count in times if int(time) > milliseconds)


def check(cluster: Any, server: Server, tmp_path: Path, processes: int = 1) -> None:
    """Let it run until each step was made, and compare what it reports with what is stored."""
    told = Told(server, tmp_path)
    assert {step for step in told.steps if step[0] != "RMQ-CONNECT"} - {("RMQ-ROUTE", QUESTIONS)} >= STEPS
    assert not told.failures, server.log
    assert told.count("RMQ-START", "consumer") == told.count("RMQ-DRAIN") == processes
    assert told.count("RMQ-CONNECT", cluster.namesrv) == processes
    stored = len(stored_bodies(cluster, ORDERS))
    assert told.count("RMQ-SEND") <= told.count("RMQ-TRY") <= stored, "what was reported is stored"
    assert told.steps["RMQ-REQUEST", QUESTIONS]["avg_content_length"] == len(b"0.30")
    assert told.report["sent"] == told.report["arrived"] == stored
    assert told.report["sent_bytes"] == told.report["arrived_bytes"] == stored * 1024
    for what in ("failed", "lost", "duplicates", "out_of_order", "redelivered", "unsure", "silent", "still_down"):
        assert not told.report[what], what
    assert f"sent {stored}" in server.log
    assert "clocks: brokers of load_orders ahead by about" in server.log


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
    refusal = answer(ResponseCode.MESSAGE_ILLEGAL, "on purpose")
    refused = cluster.control(
        RequestCode.SEND_MESSAGE_V2, refusal, nth=5, times=2, matches=lambda request: request.body == b"x"
    )
    with locust(
        cluster, tmp_path, *USERS, "--exit-code-on-error", "7", file="tests/stacks/unlucky_users.py", enough=enough
    ) as server:
        told = Told(server, tmp_path, status=7)
    assert set(told.failures) == {
        ("RMQ-SEND", "MessageError"),
        ("RMQ-SEND", "SEND_OK"),
        ("RMQ-SEND", "MessageIllegalError 13"),
        ("RMQ-TRY", "MessageIllegalError 13"),
        ("RMQ-E2E", "RequestReplyTimeout"),
        ("RMQ-REQUEST", "RequestReplyTimeout"),
    }
    assert min(told.failures.values()) >= 2
    assert told.failures["RMQ-TRY", "MessageIllegalError 13"] == refused.taken == 2
    assert "went on" not in server.log


def of_orders(request: RemotingCommand) -> bool:
    return (request.ext_fields or {}).get("b") == ORDERS


def swallow_answer(taken: Intercepted) -> None:
    """It is stored, and nobody is told."""
    taken.channel.alter_answer(taken.request.opaque, lambda data: b"")
    taken.serve()


def pretend(taken: Intercepted) -> None:
    """It is not stored, but said to be."""
    place = {"msgId": "0" * 32, "queueId": (taken.request.ext_fields or {})["e"], "queueOffset": "0"}
    answer(ResponseCode.SUCCESS, ext_fields=place)(taken)


def store_late(taken: Intercepted) -> None:
    """It is stored after others of its queue that were sent after its answer."""
    pretend(taken)
    taken.channel.alter_answer(taken.request.opaque, lambda data: b"")
    taken.later(0.5, taken.serve)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_goes_wrong_with_messages_is_seen(tmp_path: Path, processes: int) -> None:
    """Two workers share the messages out: half of them come to the one that did not send them."""
    with EmbeddedCluster(brokers=2, delay_levels=(0.1,) * 18) as cluster:
        cluster.create_topic(ORDERS, queues=1)
        see_what_goes_wrong(cluster, tmp_path, processes)


def see_what_goes_wrong(cluster: EmbeddedCluster, tmp_path: Path, processes: int) -> None:
    faults = [
        cluster.control(RequestCode.SEND_MESSAGE_V2, action, nth=nth, matches=of_orders)
        for action, nth in ((store_late, 20), (swallow_answer, 60), (pretend, 70), (pretend, 80))
    ]
    several = {"ONE_GROUP": "1"} if processes == 2 else {}
    arguments = ["-u", "20", "-r", "100", *(["--processes", "2"] if processes == 2 else [])]
    file, enough = "tests/stacks/watched_users.py", {"RMQ-SEND": 400}
    with locust(cluster, tmp_path, *arguments, file=file, enough=enough, **several) as server:
        told = Told(server, tmp_path, status=3)
    assert [fault.taken for fault in faults] == [1, 1, 1, 1]
    report = told.report
    assert (report["lost"], report["out_of_order"]) == (2, 1), server.log
    # Each process's twentieth is redelivered.  Members of a group who still share out its queues may both consume a message.
    found = (report["duplicates"], report["redelivered"])
    assert found == (1, processes) or (processes == 2 and found >= (1, 2)), server.log
    assert (report["failed"], report["unsure"], report["silent"]) == (0, 0, 0)
    assert report["sent"] == told.count("RMQ-SEND") == report["arrived"] + 2
    assert told.failures == {
        ("RMQ-TRY", "RequestTimeout"): 1,
        ("RMQ-HANDLE", "ValueError"): processes,
        ("RMQ-LOST", "messages were lost"): 1,
    }
    assert told.count("RMQ-TRY") == told.count("RMQ-SEND") + 1
    assert told.slow("RMQ-SEND", 1400) >= 1
    came = report["arrived"] + report["duplicates"]
    assert told.count("RMQ-HANDLE") == told.count("RMQ-CONSUME") == came + report["redelivered"]
    if processes == 2:
        assert told.count("RMQ-E2E") == came, "each came to one of them"
    assert f"lost 2, duplicates {report['duplicates']}, out of order 1" in server.log


def test_brokers_that_stop_and_stand_still(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """How long they were away is told; and what users would have waited is, though none of them sent meanwhile."""
    cluster.create_topic(ORDERS)
    users = 4
    arguments = ["-u", str(users), "-r", "100"]
    with locust(
        cluster, tmp_path, *arguments, file="tests/stacks/patient_users.py", enough={"RMQ-OUTAGE": 3, "RMQ-SEND": 400}
    ) as server:

        def stored() -> int:
            return cluster.counts().messages

        wait_for(lambda: stored() > 40)
        assert cluster.counts().connections >= users * 2, "each has its own"
        cluster.stall()
        gevent.sleep(1.0)
        cluster.resume()
        wait_for(lambda: stored() > 160)
        stopped = monotonic()
        for name in cluster.broker_names:
            cluster.stop_broker(name)
        gevent.sleep(1.0)
        before = stored()
        down = monotonic() - stopped
        for name in cluster.broker_names:
            cluster.start_broker(name)
        wait_for(lambda: stored() > before)
        told = Told(server, tmp_path, status=1)
        away = monotonic() - stopped
    for name in (*cluster.broker_names, ORDERS):
        outage = told.steps["RMQ-OUTAGE", name]
        assert 0.5 * down < outage["max_response_time"] / 1000 < away
    assert told.count("RMQ-START", "producer") == users
    assert told.count("RMQ-START", "consumer") == 1
    slow, slow_tries = told.slow("RMQ-SEND", 400), told.slow("RMQ-TRY", 400)
    assert slow > 2 * slow_tries > 0, (slow, slow_tries)
    assert told.report["failed"] > 0
    assert (told.report["lost"], told.report["out_of_order"], told.report["still_down"]) == (0, 0, []), server.log
    assert Counter(kind for kind, _ in told.failures).keys() <= {"RMQ-SEND", "RMQ-TRY", "RMQ-CONNECT"}


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
        told = Told(server, tmp_path)
    assert not told.failures, server.log
    assert (told.report["lost"], told.report["duplicates"], told.report["out_of_order"]) == (0, 0, 0)
    assert most < 400 * 1024 * 1024
    print(f"{most / 1024 / 1024:.0f} MiB, {told.steps['RMQ-SEND', ORDERS]['current_rps']:.0f} sends a second")


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 when it has ended."""
    try:
        words = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(words[1]) * 4096 if len(words) > 1 else 0
