"""gunicorn's gevent workers: forks, and drains under load."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from grocketmq import Message, Producer
from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.servers import Load, members, serving, stored_bodies
from tests.stacks.topics import DONE, JOBS, TOPIC

pytest.importorskip("gunicorn")

COMMAND = ["gunicorn", "-c", "tests/stacks/gunicorn_conf.py", "-b", "127.0.0.1:{port}", "tests.stacks.web:application"]


@pytest.mark.parametrize("started", ["", "1"], ids=["made", "started"])
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded", "preloaded"])
def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path, preload: list[str], started: str) -> None:
    with serving([*COMMAND, *preload], cluster, tmp_path / "log", STARTED=started or "") as server:
        server.wait_ready()
        load = Load(lambda number: json.loads(server.get(f"/send?{number}")), callers=16)
        load.wait_for(150)
        load.wait_for_processes(2)
        answers = load.stop()
        assert load.unanswered == 0
        assert server.stop() == 0
    assert wrong_answers(cluster.namesrv, answers) == []
    ids = {(one["pid"], one["client_id"]) for one in answers}
    assert len(ids) == len({pid for pid, _ in ids}) == len({name for _, name in ids}) == 2
    assert "Traceback" not in server.log


def accepted(load: Load) -> set[str]:
    return {one["body"] for one in load.stop()}


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded", "preloaded"])
def test_what_was_accepted_is_sent(cluster: EmbeddedCluster, tmp_path: Path, preload: list[str]) -> None:
    """Through recycled workers, a reload and the end, each of them under load."""
    with serving([*COMMAND, *preload, "--max-requests", "60"], cluster, tmp_path / "log") as server:
        server.wait_ready()

        def ask(number: int) -> Any:
            return json.loads(server.get(f"/accept?{number}"))

        load = Load(ask)
        load.wait_for_processes(4)
        server.process.send_signal(signal.SIGHUP)
        load.wait_for_processes(6)
        assert server.stop(signal.SIGTERM) == 0
        told = accepted(load)
    assert told <= set(stored_bodies(cluster, TOPIC))
    assert "Traceback" not in server.log


def wait_until(condition: Callable[[], bool], what: str) -> None:
    with gevent.Timeout(40, AssertionError(what)):
        while not condition():
            gevent.sleep(0.05)


def jobs(cluster: EmbeddedCluster, step: str) -> list[str]:
    return sorted(body.partition(" ")[2] for body in stored_bodies(cluster, DONE) if body.startswith(step))


def test_consumers_finish_what_they_hold(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with Producer("boss", namesrv=cluster.namesrv) as producer:
        for number in range(100):
            producer.send(Message(JOBS, str(number)))
        with serving(COMMAND, cluster, tmp_path / "log", CONSUME="1", STARTED="1") as server:
            server.wait_ready()
            wait_until(lambda: len(members(cluster, "workers")) == 2 and bool(jobs(cluster, "ended")), "two workers consume")
            first = set(members(cluster, "workers"))
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(members(cluster, "workers")) == 2 and not first & set(members(cluster, "workers")), "reload")
            for number in range(100, 200):
                producer.send(Message(JOBS, str(number)))
            assert server.stop(signal.SIGTERM) == 0
            assert members(cluster, "workers") == [], "no ghosts"
        assert jobs(cluster, "began") == jobs(cluster, "ended"), "what was begun was ended"
        with serving(COMMAND, cluster, tmp_path / "log", CONSUME="1", STARTED="1") as server:
            server.wait_ready()
            wait_until(lambda: len({job.partition(" ")[0] for job in jobs(cluster, "ended")}) == 200, "the rest is given back")
            assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log
