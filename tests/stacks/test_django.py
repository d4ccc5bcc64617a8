"""The Django application under gunicorn, and the command that runs consumers."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import gevent
import pytest

from grocketmq import Message, Producer
from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.servers import Load, members, serving, stored_bodies
from tests.stacks.topics import DONE, JOBS

pytest.importorskip("django")
pytest.importorskip("gunicorn")

SITE = "tests.stacks.django_site.site:application"


def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    command = ["gunicorn", "-c", "tests/stacks/gunicorn_conf.py", "-b", "127.0.0.1:{port}", SITE]
    with serving(command, cluster, tmp_path / "log") as server:
        server.wait_ready()
        load = Load(lambda number: json.loads(server.get(f"/send?{number}")))
        load.wait_for(100)
        answers = load.stop()
        assert load.unanswered == 0, server.log
        assert server.stop() == 0
    assert wrong_answers(cluster.namesrv, answers) == []
    assert len({one["pid"] for one in answers}) == 2
    assert "Traceback" not in server.log


def test_the_command_consumes_until_told_to_stop(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with Producer("boss", namesrv=cluster.namesrv) as producer:
        for number in range(20):
            producer.send(Message(JOBS, str(number)))
    command = ["django-admin", "rocketmq_consume", "--settings", "tests.stacks.django_site.settings"]
    with serving(command, cluster, tmp_path / "log") as server:
        with gevent.Timeout(30, AssertionError("jobs are not done")):
            while set(stored_bodies(cluster, DONE)) != {str(number) for number in range(20)}:
                gevent.sleep(0.05)
        assert len(members(cluster, "site-jobs")) == 1
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert members(cluster, "site-jobs") == []
    assert "runs as" in server.log
    assert "Traceback" not in server.log


def test_the_command_without_consumers(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    command = ["django-admin", "rocketmq_consume", "nowhere.consumer", "--settings", "tests.stacks.django_site.settings"]
    with serving(command, cluster, tmp_path / "log") as server:
        assert server.process.wait(timeout=30) != 0
    assert "nowhere" in server.log
