"""What clients with the same settings share: routes, heartbeats, scheduled tasks."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event

from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.errors import (
    BrokerSystemError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    RemotingError,
    RequestTimeout,
    RouteNotFoundError,
)
from grocketmq.model.namespace import DEFAULT_TOPIC
from grocketmq.model.route import BrokerData, MessageQueue, QueueData, TopicRouteData
from grocketmq.remoting.tls import TLSConfig
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.bodies import HEARTBEAT
from tests.helpers import wait_for
from tests.unit.client.fakes import NAMESRV, FakeAPI, FakeMember, instance_with, route


def api_with(**routes: TopicRouteData) -> FakeAPI:
    api = FakeAPI()
    api.routes.update(routes)
    return api


# -- routes ------------------------------------------------------------------------------------------------------------------


def test_a_route_is_fetched_once() -> None:
    api = api_with(T=route("a"))
    with instance_with(api) as instance:
        for _ in range(3):
            assert len(instance.publish_info("T", 4, Deadline(1.0)).queues) == 2
            assert len(instance.subscribe_queues("T")) == 2
    assert api.named("topic_route") == [("T",)]


def test_several_callers_share_one_fetch() -> None:
    api = api_with(T=route("a"))
    api.pause = 0.05
    with instance_with(api) as instance:
        callers = [gevent.spawn(instance.publish_info, "T", 4, Deadline(1.0)) for _ in range(50)]
        gevent.joinall(callers, raise_error=True)
    assert len(api.named("topic_route")) == 1
    assert {len(caller.value.queues) for caller in callers} == {2}


def test_a_caller_that_is_killed_does_not_stop_the_others() -> None:
    api = api_with(T=route("a"))
    api.pause = 0.05
    with instance_with(api) as instance:
        first = gevent.spawn(instance.refresh_route, "T", 1.0)
        gevent.sleep(0)
        second = gevent.spawn(instance.refresh_route, "T", 1.0)
        gevent.sleep(0.01)
        first.kill()
        second.get(timeout=2)
        assert "T" in instance.routes.routes
    assert len(api.named("topic_route")) == 2


def test_a_caller_with_little_time_does_not_fail_the_others() -> None:
    """Given a fetch that ends for want of its caller's time, then those who wait for it and have time left fetch again."""
    answers = iter([RequestTimeout("no answer"), route("a")])
    api = FakeAPI(topic_route=lambda topic: next(answers))
    api.pause = 0.05
    with instance_with(api) as instance:
        others = [gevent.spawn_later(0.001, instance.refresh_route, "T", 2.0) for _ in range(5)]
        with pytest.raises(RequestTimeout):
            instance.refresh_route("T", 0.1)
        gevent.joinall(others, raise_error=True)
        assert "T" in instance.routes.routes
    assert len(api.named("topic_route")) == 2


def test_waiting_for_another_ones_fetch_ends_in_time() -> None:
    api = api_with(T=route("a"))
    api.pause = 0.5
    with instance_with(api) as instance:
        first = gevent.spawn(instance.refresh_route, "T", 2.0)
        gevent.sleep(0)
        with pytest.raises(RequestTimeout):
            instance.refresh_route("T", 0.02)
        first.get(timeout=2)


def test_a_new_topic_gets_the_route_of_the_default_topic() -> None:
    api = api_with(**{DEFAULT_TOPIC: route("a", "b", queues=8)})
    with instance_with(api) as instance:
        queues = instance.publish_info("new", 3, Deadline(1.0)).queues
    assert len(queues) == 6
    assert {queue.topic for queue in queues} == {"new"}


def test_without_the_default_topic_the_error_names_the_topic_asked_for() -> None:
    with instance_with(FakeAPI()) as instance, pytest.raises(RouteNotFoundError, match="'new'"):
        instance.publish_info("new", 3, Deadline(1.0))


def test_a_topic_that_cannot_be_written_to() -> None:
    api = api_with(T=route("a", perm=4))
    with instance_with(api) as instance, pytest.raises(RouteNotFoundError, match="written"):
        instance.publish_info("T", 3, Deadline(1.0))
    assert (DEFAULT_TOPIC,) not in api.named("topic_route")


def test_a_name_server_that_is_silent_is_no_missing_topic() -> None:
    api = FakeAPI(topic_route=ConnectError("refused"))
    with instance_with(api) as instance, pytest.raises(RemotingError):
        instance.publish_info("T", 3, Deadline(1.0))
    assert (DEFAULT_TOPIC,) not in api.named("topic_route")


def test_no_time_is_left_to_look() -> None:
    with instance_with(api_with(T=route("a"))) as instance, pytest.raises(RequestTimeout, match="route of T"):
        instance.publish_info("T", 3, Deadline(0.0))


def test_the_master_is_looked_for_again() -> None:
    """Given a broker that lost its master, when it has got one again, then the call that needs it finds it."""
    headless = TopicRouteData((QueueData("a", 1, 1, 6),), (BrokerData("a", {1: "a:1"}),))
    api = api_with(T=headless)
    queue = MessageQueue("T", "a", 0)
    with instance_with(api) as instance:
        instance.refresh_route("T")
        with pytest.raises(RouteNotFoundError, match="no master"):
            instance.master_address(queue, Deadline(1.0))
        api.routes["T"] = route("a")
        assert instance.master_address(queue, Deadline(1.0)) == "a:10911"


@pytest.mark.parametrize(("vip", "address"), [(False, "a:10911"), (True, "a:10909")])
def test_sends_may_have_a_port_of_their_own(vip: bool, address: str) -> None:
    queue = MessageQueue("T", "a", 0)
    with instance_with(api_with(T=route("a")), vip_channel=vip) as instance:
        assert instance.send_address(queue, Deadline(1.0)) == address
        assert instance.master_address(queue, Deadline(1.0)) == "a:10911"


def test_a_lost_route_keeps_what_was_known() -> None:
    api = api_with(T=route("a"))
    with instance_with(api) as instance:
        instance.refresh_route("T")
        del api.routes["T"]
        with pytest.raises(RouteNotFoundError):
            instance.refresh_route("T")
        assert instance.publish_info("T", 4, Deadline(1.0)).queues


def test_routes_of_members_are_polled_and_a_change_wakes_the_rebalance() -> None:
    api = api_with(T=route("a"))
    consumer = FakeMember("g", ["T"])
    with instance_with(api, route_poll_interval=0.02) as instance:
        instance.register_consumer(consumer)
        wait_for(lambda: consumer.rebalances == 1)
        api.routes["T"] = route("a", "b")
        wait_for(lambda: consumer.rebalances == 2)
        assert len(instance.routes.subscribe["T"]) == 4


def test_a_route_that_is_new_may_grow_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a topic that one broker has told of yet, then the others' queues are not left alone until the next poll."""
    monkeypatch.setattr("grocketmq.client.instance.ROUTE_AGAIN", 0.02)
    api = api_with(T=route("a"))
    consumer = FakeMember("g", ["T"])
    with instance_with(api) as instance:
        instance.register_consumer(consumer)
        instance.find_routes(["T"])
        api.routes["T"] = route("a", "b")
        wait_for(lambda: len(instance.routes.subscribe["T"]) == 4)
        wait_for(lambda: consumer.rebalances >= 2)
        gevent.sleep(0.1)
        asked = len(api.named("topic_route"))
        gevent.sleep(0.1)
        assert len(api.named("topic_route")) == asked, "a route that no longer changes is polled at its time"


def test_routes_that_nobody_uses_are_forgotten() -> None:
    """Given topics that members leave one by one, then their routes go, and addresses no other route names."""
    api = api_with(T=route("a"), U=route("b"), asked=route("b"))
    member = FakeMember("p", ["T", "U"])
    with instance_with(api, route_poll_interval=0.02) as instance:
        instance.register_producer(member)
        instance.subscribe_queues("asked")
        wait_for(lambda: set(instance.routes.routes) == {"T", "U"})
        member.wanted.remove("U")
        wait_for(lambda: set(instance.routes.routes) == set(instance.routes.publish) == set(instance.routes.subscribe) == {"T"})
        instance._heartbeat()
        assert instance.routes.members() == [("a", 0, "a:10911")]
        assert len(instance.publish_info("U", 4, Deadline(1.0)).queues) == 2


def test_one_route_that_fails_does_not_hold_up_the_others() -> None:
    def tell(topic: str) -> TopicRouteData | Exception:
        return {"A": BrokerSystemError(1, "no", "ns"), "B": route("b"), "C": RouteNotFoundError("C")}[topic]

    with instance_with(FakeAPI(topic_route=tell), route_poll_interval=0.02) as instance:
        instance.register_producer(FakeMember("p", ["A", "B", "C"]))
        wait_for(lambda: "B" in instance.routes.routes)


# -- members -----------------------------------------------------------------------------------------------------------------


def test_one_consumer_of_a_group() -> None:
    with instance_with(FakeAPI()) as instance:
        first, second = FakeMember("g"), FakeMember("g")
        instance.register_consumer(first)
        with pytest.raises(ConfigError, match="instance_name"):
            instance.register_consumer(second)
        instance.unregister_consumer(second)
        assert instance.consumer("g") is first
        instance.unregister_consumer(first)


def test_brokers_are_told_when_the_last_producer_of_a_group_leaves() -> None:
    api = api_with(T=route("a", "b"))
    with instance_with(api) as instance:
        instance.refresh_route("T")
        first, second = FakeMember("p"), FakeMember("p")
        instance.register_producer(first)
        instance.register_producer(second)
        instance.unregister_producer(first)
        assert api.named("unregister") == []
        instance.unregister_producer(second)
        instance.unregister_producer(second)
    told = sorted((address, client_id, group) for address, client_id, group in api.named("unregister"))
    assert told == [(f"{name}:10911", instance.client_id, "p") for name in ("a", "b")]


def test_a_broker_that_cannot_be_told_is_no_silent_one(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what happens next, and a heartbeat that fails later is logged all the same."""
    api = FakeAPI(unregister=ConnectError("refused"), heartbeat=ConnectError("refused"))
    api.routes["T"] = route("a")
    with instance_with(api) as instance:
        instance.refresh_route("T")
        leaver, stayer = FakeMember("leaves", ["T"]), FakeMember("stays", ["T"])
        instance.register_producer(leaver)
        instance.register_producer(stayer)
        instance.unregister_producer(leaver)
        instance.heartbeat_now()
    assert sorted(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING) == [
        "a:10911 was not told that group leaves leaves, and will notice: refused",
        "heartbeat to a:10911 failed, next try with the next round: refused",
    ]


# -- heartbeats --------------------------------------------------------------------------------------------------------------


def test_all_brokers_are_told_and_a_failing_one_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Given a broker that fails, when heartbeats go out twice, then the other gets both and the failure is logged once."""

    def answer(address: str, body: bytes) -> int | Exception:
        return ConnectError("refused") if address.startswith("a") else 495

    api = FakeAPI(heartbeat=answer)
    api.routes["T"] = route("a", "b")
    with instance_with(api) as instance:
        instance.refresh_route("T")
        instance.register_consumer(FakeMember("g", ["T"]))
        with caplog.at_level(logging.WARNING, "grocketmq"):
            instance.heartbeat_now()
            instance.heartbeat_now()
        assert instance.heartbeats.versions == {"b:10911": 495}
    told = [address for address, _ in api.named("heartbeat")]
    assert told.count("a:10911") == told.count("b:10911") >= 2
    assert HEARTBEAT.decode(api.named("heartbeat")[0][1]).client_id == instance.client_id
    assert len([record for record in caplog.records if "heartbeat" in record.message]) == 1


@pytest.mark.parametrize("consumes", [False, True])
def test_slaves_hear_of_consumers_only(consumes: bool) -> None:
    api = api_with(T=TopicRouteData((QueueData("a", 1, 1, 6),), (BrokerData("a", {0: "m:0", 1: "s:1"}),)))
    with instance_with(api) as instance:
        instance.refresh_route("T")
        instance.register_producer(FakeMember("p"))
        if consumes:
            instance.register_consumer(FakeMember("g"))
        instance.heartbeat_now()
    assert {address for address, _ in api.named("heartbeat")} == ({"m:0", "s:1"} if consumes else {"m:0"})


def test_without_members_nobody_is_told() -> None:
    api = api_with(T=route("a"))
    with instance_with(api) as instance:
        instance.refresh_route("T")
        instance.heartbeat_now()
    assert api.named("heartbeat") == []


def test_a_new_broker_is_told_at_once() -> None:
    api = api_with(T=route("a"))
    with instance_with(api) as instance:
        instance.register_producer(FakeMember("p", ["T"]))
        instance.refresh_route("T")
        wait_for(lambda: api.named("heartbeat"))


# -- consumers' tasks --------------------------------------------------------------------------------------------------------


def test_an_unbalanced_consumer_is_balanced_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grocketmq.client.instance.REBALANCE_SOON", 0.02)
    with instance_with(FakeAPI()) as instance:
        consumer = FakeMember("g")
        consumer.rebalance_answer = lambda: consumer.rebalances >= 3
        instance.register_consumer(consumer)
        instance.rebalance_soon()
        wait_for(lambda: consumer.rebalances == 3)
        gevent.sleep(0.1)
        assert consumer.rebalances == 3


@pytest.mark.parametrize("error", [ZeroDivisionError(), gevent.Timeout()])
def test_a_consumer_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr("grocketmq.client.instance.FIRST_PERSIST", 0.0)
    with instance_with(FakeAPI(), persist_offset_interval=0.02) as instance:
        bad, good = FakeMember("bad"), FakeMember("good")
        bad.rebalance_answer = error
        instance.register_consumer(bad)
        instance.register_consumer(good)
        instance.rebalance_soon()
        wait_for(lambda: good.rebalances and good.persists >= 2)
        assert instance.tasks.failures["rebalance of bad"] >= 1


def test_shutdown_leaves_no_greenlet() -> None:
    with instance_with(api_with(T=route("a"))) as instance:
        instance.register_consumer(FakeMember("g", ["T"]))
        gevent.sleep(0.01)
        assert instance.tasks.names()
    assert instance.tasks.names() == []


def test_a_fetch_that_the_shutdown_breaks_off_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    asked, closed = Event(), Event()

    def broken_off(topic: str) -> ConnectionLostError:
        asked.set()
        closed.wait(5.0)
        return ConnectionLostError("connection to n:1 was closed by this client")

    with instance_with(FakeAPI(topic_route=broken_off)) as instance:
        instance.register_consumer(FakeMember("g", ["T"]))
        instance.refresh_routes_soon()
        assert asked.wait(5.0)
        instance.tasks.stop_periodic()
        closed.set()
        wait_for(lambda: not any("update routes" in name for name in instance.tasks.names()))
    assert not caplog.messages


def test_a_consumer_that_leaves_during_a_round_is_passed_over() -> None:
    with instance_with(FakeAPI()) as instance:
        first, second = FakeMember("first"), FakeMember("second")

        def leave() -> bool:
            instance.unregister_consumer(second)  # type: ignore[arg-type]
            return True

        first.rebalance_answer = leave
        instance.register_consumer(first)
        instance.register_consumer(second)
        instance.rebalance_soon()
        wait_for(lambda: first.rebalances)
        gevent.sleep(0.01)
        assert second.rebalances == 0


def test_an_instance_that_cannot_be_made_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("grocketmq.client.instance.HubLag", lambda: started.append(1))
    with pytest.raises(ConfigError):
        ClientInstance(ClientConfig(namesrv=NAMESRV, tls=TLSConfig(ca_file="/no/such/file")))
    assert not started


def test_the_second_port_of_a_broker_that_left_is_forgotten_too() -> None:
    with instance_with(api_with(T=route("a")), vip_channel=True) as instance:
        instance.refresh_route("T")
        forgotten: list[str] = []
        instance.remoting.forget = forgotten.append  # type: ignore[method-assign]
        instance.routes.forget("T")
        instance._heartbeat()
    assert forgotten == ["a:10911", "a:10909"]
