"""The pytest plugin, in a suite of its own: patched by gevent or not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.meta.source import ROOT
from tests.programs import Finished, run_program

#: A wheel makes it known by itself.
INSTALLED = any(point.value == "grocketmq.testing.plugin" for point in entry_points(group="pytest11"))
_BLOCK = re.compile(r"^\.\. code-block:: python\n(?: +:caption: (\S+)\n)?\n((?:    .*\n|\n)+)", re.MULTILINE)

Suite = Callable[..., Finished]


@pytest.fixture(params=[False, True], ids=["plain", "patched"])
def suite(request: pytest.FixtureRequest, tmp_path: Path) -> Suite:
    """Runs pytest on a file with this code."""

    def run(code: str, *options: str) -> Finished:
        (tmp_path / "test_it.py").write_text(textwrap.dedent(code))
        return run_pytest(tmp_path, *options, patched=request.param)

    return run


def run_pytest(directory: Path, *options: str, patched: bool = False) -> Finished:
    start = ["-m", "gevent.monkey", "--module", "pytest"] if patched else ["-m", "pytest"]
    plugin = [] if INSTALLED else ["-p", "grocketmq.testing.plugin"]
    quiet = ["-q", "-p", "no:cacheprovider", "--strict-markers", "-W", "error", f"--rootdir={directory}", "-c", "/dev/null"]
    return run_program(*start, *plugin, *quiet, *options, str(directory))


def counts(done: Finished) -> dict[str, int]:
    last = done.stdout.strip().splitlines()[-1]
    return {what.rstrip("s"): int(count) for count, what in re.findall(r"(\d+) (passed|failed|errors?)", last)}


def test_the_documents_example(tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / "docs" / "testing.rst").read_text(encoding="utf-8"))
    files = {name: textwrap.dedent(code) for name, code in blocks if name}
    assert set(files) == {"orders.py", "test_orders.py"}
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    for patched in (False, True):
        done = run_pytest(tmp_path, patched=patched)
        assert counts(done) == {"passed": 3}, done.stdout
    (look,) = (textwrap.dedent(code) for name, code in blocks if not name)
    assert run_program("-W", "error", "-c", look).stdout.splitlines()[:2] == ["2", "0"]


def test_listeners_get_what_is_sent(suite: Suite) -> None:
    done = suite(
        """
        import pytest
        from grocketmq import Message

        def test_concurrent(rocketmq_producer, rocketmq_consumer_factory):
            seen = []
            consumption = rocketmq_consumer_factory("T", lambda msgs, context: seen.extend(msgs), expression="a")
            rocketmq_producer.send(Message("T", b"a", tags="a"))
            rocketmq_producer.send(Message("T", b"b", tags="b"))
            assert consumption.wait() == seen and consumption.bodies == [b"a"]

        def test_orderly(rocketmq_producer, rocketmq_consumer_factory):
            consumption = rocketmq_consumer_factory("T", orderly=True)
            for number in range(20):
                rocketmq_producer.send_orderly(Message("T", b"%d" % number), "key")
            consumption.wait(20)
            assert consumption.bodies == [b"%d" % number for number in range(20)]

        def test_two_members(rocketmq_producer, rocketmq_consumer_factory):
            members = [rocketmq_consumer_factory("T") for _ in range(2)]
            for number in range(20):
                rocketmq_producer.send(Message("T", b"x"))
            for member in members:
                member.wait(1)

        @pytest.mark.rocketmq(brokers=3, auto_create_topics=False)
        def test_settings(rocketmq_cluster):
            assert len(rocketmq_cluster.broker_names) == 3
        """
    )
    assert (done.status, counts(done)) == (0, {"passed": 4}), done.stdout


def test_a_failing_listener_fails_the_test(suite: Suite) -> None:
    done = suite(
        """
        import gevent
        from grocketmq import Message

        def listener(msgs):
            raise LookupError("no such customer")

        def test_that_waits(rocketmq_producer, rocketmq_consumer_factory):
            consumption = rocketmq_consumer_factory("T", listener)
            rocketmq_producer.send(Message("T", b"x"))
            consumption.wait(timeout=30)

        def test_that_does_not_look(rocketmq_producer, rocketmq_consumer_factory):
            consumption = rocketmq_consumer_factory("T", listener)
            rocketmq_producer.send(Message("T", b"x"))
            while not consumption.errors:
                gevent.sleep(0.01)

        def test_that_fails_for_that_reason(rocketmq_producer, rocketmq_consumer_factory):
            consumption = rocketmq_consumer_factory("T", listener)
            rocketmq_producer.send(Message("T", b"x"))
            while not consumption.errors:
                gevent.sleep(0.01)
            assert consumption.messages

        def test_that_expects_it(rocketmq_producer, rocketmq_consumer_factory):
            consumption = rocketmq_consumer_factory("T", listener, may_fail=True)
            rocketmq_producer.send(Message("T", b"x"))
            assert isinstance(consumption.wait_for_errors()[0], LookupError)
        """,
        "--show-capture=no",
    )
    assert counts(done) == {"failed": 3, "passed": 1}, done.stdout
    assert done.stdout.count('raise LookupError("no such customer")') == 3, "each shows where the listener failed"
    assert "LookupError: no such customer" in done.stdout


def test_waiting_ends(suite: Suite) -> None:
    done = suite(
        """
        def test_it(rocketmq_consumer_factory):
            rocketmq_consumer_factory("T").wait(2, timeout=0.1)
        """,
        "--show-capture=no",
    )
    assert counts(done) == {"failed": 1}
    assert "0 of 2 messages were consumed within 0.1 s, the listener failed 0 times" in done.stdout


def test_a_suite_without_it_makes_no_hub(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it():\n    from gevent._hub_local import get_hub_if_exists\n    assert get_hub_if_exists() is None\n"
    )
    assert counts(run_pytest(tmp_path)) == {"passed": 1}


def test_the_fixtures_in_this_suite() -> None:
    """The names are fixed."""
    from grocketmq.testing import plugin

    assert set(plugin.__all__) == {"rocketmq_cluster", "rocketmq_producer", "rocketmq_consumer_factory"}
    assert EmbeddedCluster.__name__ == "EmbeddedCluster"
