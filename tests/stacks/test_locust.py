"""Locust with the example's users, in one process and in several."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.stacks.servers import serving, stored_bodies

pytest.importorskip("locust")

TOPIC = "load_orders"


def run(
    cluster: EmbeddedCluster, tmp_path: Path, *arguments: str, file: str = "examples/locust/locustfile.py"
) -> dict[str, dict[str, str]]:
    """The last line that Locust's own statistics have for each type."""
    cluster.create_topic(TOPIC)
    command = ["locust", "-f", file, "--headless", "--only-summary", "--host", cluster.namesrv]
    command += ["--csv", str(tmp_path / "stats"), "--stop-timeout", "10", *arguments]
    with serving(command, cluster, tmp_path / "log") as server:
        assert server.process.wait(timeout=120) == 0, server.log
    with open(tmp_path / "stats_stats.csv", newline="") as table:
        rows = {row["Type"]: row for row in csv.DictReader(table)}
    assert "Traceback" not in server.log
    assert all(row["Failure Count"] == "0" for row in rows.values()), server.log
    return rows


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]], ids=["one", "two"])
def test_users(cluster: EmbeddedCluster, tmp_path: Path, processes: list[str]) -> None:
    rows = run(cluster, tmp_path, "-u", "40", "-r", "100", "-t", "6s", *processes)
    sends = int(rows["RMQ-SEND"]["Request Count"])
    assert rows["RMQ-SEND"]["Name"] == TOPIC
    assert sends >= 40
    assert sends <= len(stored_bodies(cluster, TOPIC)), "what was reported is stored"
    assert int(rows["RMQ-E2E"]["Request Count"]) > 0
    assert int(rows["RMQ-CONSUME"]["Request Count"]) > 0
    assert int(rows["RMQ-CONNECT"]["Request Count"]) == (2 if processes else 1)


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_five_thousand_users(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    rows = run(cluster, tmp_path, "-u", "5000", "-r", "500", "-t", "25s", file="tests/stacks/many_users.py")
    assert int(rows["RMQ-SEND"]["Request Count"]) > 5000
