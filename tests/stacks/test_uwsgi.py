"""uWSGI with its gevent loop: no at-fork hook and no atexit runs there."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.servers import Load, serving, stored_bodies
from tests.stacks.topics import TOPIC

pytest.importorskip("pyuwsgi")

COMMAND = [
    "uwsgi",
    "--master",
    "--processes=2",
    "--gevent=50",
    "--http-socket=127.0.0.1:{port}",
    "--die-on-term",
    "--need-app",
    "--disable-logging",
    "--pythonpath=.",
    "--module=tests.stacks.uwsgi_app:application",
]  # fmt: skip


@pytest.mark.parametrize("started", ["", "1"], ids=["made", "started"])
def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path, started: str) -> None:
    with serving(COMMAND, cluster, tmp_path / "log", STARTED=started) as server:
        server.wait_ready()
        load = Load(lambda number: json.loads(server.get(f"/send?{number}")), callers=16)
        load.wait_for(200)
        load.wait_for_processes(2)
        answers = load.stop()
        assert load.unanswered == 0
        server.stop()
    assert wrong_answers(cluster.namesrv, answers) == []
    ids = {(one["pid"], one["client_id"]) for one in answers}
    assert len(ids) == len({pid for pid, _ in ids}) == len({name for _, name in ids}) == 2
    assert "Traceback" not in server.log


def test_what_was_accepted_is_sent(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with serving([*COMMAND, "--max-requests=60"], cluster, tmp_path / "log") as server:
        server.wait_ready()
        load = Load(lambda number: json.loads(server.get(f"/accept?{number}")))
        load.wait_for_processes(4)
        server.stop(signal.SIGTERM)
        answers = load.stop()
    assert {one["body"] for one in answers} <= set(stored_bodies(cluster, TOPIC))
    assert "Traceback" not in server.log
