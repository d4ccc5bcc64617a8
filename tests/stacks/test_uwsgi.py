"""uWSGI with its gevent loop: no at-fork hook and no atexit runs there."""

from __future__ import annotations

import json
import os
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.meta.source import ROOT
from tests.stacks.draining import check_consumers_finish_what_they_hold, check_what_was_accepted_is_sent, faults
from tests.stacks.servers import Load, serving

pytest.importorskip("pyuwsgi")

COMMAND = [
    "uwsgi",
    "--master",
    "--processes=2",
    "--gevent=50",
    "--http-socket=127.0.0.1:{port}",
    "--hook-master-start=unix_signal:15 gracefully_kill_them_all",
    "--min-worker-lifetime=1",
    "--need-app",
    "--disable-logging",
    "--pythonpath=.",
    "--module=tests.stacks.uwsgi_app:application",
]  # fmt: skip


#: A reload runs the interpreter anew, which does not find its virtual environment then.
PATH = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])


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


def test_copies_end_in_workers_that_do_not_use_their_client(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """The event loop notices the fork: the master's heartbeat does not go on in its workers."""
    with serving(COMMAND, cluster, tmp_path / "log", STARTED="1", IDLE="1") as server:
        server.wait_ready("/copies")
        load = Load(lambda number: json.loads(server.get("/copies")))
        load.wait_for(50)
        load.wait_for_processes(2)
        answers = load.stop()
        server.stop()
    assert [one["copies"] for one in answers if one["copies"]] == []
    assert faults(server.log) == []


def test_what_was_accepted_is_sent(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with serving([*COMMAND, "--max-requests=60"], cluster, tmp_path / "log", PYTHONPATH=PATH) as server:
        check_what_was_accepted_is_sent(cluster, server)


def test_consumers_finish_what_they_hold(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    def serve() -> Any:
        return serving([*COMMAND, "--max-requests=60"], cluster, tmp_path / "log", CONSUME="1", PYTHONPATH=PATH)

    check_consumers_finish_what_they_hold(cluster, serve)
