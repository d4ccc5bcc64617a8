"""The demo tells the truth: it passes when all is well, and fails when a message is altered, lost or refused."""

from collections.abc import Iterator

import pytest

from grocketmq import Message, MessageExt, __version__
from grocketmq.cli.demo import DemoRun, demo_message, difference, percentile
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded import control as faults
from tests.programs import run_program


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        yield cluster


def received(sent: Message, **changes: object) -> MessageExt:
    """What a listener would get of a message, with some attributes changed."""
    properties = {**sent.properties, "CLUSTER": "c", "MIN_OFFSET": "0"}
    message = MessageExt(sent.topic, sent.body, properties=properties, flag=sent.flag)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class TestDifference:
    def test_none_when_nothing_but_the_protocols_own_properties_came_along(self) -> None:
        sent = demo_message("run", 5)
        assert difference(sent, received(sent)) is None

    @pytest.mark.parametrize(
        ("name", "value"), [("body", b"other"), ("tags", "other"), ("keys", "other"), ("topic", "other"), ("flag", 7)]
    )
    def test_names_what_was_altered(self, name: str, value: object) -> None:
        sent = demo_message("run", 5)
        assert name in (difference(sent, received(sent, **{name: value})) or "")

    def test_a_property_more_less_or_changed(self) -> None:
        sent = demo_message("run", 5)
        for change in ({"new": "1"}, {"word": "x"}):
            message = received(sent)
            message.properties.update(change)
            assert repr(next(iter(change))) in (difference(sent, message) or "")
        message = received(sent)
        del message.properties["word"]
        assert "'word'" in (difference(sent, message) or "")


def test_messages_are_of_all_sorts() -> None:
    messages = [demo_message("run", number) for number in range(200)]
    assert {message.tags for message in messages} == {"created", "changed", None}
    assert {len((message.keys or "").split()) for message in messages} == {0, 1, 2}
    assert max(len(message.body) for message in messages) > 4096
    assert any(not message.body.isascii() for message in messages)


def test_percentile() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], percent) for percent in (0, 50, 99, 100)] == [1.0, 3.0, 4.0, 4.0]
    assert str(percentile([], 50)) == "nan"


class TestRun:
    def test_passes(self, cluster: EmbeddedCluster) -> None:
        looks: list[int] = []
        run = DemoRun(cluster.namesrv, messages=500, callers=8)
        report = run.run(lambda: looks.append(run.received))
        assert report.passed, report.faults
        assert (report.sent, report.received, report.duplicates) == (500, 500, 0)
        assert len(report.send_latencies) == len(report.delivery_latencies) == 500
        assert report.verdict.startswith("PASSED: all 500 messages")

    def test_two_at_once_do_not_disturb_each_other(self, cluster: EmbeddedCluster) -> None:
        other = DemoRun(cluster.namesrv, messages=50, callers=2)
        assert DemoRun(cluster.namesrv, messages=50, callers=2).run().passed
        assert other.run().passed

    def test_an_altered_message_is_noticed(self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        alter(monkeypatch)
        report = DemoRun(cluster.namesrv, messages=20, callers=2).run()
        assert not report.passed
        assert len(report.faults) == 1
        assert "message 7 was altered: body" in report.faults[0]
        assert report.verdict == "FAILED: 1 faults, 20 of 20 messages came back"

    def test_a_lost_message_is_noticed(self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("grocketmq.cli.demo.STALLED", 0.5)
        receive = DemoRun.receive
        monkeypatch.setattr(
            DemoRun, "receive", lambda run, msgs: receive(run, [msg for msg in msgs if msg.properties["demo-number"] != "7"])
        )
        report = DemoRun(cluster.namesrv, messages=20, callers=2).run()
        assert report.faults == ["message 7 did not come back"]

    def test_a_refused_message_is_noticed(self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("grocketmq.cli.demo.STALLED", 0.5)
        cluster.control(RequestCode.SEND_MESSAGE_V2, faults.answer(13, "refused by the test"), nth=4)
        report = DemoRun(cluster.namesrv, messages=20, callers=1).run()
        assert not report.passed
        assert "message 3 was not sent: " in report.faults[0]
        assert "refused by the test" in report.faults[0]


def alter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the body of message 7 change on its way to the listener."""
    receive = DemoRun.receive

    def altered(run: DemoRun, msgs: list[MessageExt]) -> None:
        for msg in msgs:
            if msg.properties["demo-number"] == "7":
                msg.body += b"!"
        receive(run, msgs)

    monkeypatch.setattr(DemoRun, "receive", altered)


@pytest.mark.slow
class TestCommand:
    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("click")
        pytest.importorskip("rich")

    def test_on_a_cluster_of_its_own(self) -> None:
        done = run_program("-W", "error", "-m", "grocketmq.cli", "demo", "--messages", "300")
        assert done.status == 0, done
        assert "embedded in this process" in done.stdout
        assert "300/300" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("PASSED: all 300 messages")
        assert done.stderr == ""

    @pytest.mark.parametrize("by_option", [False, True])
    def test_on_a_given_cluster(self, cluster: EmbeddedCluster, by_option: bool) -> None:
        arguments = ["--namesrv", cluster.namesrv] if by_option else []
        environment = None if by_option else cluster.namesrv
        done = run_program("-m", "grocketmq.cli", "demo", "--messages", "50", *arguments, namesrv=environment)
        assert done.status == 0, done
        assert done.stdout.splitlines()[0] == f"cluster: {cluster.namesrv}"

    def test_exit_status_1_when_a_message_was_altered(self, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        from click.testing import CliRunner

        from grocketmq.cli.commands import grocketmq

        alter(monkeypatch)
        done = CliRunner().invoke(grocketmq, ["demo", "--messages", "20", "--namesrv", cluster.namesrv])
        assert done.exit_code == 1
        assert "message 7 was altered: body" in done.output
        assert done.output.splitlines()[-1].startswith("FAILED: 1 faults")

    def test_a_cluster_that_is_not_there_is_one_line(self) -> None:
        with EmbeddedCluster() as stopped:
            address = stopped.namesrv
        done = run_program("-m", "grocketmq.cli", "demo", namesrv=address)
        assert done.status == 1
        assert done.stderr.startswith(f"grocketmq: the name server does not answer: cannot connect to {address}")
        assert len(done.stderr.splitlines()) == 1

    def test_version_and_help(self) -> None:
        assert "demo" in run_program("-m", "grocketmq.cli", "--help").stdout
        assert __version__ in run_program("-m", "grocketmq.cli", "--version").stdout


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_it_says_so_in_one_line(missing: str) -> None:
    if missing == "rich":
        pytest.importorskip("click")
    code = f"import sys; sys.modules[{missing!r}] = None; import grocketmq.cli.main as m; m.main()"
    done = run_program("-c", code)
    assert done.status == 1
    assert done.stderr == f"grocketmq: the command line needs {missing}; install it with: pip install 'grocketmq[cli]'\n"
