"""A Celery worker with the gevent pool: what its tasks have sent asynchronously is sent when it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.programs import run_program
from tests.stacks.servers import serving, stored_bodies
from tests.stacks.topics import TOPIC

pytest.importorskip("celery")

QUEUE = """
from tests.stacks.celery_app import send
for number in range(100):
    send.delay(str(number))
send.delay("last")
"""


def test_what_tasks_have_sent(cluster: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("queue", "processed", "control"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("CELERY_DIRECTORY", str(tmp_path))
    done = run_program("-c", QUEUE, namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr
    command = [
        "celery",
        "-A",
        "tests.stacks.celery_app",
        "worker",
        "-P",
        "gevent",
        "-c",
        "20",
        "--without-gossip",
        "--without-mingle",
    ]
    with serving(command, cluster, tmp_path / "log") as server:
        assert server.process.wait(timeout=40) == 0, server.log
    bodies = stored_bodies(cluster, TOPIC)
    left = len(os.listdir(tmp_path / "queue"))
    assert "last" in bodies
    assert len(set(bodies)) + left >= 101, (len(bodies), left, server.log, sys.version)
    assert "Traceback" not in server.log
