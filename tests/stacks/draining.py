"""What must hold when a server ends workers under load, whichever server it is."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

import gevent

from grocketmq import Message, Producer
from grocketmq.embedded import EmbeddedCluster
from tests.stacks.servers import Load, NoAnswer, Server, members, stored_bodies
from tests.stacks.topics import DONE, JOBS, TOPIC

GROUP = "workers"


def faults(log: str) -> list[str]:
    """The tracebacks in a log, but for gunicorn's own when a request comes just as a worker stops to listen."""
    found = re.findall(r"^Traceback.*?^\w[^\n]*", log, re.DOTALL | re.MULTILINE)
    return [one for one in found if "listener.getsockname()" not in one]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    with gevent.Timeout(40, AssertionError(what)):
        while not condition():
            gevent.sleep(0.05)


def check_what_was_accepted_is_sent(cluster: EmbeddedCluster, server: Server) -> None:
    """Through workers that are recycled after 60 requests, a reload, and the end."""
    server.wait_ready()

    def ask(number: int) -> Any:
        return json.loads(server.get(f"/accept?{number}"))

    load = Load(ask)
    load.wait_for_processes(4)
    server.process.send_signal(signal.SIGHUP)
    load.wait_for_processes(6)
    load.wait_for(200)
    assert server.stop(signal.SIGTERM) == 0
    accepted = {one["body"] for one in load.stop()}
    assert len(accepted) >= 200
    assert accepted - set(stored_bodies(cluster, TOPIC)) == set()
    assert faults(server.log) == []


def jobs(cluster: EmbeddedCluster, step: str) -> list[str]:
    return sorted(body.partition(" ")[2] for body in stored_bodies(cluster, DONE) if body.startswith(step))


def check_consumers_finish_what_they_hold(cluster: EmbeddedCluster, serve: Callable[[], Any]) -> None:
    """Through workers that are recycled, a reload, and the end, of which the next start takes over what is left."""

    def two_new(before: set[str]) -> bool:
        now = set(members(cluster, GROUP))
        return len(now) == 2 and not now & before

    def jobs_done(count: int) -> bool:
        return len({job.partition(" ")[0] for job in jobs(cluster, "ended")}) >= count

    with Producer("boss", namesrv=cluster.namesrv) as producer:
        for number in range(100):
            producer.send(Message(JOBS, str(number)))
        with serve() as server:
            server.wait_ready()
            wait_until(lambda: two_new(set()) and jobs_done(1), "two workers consume")
            first = set(members(cluster, GROUP))
            while first & set(members(cluster, GROUP)):
                for _ in range(20):
                    ask_anyway(server)
            wait_until(lambda: two_new(first), "recycled")
            second = set(members(cluster, GROUP))
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: two_new(second), "reload")
            for number in range(100, 200):
                producer.send(Message(JOBS, str(number)))
            assert server.stop(signal.SIGTERM) == 0
            assert members(cluster, GROUP) == [], "no ghosts"
        assert jobs(cluster, "began") == jobs(cluster, "ended"), "what was begun was ended"
        with serve() as server:
            server.wait_ready()
            wait_until(lambda: jobs_done(200), "the rest is given back")
            assert server.stop(signal.SIGTERM) == 0
    assert faults(server.log) == []


def ask_anyway(server: Server) -> None:
    try:
        server.get("/who")
    except NoAnswer:
        gevent.sleep(0.05)
