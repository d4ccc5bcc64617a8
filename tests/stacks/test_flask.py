"""The Flask extension under gunicorn's gevent and threaded workers, and under Flask's own server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.citizen.stored import wrong_answers
from tests.stacks.servers import Load, serving

pytest.importorskip("flask")
pytest.importorskip("gunicorn")

APP = "tests.stacks.flask_app:create_app()"
COMMANDS = {
    "gevent": ["gunicorn", "-c", "tests/stacks/gunicorn_conf.py", "-b", "127.0.0.1:{port}", APP],
    "threads, preloaded": [
        "gunicorn",
        "-k",
        "gthread",
        "--threads",
        "4",
        "--preload",
        "-w",
        "2",
        "-b",
        "127.0.0.1:{port}",
        APP,
    ],
    "development": ["flask", "--app", APP, "run", "--port", "{port}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_everyone_gets_their_own_answer(cluster: EmbeddedCluster, tmp_path: Path, name: str) -> None:
    with serving(COMMANDS[name], cluster, tmp_path / "log") as server:
        server.wait_ready()
        load = Load(lambda number: json.loads(server.get(f"/send?{number}")))
        load.wait_for(100)
        answers = load.stop()
        assert load.unanswered == 0, server.log
        server.stop()
    assert wrong_answers(cluster.namesrv, answers) == []
    assert len({one["pid"] for one in answers}) == (1 if name == "development" else 2)
    assert "Traceback" not in server.log
