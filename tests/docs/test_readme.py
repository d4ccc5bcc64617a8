"""The README's code runs as it is printed, and its commands are there."""

import re
from collections.abc import Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.docs.readme import python_blocks, text
from tests.meta.source import ROOT
from tests.programs import Finished, run_program

BLOCKS = python_blocks()


def named(part: str) -> str:
    """The one block that holds this."""
    (found,) = (block for block in BLOCKS if part in block)
    return found


def run(code: str, cluster: EmbeddedCluster) -> Finished:
    done = run_program("-W", "error", "-c", code, namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr
    assert done.stderr == ""
    return done


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        yield cluster


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(code: str, cluster: EmbeddedCluster) -> None:
    run(code, cluster)


def test_no_code_hides_from_these_tests() -> None:
    assert len(BLOCKS) == text().count("code-block::") >= 7


def test_first_example_is_short_and_prints_the_message(cluster: EmbeddedCluster) -> None:
    assert len(BLOCKS[0].replace("\n\n", "\n").splitlines()) <= 20
    done = run(BLOCKS[0], cluster)
    assert "stored as " in done.stdout
    assert "hello greeting-1 Hello, gevent" in done.stdout


def test_consuming_prints_every_message(cluster: EmbeddedCluster) -> None:
    done = run(named("on_orders").replace("billing", "billing_once"), cluster)
    assert all(f"b'order {number}'" in done.stdout for number in range(4))


def test_acknowledged_part(cluster: EmbeddedCluster) -> None:
    assert run(named("ack_index"), cluster).stdout == "[b'0', b'1', b'2', b'3']\n"


def test_in_order(cluster: EmbeddedCluster) -> None:
    code = named("orderly_listener").replace("shipping", "shipping_once").replace("parcels", "parcels_once")
    assert run(code, cluster).stdout == "['created', 'paid', 'shipped']\n"


def test_gunicorn_hooks(cluster: EmbeddedCluster) -> None:
    calls = """
import os
from gevent._hub_local import get_hub_if_exists
from grocketmq import Message
assert get_hub_if_exists() is None, "making a client before the fork made a hub"
if os.fork() == 0:
    post_worker_init(None)
    print(producer.send(Message("web", b"x")).status.name, flush=True)
    worker_exit(None, None)
    os._exit(0)
assert os.wait()[1] == 0
"""
    assert run(named("post_worker_init") + calls, cluster).stdout == "SEND_OK\n"


def test_begins_with_two_commands_that_exist() -> None:
    head = text()[: text().index(".. code-block::")]
    commands = re.findall(r"^    make (\w+)", head, re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["demo", "test"]
    assert set(commands) <= set(targets)
