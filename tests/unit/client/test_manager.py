"""Which instance serves which client, and starting and stopping several clients as one."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from grocketmq.client.base import BaseClient
from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.client.manager import MQClientManager, default_manager
from grocketmq.errors import ClientStateError, ConfigError, ForkError
from grocketmq.runtime.lifecycle import ServiceState
from tests.unit.client.fakes import NAMESRV, FakeAPI


class Client(BaseClient):
    """A client that only joins its instance, and notes what happens to it."""

    def __init__(self, name: str, events: list[str], kind: str = "producer", **options: Any) -> None:
        super().__init__(name, ClientConfig(**{"namesrv": NAMESRV, **options}))
        self.events = events
        self.kind = kind
        self.fails = False

    def topics(self) -> list[str]:
        return []

    def heartbeat_data(self) -> Any:
        raise AssertionError("no broker is known")

    def _start(self) -> None:
        if self.fails:
            raise ZeroDivisionError
        instance = self._join_instance()
        instance.api = FakeAPI()  # type: ignore[assignment]
        getattr(instance, f"register_{self.kind}")(self)
        self.events.append(f"+{self.group}")

    def _shutdown(self, timeout: float) -> None:
        if self._shared is not None:
            self.events.append(f"-{self.group}")
            getattr(self._instance, f"unregister_{self.kind}")(self)
            self._leave_instance()


def child(run: Callable[[], None]) -> int:
    """Run in a forked child; 0 when it did not raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that other tests have left in the pool
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def test_equal_settings_share_and_the_last_one_ends_it() -> None:
    manager, events = MQClientManager(), []
    clients = [Client("a", events), Client("b", events)]
    for client in clients:
        client.bind(manager)
        client.start()
    instance = clients[0]._instance
    assert clients[1]._instance is instance
    assert clients[0].client_id == clients[1].client_id == instance.client_id
    clients[0].shutdown()
    assert instance.tasks.names()
    clients[1].shutdown()
    assert instance.tasks.names() == []
    other = manager.instance(clients[0].config)
    assert other is not instance
    manager.release(other)


@pytest.mark.parametrize("different", [{"instance_name": "x"}, {"request_timeout": 9.0}, {"client_id": "mine"}])
def test_different_settings_never_share(different: dict[str, Any]) -> None:
    manager, events = MQClientManager(), []
    clients = [Client("a", events), Client("b", events, **different)]
    for client in clients:
        client.bind(manager)
        client.start()
    assert clients[0]._instance is not clients[1]._instance
    assert clients[0].client_id != clients[1].client_id
    for client in clients:
        client.shutdown()


def test_an_instance_lives_as_long_as_one_uses_it() -> None:
    manager, client = MQClientManager(), Client("a", [])
    client.bind(manager)
    client.start()
    instance = manager.instance(client.config)
    assert instance is client._instance
    client.shutdown()
    assert instance.tasks.names()
    manager.release(instance)
    assert instance.tasks.names() == []


def test_an_instance_whose_end_is_broken_off_ends_all_the_same() -> None:
    client = Client("a", [])
    client.bind(MQClientManager())
    client.start()
    instance = client._instance
    instance.tasks.spawn("takes its time", gevent.sleep, 3600)
    with gevent.Timeout(0.05) as timeout, pytest.raises(gevent.Timeout) as caught:
        client.shutdown()
    assert caught.value is timeout
    client.shutdown()
    assert client.state is ServiceState.STOPPED
    assert instance.tasks.names() == []


def test_who_is_killed_before_he_gets_his_instance_does_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two that ask at a time, so that the second makes one too many, which he ends."""

    class Slow(ClientInstance):
        def __init__(self, config: ClientConfig) -> None:
            gevent.sleep(0.01)
            super().__init__(config)

        def shutdown(self, timeout: float = 1.0) -> None:
            super().shutdown(timeout)
            if gevent.getcurrent() is second:
                raise gevent.GreenletExit

    monkeypatch.setattr("grocketmq.client.manager.ClientInstance", Slow)
    manager, config = MQClientManager(), ClientConfig(namesrv=NAMESRV)
    first, second = gevent.spawn(manager.instance, config), gevent.spawn(manager.instance, config)
    instance = first.get(timeout=5)
    assert isinstance(second.get(timeout=5), gevent.GreenletExit)
    manager.release(instance)
    assert instance.tasks.names() == []


def test_start_and_shutdown_order() -> None:
    """Producers are up before any consumer and outlive all of them, whatever the order of registration."""
    events: list[str] = []
    manager = MQClientManager(namesrv=NAMESRV)
    manager.register_consumer(Client("c1", events, "consumer"))
    manager.register_producer(Client("p1", events))
    manager.register_consumer(Client("c2", events, "consumer"))
    manager.register_producer(Client("p2", events))
    manager.start()
    assert events == ["+p1", "+p2", "+c1", "+c2"]
    manager.shutdown()
    assert events[4:] == ["-c2", "-c1", "-p2", "-p1"]
    manager.shutdown()
    assert len(events) == 8


def test_registered_while_running_is_started_at_once() -> None:
    events: list[str] = []
    with MQClientManager(namesrv=NAMESRV) as manager:
        client = Client("late", events)
        manager.register_producer(client)
        assert client.state is ServiceState.RUNNING
    assert events == ["+late", "-late"]


def test_other_name_servers_are_refused() -> None:
    manager = MQClientManager(namesrv="other:9876")
    with pytest.raises(ConfigError, match="name servers"):
        manager.register_producer(Client("a", []))


def test_a_manager_without_settings_takes_any() -> None:
    manager = MQClientManager()
    manager.register_producer(Client("a", []))
    manager.register_producer(Client("b", [], namesrv="other:9876"))


def test_a_started_client_cannot_be_registered() -> None:
    manager, client = MQClientManager(), Client("a", [])
    client.bind(manager)
    client.start()
    with pytest.raises(ClientStateError, match="registered"):
        MQClientManager().register_producer(client)
    client.shutdown()


def test_a_start_that_fails_takes_down_what_had_started_and_can_be_tried_again() -> None:
    events: list[str] = []
    manager = MQClientManager(namesrv=NAMESRV)
    good, bad = Client("good", events), Client("bad", events)
    bad.fails = True
    later = Client("later", events, "consumer")
    manager.register_producer(good)
    manager.register_producer(bad)
    manager.register_consumer(later)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            manager.start()
        assert events == ["+good", "-good"]
        assert {client.state for client in (good, bad, later, manager)} == {ServiceState.CREATED}
        events.clear()
    bad.fails = False
    with manager:
        good.topic_list()
    assert events == ["+good", "+bad", "+later", "-later", "-bad", "-good"]
    assert {client.state for client in (good, bad, later, manager)} == {ServiceState.STOPPED}


def test_clients_cannot_be_used_before_the_start_or_after_the_end() -> None:
    client = Client("a", [])
    with pytest.raises(ClientStateError, match="created"):
        client.topic_list()
    client.bind(MQClientManager())
    with client:
        client.topic_list()
    with pytest.raises(ClientStateError, match="shut down"):
        client.topic_list()
    with pytest.raises(ClientStateError, match="make a new one"):
        client.start()


def test_a_client_of_the_parent_process_cannot_be_used_in_a_child() -> None:
    def use() -> None:
        with pytest.raises(ForkError, match="fork"):
            client.topic_list()
        with pytest.raises(ForkError, match="restart_after_fork"):
            client.start()
        client.shutdown()

    client = Client("a", [])
    client.bind(MQClientManager())
    with client:
        assert child(use) == 0
        client.topic_list()


def test_a_client_that_is_started_anew_in_a_child() -> None:
    def use() -> None:
        client.topic_list()  # joins a new instance: the manager has forgotten the parent's
        assert client._instance is not instance
        assert client.client_id not in (None, instance.client_id)
        assert client.client_id.startswith(named or "")
        client.shutdown()

    for named in (None, "a-name"):
        client = Client("a", [], restart_after_fork=True, client_id=named)
        with client:
            instance = client._instance
            assert child(use) == 0
            assert client._instance is instance
            client.topic_list()


def test_a_name_is_not_used_by_two_processes() -> None:
    client = Client("a", [], client_id="a-name")

    def use() -> None:
        with client:
            assert client.client_id == f"a-name#{os.getpid()}"

    assert child(use) == 0
    with client:
        assert client.client_id == "a-name"


def test_a_restart_that_fails_is_tried_again_with_the_next_call() -> None:
    def use() -> None:
        client.fails = True
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                client.topic_list()
        client.fails = False
        client.topic_list()

    client = Client("a", [], restart_after_fork=True)
    with client:
        assert child(use) == 0


def test_the_default_manager_is_made_once() -> None:
    mine = default_manager()
    assert default_manager() is mine


@pytest.mark.parametrize("group", ["", " ", "a b", "DEFAULT_PRODUCER", "x" * 256])
def test_groups_that_brokers_refuse(group: str) -> None:
    with pytest.raises(ConfigError, match="group"):
        Client(group, [])
