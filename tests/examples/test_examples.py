"""Every example does what it says, and ends with exit status 0."""

from collections.abc import Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.examples.cases import EXAMPLES, EXPECTED, check_example, run_example
from tests.programs import run_program


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        yield cluster


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == EXPECTED.keys()


@pytest.mark.parametrize("patched", [pytest.param(False, id="plain"), pytest.param(True, id="patched", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(EXPECTED))
def test_example(name: str, patched: bool, cluster: EmbeddedCluster) -> None:
    check_example(name, cluster.namesrv, patched=patched)


def test_name_server_as_an_argument(cluster: EmbeddedCluster) -> None:
    check_example("producer_sync.py", cluster.namesrv, by_argument=True)


def test_without_a_name_server_it_says_how_to_give_one() -> None:
    done = run_program(str(EXAMPLES / "producer_sync.py"))
    assert done.status == 1
    assert "ConfigError: no name server: give namesrv= or set GROCKETMQ_NAMESRV or NAMESRV_ADDR" in done.stderr


def test_a_failed_example_has_another_exit_status() -> None:
    with EmbeddedCluster() as cluster:
        address = cluster.namesrv
    assert run_example("producer_sync.py", address).status == 1


def test_readme_names_every_example() -> None:
    readme = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    assert all(name in readme for name in EXPECTED)
