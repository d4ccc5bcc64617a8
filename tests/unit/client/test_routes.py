"""The route table."""

from __future__ import annotations

import pytest

from grocketmq.client.routes import RouteTable, derived_route
from grocketmq.errors import RouteNotFoundError
from grocketmq.model.route import BrokerData, MessageQueue, Permission, QueueData, TopicRouteData
from tests.unit.client.fakes import route

WITH_SLAVES = TopicRouteData(
    (QueueData("a", 1, 1, Permission.READ | Permission.WRITE),),
    (BrokerData("a", {0: "a:0", 1: "a:1", 2: "a:2"}),),
)


def queues(topic: str, *places: tuple[str, int]) -> tuple[MessageQueue, ...]:
    return tuple(MessageQueue(topic, name, number) for name, number in places)


def test_a_route_fills_all_tables() -> None:
    table = RouteTable()
    assert table.update("T", route("b", "a"))
    expected = queues("T", ("a", 0), ("a", 1), ("b", 0), ("b", 1))
    assert table.publish["T"].queues == expected
    assert table.subscribe["T"] == expected
    assert table.broker_addrs == {"a": {0: "a:10911"}, "b": {0: "b:10911"}}
    assert sorted(table.members()) == [("a", 0, "a:10911"), ("b", 0, "b:10911")]
    assert table.brokers_of("T") == ["a:10911", "b:10911"]


def test_the_same_route_in_another_order_is_no_change() -> None:
    table = RouteTable()
    table.update("T", route("a", "b"))
    assert not table.update("T", route("b", "a"))
    assert table.update("T", route("a", "b", queues=3))
    assert len(table.publish["T"].queues) == 6


def test_a_broker_without_master_is_read_and_not_written() -> None:
    table = RouteTable()
    table.update("T", TopicRouteData((QueueData("a", 1, 1, 6),), (BrokerData("a", {1: "a:1"}),)))
    assert table.publish["T"].queues == ()
    assert table.subscribe["T"] == queues("T", ("a", 0))
    assert table.master("a") is None
    assert table.brokers_of("T") == ["a:1"]


@pytest.mark.parametrize(
    ("perm", "writable", "readable"), [(6, True, True), (4, False, True), (2, True, False), (0, False, False)]
)
def test_permissions(perm: int, writable: bool, readable: bool) -> None:
    table = RouteTable()
    table.update("T", route("a", perm=perm))
    assert bool(table.publish["T"].queues) is writable
    assert bool(table.subscribe["T"]) is readable


def test_a_forgotten_topic_leaves_the_brokers() -> None:
    table = RouteTable()
    table.update("T", route("a"))
    table.forget("T")
    table.forget("never known")
    assert (table.routes, table.publish, table.subscribe) == ({}, {}, {})
    assert table.master("a") == "a:10911"
    assert table.brokers_of("T") == []


def test_addresses_that_no_route_names_are_dropped() -> None:
    """Given two topics, when one of them moves to another broker, then only what neither names any more is dropped."""
    table = RouteTable()
    table.update("T", route("a", "b"))
    table.update("U", route("b"))
    assert table.drop_offline() == []
    table.update("T", route("c"))
    assert table.drop_offline() == ["a:10911"]
    assert set(table.broker_addrs) == {"b", "c"}
    table.forget("U")
    assert table.drop_offline() == ["b:10911"]


def test_a_slave_that_has_left_is_dropped() -> None:
    """A route that is older than another one of the same broker keeps naming the slave, which then stays."""
    table = RouteTable()
    table.update("T", WITH_SLAVES)
    table.update("U", WITH_SLAVES)
    gone = TopicRouteData(WITH_SLAVES.queue_datas, (BrokerData("a", {0: "a:0", 1: "a:1"}),))
    table.update("T", gone)
    assert table.broker_addrs["a"] == {0: "a:0", 1: "a:1"}
    assert table.drop_offline() == []


def test_a_route_that_is_not_fetched_anew_yet_does_not_take_a_brokers_new_address() -> None:
    """Given two topics of a broker that has moved, when one route is fetched anew, then its new address stays known."""
    table = RouteTable()
    table.update("T", route("a"))
    table.update("U", route("a"))
    table.update("T", TopicRouteData(route("a").queue_datas, (BrokerData("a", {0: "moved:10911"}, "C"),)))
    assert table.drop_offline() == []
    assert table.master("a") == "moved:10911"


@pytest.mark.parametrize(
    ("suggested", "known", "expected"),
    [
        (0, {0: "m", 1: "s"}, ("m", 0)),
        (1, {0: "m", 1: "s"}, ("s", 1)),
        (1, {0: "m", 2: "s"}, ("s", 2)),
        (3, {0: "m", 1: "s"}, ("m", 0)),
        (0, {1: "s", 2: "t"}, ("s", 1)),
        (5, {2: "s"}, ("s", 2)),
    ],
)
def test_whom_to_pull_from(suggested: int, known: dict[int, str], expected: tuple[str, int]) -> None:
    table = RouteTable()
    table.broker_addrs["a"] = known
    assert table.broker_for_pull(MessageQueue("T", "a", 0), suggested) == expected


def test_nobody_to_pull_from() -> None:
    with pytest.raises(RouteNotFoundError, match="no route for topic 'T': no address of broker a"):
        RouteTable().broker_for_pull(MessageQueue("T", "a", 0), 0)


def test_the_route_of_a_topic_to_be() -> None:
    """A new topic gets the default topic's brokers, and at most as many queues as it asks for."""
    derived = derived_route(route("a", "b", queues=8), 4)
    assert {(data.read_queue_nums, data.write_queue_nums) for data in derived.queue_datas} == {(4, 4)}
    assert derived.broker_datas == route("a", "b").broker_datas
    assert {data.write_queue_nums for data in derived_route(route("a", queues=2), 4).queue_datas} == {2}
