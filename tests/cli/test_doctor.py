"""``grocketmq doctor``: what it finds, what it advises, and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from grocketmq import Credentials, TLSConfig
from grocketmq.cli import doctor as doctor_module
from grocketmq.cli.doctor import examine
from grocketmq.embedded import EmbeddedCluster
from tests.certificates import Authority
from tests.programs import Finished, run_program
from tests.stacks.servers import free_port

#: It runs as a program, which is the same wherever this runs.
pytestmark = pytest.mark.slow


def doctor(*arguments: str, patched: bool = False, namesrv: str | None = None) -> Finished:
    patch = ["-m", "gevent.monkey", "--module"] if patched else ["-m"]
    return run_program(*patch, "grocketmq.cli", "doctor", *arguments, namesrv=namesrv)


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
def test_a_healthy_cluster(patched: bool) -> None:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic("healthy")
        done = doctor(cluster.namesrv, patched=patched)
        assert (done.status, done.stderr) == (0, "")
        for name in cluster.broker_names:
            assert f"broker {cluster.broker_address(name)} answers" in done.stdout
        assert f"name server {cluster.namesrv} answers" in done.stdout
        assert "resolver thread" in done.stdout
        assert "the event loop was" in done.stdout
        assert ("is monkey-patched" in done.stdout) is patched
        assert "FAIL" not in done.stdout
        assert doctor(namesrv=cluster.namesrv).status == 0


def test_a_process_that_is_patched_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "is_module_patched", lambda name: name != "threading")
    with EmbeddedCluster() as cluster:
        found = list(examine(cluster.namesrv))
    [note] = [one for one in found if one.level == "note" and "in part" in one.what]
    assert "threading are not" in note.what
    assert "patch_all() first of all" in note.advice


def test_a_name_that_does_not_resolve() -> None:
    done = doctor("no-such-host.invalid:9876")
    assert done.status == 1
    assert "FAIL  name server no-such-host.invalid:9876" in done.stdout


def test_a_dead_name_server() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with EmbeddedCluster() as cluster:
        done = doctor(f"{nobody};{cluster.namesrv}")
    assert done.status == 1
    assert f"FAIL  name server {nobody}: cannot connect" in done.stdout
    assert "firewalls" in done.stdout


def test_a_broker_that_clients_cannot_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic("one")
        address = cluster.broker_address("broker-b")
        registered = {name: dict(broker.addresses) for name, broker in cluster.brokers.items()}
        # The name server does not learn that it stops.
        monkeypatch.setattr(type(cluster.brokers["broker-b"]), "addresses", property(lambda broker: registered[broker.name]))
        cluster.brokers["broker-b"].server.stop()
        found = list(examine(cluster.namesrv))
    [failed] = [one for one in found if one.level == "FAIL"]
    assert failed.what.startswith(f"broker {address}: ")
    assert "brokerIP1" in failed.advice


def test_a_secured_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROCKETMQ_SECRET_KEY", "the-secret-key")
    authority = Authority()
    own = authority.issue("client.example").write(tmp_path, "client")
    files = ["--ca-file", authority.write(tmp_path), "--cert-file", str(own.cert), "--key-file", str(own.key)]
    account = Credentials("clerk", "the-secret-key")
    with EmbeddedCluster(tls=authority.demand(authority.issue().server_context()), credentials=account) as cluster:
        cluster.create_topic("secured")
        done = doctor(cluster.namesrv, *files, "--access-key", "clerk")
        plain = list(examine(cluster.namesrv))
        strange = list(examine(cluster.namesrv, tls=True))
        nobody = list(examine(cluster.namesrv, TLSConfig(ca_file=files[1], cert_file=str(own.cert), key_file=str(own.key))))
    assert (done.status, done.stderr) == (0, "")
    assert f"broker {cluster.broker_address('broker-a')} answers within" in done.stdout
    assert plain[-1].level == strange[-1].level == "FAIL"
    assert "authority" in strange[-1].advice
    assert (nobody[-1].level, "code 16" in nobody[-1].what) == ("note", True)


def test_a_secret_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROCKETMQ_SECRET_KEY", raising=False)
    done = doctor("127.0.0.1:9876", "--access-key", "clerk")
    assert done.status == 2
    assert "GROCKETMQ_SECRET_KEY" in done.stderr


def test_no_name_server_given() -> None:
    done = doctor()
    assert done.status == 2
    assert "NAMESRV" in done.stderr
