"""Every example does what it says, and ends with exit status 0."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.examples.cases import EXAMPLES, EXPECTED, KAPOKMQ, check_example, check_kapokmq_example, run_example
from tests.kapokmq.server import Registry, StandIn
from tests.programs import run_program


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        yield cluster


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == EXPECTED.keys() | KAPOKMQ.keys()


@pytest.mark.parametrize("patched", [pytest.param(False, id="plain"), pytest.param(True, id="patched", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(EXPECTED))
def test_example(name: str, patched: bool, cluster: EmbeddedCluster) -> None:
    check_example(name, cluster.namesrv, patched=patched)


@pytest.mark.parametrize("patched", [pytest.param(False, id="plain"), pytest.param(True, id="patched", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KAPOKMQ)
def test_kapokmq_example(name: str, patched: bool) -> None:
    pytest.importorskip("wsproto", reason="needs the extra kapokmq")
    with ExitStack() as stack:
        registry = stack.enter_context(Registry())
        servers = [stack.enter_context(StandIn(speed=5.0)) for _ in range(3)]
        for server in servers:
            registry.join(server)
        where = {"kapokmq_single.py": servers[0], "kapokmq_cluster.py": registry}.get(name)
        check_kapokmq_example(name, *([f"{where.host}:{where.port}"] if where else []), patched=patched)


def test_name_server_as_an_argument(cluster: EmbeddedCluster) -> None:
    check_example("producer_sync.py", cluster.namesrv, by_argument=True)


def test_without_a_name_server_it_says_how_to_give_one() -> None:
    done = run_program(str(EXAMPLES / "producer_sync.py"))
    assert done.status == 1
    assert "ConfigError: no name server: give namesrv= or set GROCKETMQ_NAMESRV or NAMESRV_ADDR" in done.stderr


def test_a_failed_example_has_another_exit_status() -> None:
    with EmbeddedCluster() as cluster:
        address = cluster.namesrv
    assert run_example("pull_consumer.py", address).status == 1


def test_readme_names_every_example() -> None:
    readme = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    assert all(name in readme for name in EXPECTED | KAPOKMQ)
