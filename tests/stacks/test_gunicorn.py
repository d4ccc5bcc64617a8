"""gunicorn's gevent workers: forks, and drains under load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.draining import check_consumers_finish_what_they_hold, check_what_was_accepted_is_sent
from tests.stacks.servers import Load, serving

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


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded", "preloaded"])
def test_what_was_accepted_is_sent(cluster: EmbeddedCluster, tmp_path: Path, preload: list[str]) -> None:
    with serving([*COMMAND, *preload, "--max-requests", "60"], cluster, tmp_path / "log") as server:
        check_what_was_accepted_is_sent(cluster, server)


def test_consumers_finish_what_they_hold(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    def serve() -> Any:
        return serving([*COMMAND, "--max-requests", "60"], cluster, tmp_path / "log", CONSUME="1", STARTED="1")

    check_consumers_finish_what_they_hold(cluster, serve)
