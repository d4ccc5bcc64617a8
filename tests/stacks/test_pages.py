"""docs/stacks as a newcomer reads them: the files of a page in an empty directory, run by its command, driven and ended."""

from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
from contextlib import AbstractContextManager
from pathlib import Path

import gevent
import pytest
from gevent import subprocess

from grocketmq.embedded import EmbeddedCluster
from tests.meta.source import ROOT
from tests.stacks.draining import wait_until
from tests.stacks.pages import page_command, write_page
from tests.stacks.servers import Server, members, serving, stored_bodies

pytestmark = pytest.mark.usefixtures("mail")
BIND = ["-b", "127.0.0.1:{port}"]
#: gunicorn loses a TERM that comes while a worker is being born; so either there is one, or the test sees both at work.
ONE = [*BIND, "-w", "1"]


@pytest.fixture
def mail(cluster: EmbeddedCluster) -> None:
    """What the pages' consumers consume."""
    cluster.create_topic("mail")


def run_page(
    name: str, program: str, cluster: EmbeddedCluster, directory: Path, *more: str, section: str = ""
) -> AbstractContextManager[Server]:
    write_page(name, cluster, directory, section)
    for path in directory.glob("*.ini"):
        path.write_text(re.sub("http-socket.*", "", path.read_text()))  # the command line has another
    words, environment = page_command(name, program, cluster, section)
    environment.setdefault("PYTHONPATH", os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")]))
    return serving([*words, *more], cluster, directory / "log", directory=directory, **environment)


def stored(cluster: EmbeddedCluster, topic: str) -> list[str]:
    known = any(broker.topics.get(topic) is not None for broker in cluster.brokers.values())
    return stored_bodies(cluster, topic) if known else []


def ended_well(server: Server, how: int = signal.SIGTERM, status: int = 0) -> None:
    assert server.stop(how) == status, server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["loaded", "preloaded"])
def test_gunicorn(cluster: EmbeddedCluster, tmp_path: Path, preload: list[str]) -> None:
    pytest.importorskip("gunicorn")
    with run_page("gunicorn", "gunicorn", cluster, tmp_path, *BIND, *preload) as server:
        server.wait_ready("/")
        msg_ids = {server.get("/") for _ in range(20)}
        assert len(msg_ids) == 20
        wait_until(lambda: len(members(cluster, "shop-mail")) == 2, "two consume")
        ended_well(server)
    assert members(cluster, "shop-mail") == []
    assert len(stored(cluster, "orders")) == 21


def test_uwsgi(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    pytest.importorskip("pyuwsgi")
    with run_page("uwsgi", "uwsgi", cluster, tmp_path, "--http-socket=127.0.0.1:{port}") as server:
        server.wait_ready("/")
        assert [server.get("/") for _ in range(20)] == ["sent"] * 20
        ended_well(server)
    assert len(stored(cluster, "orders")) == 21


def test_flask(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    with run_page("flask", "gunicorn", cluster, tmp_path, *ONE) as server:
        server.wait_ready("/")
        server.post("/orders", "one apple")
        ended_well(server)
    assert stored(cluster, "shop_orders") == ["one apple"]


def test_django(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    pytest.importorskip("django")
    (tmp_path / "django_shop").mkdir()
    (tmp_path / "django_shop" / "__init__.py").write_text("")
    with run_page("django", "gunicorn", cluster, tmp_path, *ONE) as server:
        server.wait_ready("/")
        server.post("/orders", "one apple")
        ended_well(server)
    assert stored(cluster, "shop_orders") == ["one apple"]
    with serving(["python", "manage.py", "rocketmq_consume"], cluster, tmp_path / "consumers", directory=tmp_path) as server:
        wait_until(lambda: stored(cluster, "shop_confirmations") == ["one apple"], "confirmed")
        ended_well(server, status=128 + signal.SIGTERM)


def test_prometheus(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """Whichever worker is asked, it tells of both; and of those that are gone, since their sends have happened."""
    pytest.importorskip("prometheus_client")
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    sent = 0

    def ask_until_workers_have_counted(server: Server, count: int) -> None:
        nonlocal sent
        with gevent.Timeout(30, AssertionError(f"{count} workers do not answer")):
            while len(list(metrics.glob("counter_*"))) < count:
                sent += server.get("/") == "sent"

    with run_page("metrics", "gunicorn", cluster, tmp_path, *BIND, section="Prometheus") as server:
        server.wait_ready("/metrics")
        ask_until_workers_have_counted(server, 2)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log.count("Worker exiting") == 2, "reload")
        ask_until_workers_have_counted(server, 4)
        wanted = f'rocketmq_sends_total{{group="shop",outcome="ok",topic="orders"}} {sent}.0'
        assert [wanted in server.get("/metrics") for _ in range(10)] == [True] * 10
        ended_well(server)


def test_opentelemetry(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    with run_page("metrics", "gunicorn", cluster, tmp_path, *ONE, section="OpenTelemetry") as server:
        server.wait_ready("/")
        ended_well(server)
    assert '"name": "order"' in server.log
    assert '"name": "send orders"' in server.log


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_program(cluster: EmbeddedCluster, tmp_path: Path, how: int, status: int) -> None:
    with run_page("programs", "python", cluster, tmp_path) as server:
        wait_until(lambda: bool(members(cluster, "mailer")), "it consumes")
        gevent.sleep(0.2)  # now it waits for the signal
        assert server.stop(how) == status
    assert members(cluster, "mailer") == []
    assert server.log.count("Traceback") == (how == signal.SIGINT)


@pytest.mark.parametrize(("program", "count"), [("pool.py", 100), ("bridge.py", 4)])
def test_threads(cluster: EmbeddedCluster, tmp_path: Path, program: str, count: int) -> None:
    write_page("threads", cluster, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, timeout=40, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(stored(cluster, "orders")) == count
