"""How a load test's clients start and end, and that the next test does not meet those of the last."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import ClientStateError, GRocketMQError, Message, Producer, PushConsumer
from grocketmq.embedded import EmbeddedCluster
from tests.helpers import wait_for
from tests.stacks.topics import TOPIC

pytest.importorskip("locust")

from locust import constant, task
from locust.env import Environment
from locust.event import Events
from locust.runners import STATE_RUNNING, STATE_STOPPED, MasterRunner, WorkerRunner

from grocketmq.contrib.load import clients as clients_module
from grocketmq.contrib.load import run as run_module
from grocketmq.contrib.load.clients import Clients, Watch
from grocketmq.contrib.load.outages import Outages
from grocketmq.contrib.load.run import clients_of, report, watch
from grocketmq.contrib.locust import RocketMQUser

TOLD = {"lag": {}, "most_lag": 0, "still_down": [], "accounts": {}}


class Buyer(RocketMQUser):
    """Sends three messages; its consumer is held up until ``gate`` is set."""

    topics = (TOPIC,)
    wait_time = constant(0.01)
    gate = Event()
    given: list[Clients]

    @classmethod
    def handle(cls, msg: Any) -> None:
        cls.gate.wait(10)

    @task
    def buy(self) -> None:
        if not self.given or self.given[-1] is not self._clients:
            self.given.append(self._clients)
            for _ in range(3):
                self.send(TOPIC, b"x")


@contextmanager
def running(cluster: EmbeddedCluster) -> Iterator[Any]:
    """A Locust with a buyer in this process."""
    Buyer.given, Buyer.gate = [], Event()
    environment = Environment(user_classes=[Buyer], host=cluster.namesrv)
    runner = environment.create_local_runner()
    watch(environment)
    try:
        yield environment
    finally:
        Buyer.gate.set()
        runner.quit()
        gevent.killall([runner.spawning_greenlet])


def sent(environment: Any) -> int:
    return int(environment.stats.get(TOPIC, "RMQ-SEND").num_requests)


def test_a_test_that_begins_while_the_last_one_drains_has_clients_and_a_report_of_its_own(
    cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "locust.stats_logger")
    with running(cluster) as environment:
        runner = environment.runner
        runner.start(1, 1)
        wait_for(lambda: sent(environment) == 3)
        ending = gevent.spawn(runner.stop)
        wait_for(lambda: runner.state == STATE_STOPPED)
        runner.start(2, 2)
        wait_for(lambda: runner.user_count == 2)
        gevent.sleep(0.1)
        assert len(Buyer.given) == 1, "users wait for the end of the last test"
        Buyer.gate.set()
        ending.join()
        assert "sent 3, failed 0" in caplog.text
        assert report(environment) is None, "a test is under way"
        wait_for(lambda: len(Buyer.given) == 2 and sent(environment) >= 3)
        runner.stop()
        found = report(environment)
        assert found is not None
        assert (found.account.sent, found.account.lost) == (3, 0)


def test_clients_that_do_not_end_well_keep_nothing_from_ending(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown = PushConsumer.shutdown

    def fail(self: PushConsumer, *args: Any) -> None:
        shutdown(self, *args)
        raise ValueError("on purpose")

    monkeypatch.setattr(PushConsumer, "shutdown", fail)
    with running(cluster) as environment:
        Buyer.gate.set()
        environment.runner.start(1, 1)
        wait_for(lambda: sent(environment) == 3)
        environment.runner.stop()
        found = report(environment)
        assert found is not None
        assert found.account.sent == 3
        assert "the clients of Buyer did not end well" in caplog.text
        producer = Buyer.given[0].producer
        assert producer is not None
        with pytest.raises(ClientStateError):
            producer.send(Message(TOPIC, b"x"))
        environment.runner.start(1, 1)
        wait_for(lambda: len(Buyer.given) == 2)


# -- several processes, one of which is here -------------------------------------------------------------------------------


class Node:
    """What the others are told, and a Locust that they tell."""

    def __init__(self, kind: Any, test: str = "") -> None:
        self.told: list[tuple[str, Any]] = []
        self.runner = object.__new__(kind)
        self.runner.state = STATE_RUNNING
        self.runner.custom_messages, self.runner.greenlet = {}, None
        self.runner.send_message = lambda name, data: self.told.append((name, data))
        self.runner.clients = SimpleNamespace(all=[SimpleNamespace(id="w", state="ready")])
        self.events, self.user_classes, self.stop_timeout, self.stats = Events(), (), 0.0, SimpleNamespace(entries={})
        self.parsed_options = SimpleNamespace(grocketmq_run=test)
        watch(self)

    def hear(self, name: str, data: Any) -> None:
        self.runner.custom_messages[name][0](environment=self, msg=SimpleNamespace(data=data, node_id="w"))


class Ended:
    """Clients without any."""

    most_lag = 0

    def __init__(self, kind: Any, environment: Any, host: str, run: str, stream: str, watch: Watch) -> None:
        self.test = run
        self.recorder = SimpleNamespace(take=lambda: run)

    def finish(self, drain_timeout: float) -> dict[str, int]:
        return {}


def test_a_worker_ends_one_test_while_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "Clients", Ended)
    worker = Node(WorkerRunner, "one")
    user = SimpleNamespace(environment=worker, host=None)
    monkeypatch.setattr(run_module.Run, "finish", lambda self: self.take())
    assert clients_of(user).test == "one"  # type: ignore[attr-defined]
    worker.runner.state = STATE_STOPPED
    worker.hear("rocketmq_stop", "one")
    assert worker.told == [], "its end comes"
    worker.events.test_stop.fire(environment=worker)
    wait_for(lambda: worker.told == [("rocketmq_idle", "one")])
    worker.runner.state, worker.parsed_options.grocketmq_run = STATE_RUNNING, "two"
    worker.events.test_start.fire(environment=worker)
    worker.hear("rocketmq_stop", "one")
    asking = gevent.spawn(clients_of, user)
    worker.hear("rocketmq_drain", "two")
    gevent.sleep(0.01)
    assert not asking.ready()
    assert worker.told == [("rocketmq_idle", "one")], "neither stopped nor drained by what is said of the other test"
    worker.hear("rocketmq_drain", "one")
    assert asking.get(timeout=5).test == "two"
    last = {"test": "one", "accounts": {"SimpleNamespace": "one"}}
    assert worker.told[1:] == [("rocketmq_end", {"test": "one", "told": last})]


def test_a_worker_that_stopped_before_a_test_tells_that_it_has_ended() -> None:
    worker = Node(WorkerRunner)
    worker.runner.state = STATE_STOPPED
    worker.hear("rocketmq_stop", "one")
    assert worker.told == [("rocketmq_end", {"test": "one", "told": None})]


def test_a_master_puts_each_report_into_the_book_of_its_test(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "locust.stats_logger")
    master = Node(MasterRunner)
    tests = []
    endings = []
    for _ in range(2):
        master.events.test_start.fire(environment=master)
        tests.append(master.parsed_options.grocketmq_run)
        endings.append(gevent.spawn(master.events.test_stop.fire, environment=master))
        gevent.sleep(0)
    assert master.told == [("rocketmq_stop", test) for test in tests]
    master.hear("rocketmq_end", {"test": "an older one", "told": {**TOLD, "lag": {"a queue": 1}}})
    master.hear("rocketmq_idle", tests[1])
    master.hear("rocketmq_end", {"test": tests[0], "told": {**TOLD, "lag": {"a queue": 7}}})
    endings[0].get(timeout=5)
    assert "7 in a queue" in caplog.text
    assert report(master) is None
    assert not endings[1].ready()
    master.hear("rocketmq_end", {"test": tests[1], "told": {**TOLD, "lag": {"a queue": 2}}})
    endings[1].get(timeout=5)
    found = report(master)
    assert found is not None
    assert (found.lag, found.silent) == ({"a queue": 2}, 0)


# -- the start of clients --------------------------------------------------------------------------------------------------


def clients(namesrv: str, stream: str = "s", **options: Any) -> Clients:
    kind = type("Kind", (Buyer,), options)
    environment = SimpleNamespace(events=Events())
    return Clients(kind, environment, namesrv, "run", stream, Watch(environment, Outages()))


@pytest.mark.parametrize("begun", [False, True])
def test_users_do_not_go_on_with_clients_whose_start_was_broken_off(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    monkeypatch.setattr(Producer, "start", lambda self: gevent.sleep(10))
    made = clients("127.0.0.1:1", topics=())
    waiting = gevent.spawn(pytest.raises, GRocketMQError, made.wait_ready)
    if begun:
        gevent.sleep(0.01)
    made.finish(0.0)
    assert "ended before" in str(waiting.get(timeout=5).value.__cause__)


def test_each_user_gets_an_error_of_its_own_when_clients_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = ValueError("on purpose")

    def fail(self: Producer) -> None:
        raise cause

    monkeypatch.setattr(Producer, "start", fail)
    made = clients("127.0.0.1:1", topics=())
    errors = []
    for _ in range(2):
        with pytest.raises(GRocketMQError) as caught:
            made.wait_ready()
        errors.append(caught.value)
    made.finish(0.0)
    assert errors[0] is not errors[1]
    assert [error.__cause__ for error in errors] == [cause, cause]


def test_topics_that_do_not_exist_are_told_of_in_one_group_too(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "_QUEUES_TIMEOUT", 0.3)
    monkeypatch.setattr(clients_module, "_SETTLED", 0.05)
    made = clients(cluster.namesrv, topics=("no_such_topic",), one_group=True)
    with pytest.raises(GRocketMQError) as caught:
        made.wait_ready()
    made.finish(0.0)
    assert "do its topics exist?" in str(caught.value.__cause__)


def test_a_member_of_one_group_may_have_no_queues(cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "_SETTLED", 0.05)
    cluster.create_topic("narrow", queues=1)
    made = [
        clients(cluster.namesrv, f"s{number}", topics=("narrow",), one_group=True, options={"instance_name": str(number)})
        for number in range(3)
    ]
    for one in made:
        one.wait_ready()
    for one in made:
        one.finish(5.0)
