"""The example with Flask, under gunicorn's gevent and threaded workers, and under Flask's own server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.servers import Load, serving

pytest.importorskip("flask")
pytest.importorskip("gunicorn")

GUNICORN = ["gunicorn", "-b", "127.0.0.1:{port}", "--chdir", "examples/web", "flask_shop:create_app()"]
COMMANDS = {
    "gevent": [*GUNICORN, "-c", "examples/web/gunicorn.conf.py"],
    "threads, preloaded": [*GUNICORN, "-k", "gthread", "--threads", "4", "--preload", "-w", "2"],
    "development": ["flask", "--app", "examples/web/flask_shop.py", "run", "--port", "{port}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path, name: str) -> None:
    with serving(COMMANDS[name], cluster, tmp_path / "log") as server:
        server.wait_ready("/")
        load = Load(lambda number: json.loads(server.post("/orders", str(number))))
        processes = 1 if name == "development" else 2
        load.wait_for(100)
        load.wait_for_processes(processes, "worker")
        answers = load.stop()
        assert load.unanswered == 0, server.log
        server.stop()
    assert wrong_answers(cluster.namesrv, answers) == []
    assert len({one["worker"] for one in answers}) == processes
    assert "Traceback" not in server.log
