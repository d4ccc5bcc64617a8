"""The example with Django under gunicorn, and the command that runs its consumers."""

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

pytest.importorskip("django")
pytest.importorskip("gunicorn")

ORDERS, CONFIRMATIONS = "shop_orders", "shop_confirmations"
GUNICORN = ["gunicorn", "-b", "127.0.0.1:{port}", "-c", "examples/web/gunicorn.conf.py", "--chdir", "examples/web"]
MANAGE = ["python", "examples/web/manage.py"]


def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with serving([*GUNICORN, "django_shop.site:application"], cluster, tmp_path / "log") as server:
        server.wait_ready("/")
        load = Load(lambda number: json.loads(server.post("/orders", str(number))))
        load.wait_for(100)
        load.wait_for_processes(2, "worker")
        answers = load.stop()
        assert load.unanswered == 0, server.log
        assert server.stop() == 0
    assert wrong_answers(cluster.namesrv, answers) == []
    assert len({one["worker"] for one in answers}) == 2
    assert "Traceback" not in server.log


def test_the_command_consumes_until_told_to_stop(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    orders = {str(number) for number in range(20)}
    for topic in (ORDERS, CONFIRMATIONS):
        cluster.create_topic(topic)
    with Producer("boss", namesrv=cluster.namesrv) as producer:
        for order in orders:
            producer.send(Message(ORDERS, order))
    with serving([*MANAGE, "rocketmq_consume"], cluster, tmp_path / "log") as server:
        with gevent.Timeout(30, AssertionError("orders are not confirmed")):
            while set(stored_bodies(cluster, CONFIRMATIONS)) != orders:
                gevent.sleep(0.05)
        assert len(members(cluster, "shop-orders")) == 1
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert members(cluster, "shop-orders") == []
    assert "runs as" in server.log
    assert "Traceback" not in server.log


def test_the_command_without_consumers(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with serving([*MANAGE, "rocketmq_consume", "nowhere.consumer"], cluster, tmp_path / "log") as server:
        assert server.process.wait(timeout=30) != 0
    assert "nowhere" in server.log
