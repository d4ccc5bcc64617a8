"""The page's Celery worker with the gevent pool: what its tasks have sent asynchronously is sent when it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.meta.source import ROOT
from tests.programs import run_program
from tests.stacks.pages import page_command, write_page
from tests.stacks.servers import serving, stored_bodies
from tests.stacks.topics import TOPIC

pytest.importorskip("celery")

#: Its queue is a directory.  What the task sends waits in the worker, which would lose it if it just ended.
MORE = """
import os
import gevent
from grocketmq import AutoBatch

app.conf.broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "processed_folder": "processed", "control_folder": "control"
}
gathering = Producer("gathering", auto_batch=AutoBatch(max_delay=8.0), send_timeout=40)

@worker_init.connect
def start_too(**kwargs):
    gathering.start()

@app.task
def gather(body):
    announce(body)
    gevent.sleep(0.05)
    gathering.send_async(Message("web", body))
    if body == "last":
        os.kill(os.getpid(), 15)
"""
QUEUE = """
import os, sys
os.chdir(sys.argv[1])
sys.path.insert(0, sys.argv[1])
from tasks import gather
for number in range(100):
    gather.delay(str(number))
gather.delay("last")
"""


def test_what_tasks_have_sent(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    for name in ("queue", "processed", "control"):
        (tmp_path / name).mkdir()
    write_page("celery", cluster, tmp_path)
    tasks = tmp_path / "tasks.py"
    tasks.write_text(tasks.read_text().replace("redis://10.0.0.3", "filesystem://") + MORE)
    cluster.create_topic("orders")
    done = run_program("-c", QUEUE, str(tmp_path), namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr
    command, _ = page_command("celery", "celery", cluster)
    command += ["--without-gossip", "--without-mingle"]
    with serving(command, cluster, tmp_path / "log", directory=tmp_path, PYTHONPATH=str(ROOT)) as server:
        assert server.process.wait(timeout=40) == 0, server.log
    left = len(os.listdir(tmp_path / "queue"))
    for topic in (TOPIC, "orders"):
        bodies = stored_bodies(cluster, topic)
        assert "last" in bodies
        assert len(set(bodies)) + left >= 101, (len(bodies), left, server.log)
    assert "Traceback" not in server.log
