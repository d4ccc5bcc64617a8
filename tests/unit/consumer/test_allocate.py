"""Allocation strategies, beyond what the vectors say: nothing is lost, nothing is shared out twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.consumer.allocate import (
    AllocateAveragely,
    AllocateAveragelyByCircle,
    AllocateByConfig,
    AllocateByMachineRoom,
    AllocateConsistentHash,
    AllocateMachineRoomNearby,
    AllocateStrategy,
    sort_client_ids,
)
from grocketmq.errors import ConfigError
from grocketmq.model.route import MessageQueue

ROOMS = ("north", "south", "east")


def room_of_broker(queue: MessageQueue) -> str:
    return queue.broker_name.partition("@")[0]


def room_of_consumer(client_id: str) -> str:
    return client_id.partition("@")[0]


COMPLETE: dict[str, Callable[[], AllocateStrategy]] = {
    "averagely": AllocateAveragely,
    "circle": AllocateAveragelyByCircle,
    "hash": AllocateConsistentHash,
    "machine room": lambda: AllocateByMachineRoom(ROOMS),
    "nearby": lambda: AllocateMachineRoomNearby(AllocateAveragely(), room_of_broker, room_of_consumer),
    "nearby hash": lambda: AllocateMachineRoomNearby(AllocateConsistentHash(), room_of_broker, room_of_consumer),
}
ALL: dict[str, Callable[[], AllocateStrategy]] = {**COMPLETE, "config": lambda: AllocateByConfig([])}

queue_lists = st.sets(
    st.builds(
        MessageQueue,
        st.just("T"),
        st.builds("{}@broker-{}".format, st.sampled_from(ROOMS), st.integers(0, 3)),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=60,
).map(sorted)
member_lists = st.sets(st.builds("{}@{}".format, st.sampled_from(ROOMS), st.integers(0, 30)), min_size=1, max_size=20).map(
    sort_client_ids
)


@pytest.mark.parametrize("name", COMPLETE)
@given(queues=queue_lists, members=member_lists)
def test_every_queue_goes_to_exactly_one_member(name: str, queues: list[MessageQueue], members: list[str]) -> None:
    strategy = COMPLETE[name]()
    shares = [strategy.allocate(member, queues, members) for member in members]
    assert sorted(queue for share in shares for queue in share) == queues


@pytest.mark.parametrize("make", [AllocateAveragely, AllocateAveragelyByCircle])
@given(queues=queue_lists, members=member_lists)
def test_averaging_shares_differ_by_one_at_most(
    make: Callable[[], AllocateStrategy], queues: list[MessageQueue], members: list[str]
) -> None:
    sizes = [len(make().allocate(member, queues, members)) for member in members]
    assert max(sizes) - min(sizes) <= 1


@given(queues=queue_lists, members=member_lists, newcomer=st.sampled_from(ROOMS).map("{}@new".format))
def test_a_newcomer_only_takes_from_others_on_the_ring(queues: list[MessageQueue], members: list[str], newcomer: str) -> None:
    strategy = AllocateConsistentHash()
    more = sort_client_ids([*members, newcomer])
    taken = set(strategy.allocate(newcomer, queues, more))
    for member in members:
        before = strategy.allocate(member, queues, members)
        assert strategy.allocate(member, queues, more) == [queue for queue in before if queue not in taken]


@pytest.mark.parametrize("name", COMPLETE)
def test_a_stranger_gets_nothing(name: str) -> None:
    queues = [MessageQueue("T", "north@a", 0)]
    assert COMPLETE[name]().allocate("north@9", queues, ["north@1"]) == []


@pytest.mark.parametrize("name", COMPLETE)
@pytest.mark.parametrize("missing", ["id", "queues", "members"])
def test_missing_arguments_are_refused(name: str, missing: str) -> None:
    client_id = "" if missing == "id" else "north@1"
    queues = [] if missing == "queues" else [MessageQueue("T", "north@a", 0)]
    members = [] if missing == "members" else ["north@1"]
    with pytest.raises(ConfigError):
        COMPLETE[name]().allocate(client_id, queues, members)


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_left_alone(name: str) -> None:
    queues = [MessageQueue("T", "north@a", i) for i in range(4)]
    share = ALL[name]().allocate("north@1", queues, ("north@1",))
    share.clear()
    assert len(queues) == 4


def test_a_queue_without_a_room_is_refused() -> None:
    strategy = AllocateMachineRoomNearby(AllocateAveragely(), lambda queue: "", room_of_consumer)
    with pytest.raises(ConfigError, match="room"):
        strategy.allocate("north@1", [MessageQueue("T", "a", 0)], ["north@1"])


def test_a_member_without_a_room_is_refused() -> None:
    strategy = AllocateMachineRoomNearby(AllocateAveragely(), room_of_broker, lambda client_id: "")
    with pytest.raises(ConfigError, match="room"):
        strategy.allocate("north@1", [MessageQueue("T", "north@a", 0)], ["north@1"])


@pytest.mark.parametrize(
    ("broker_name", "inside"),
    [("north@a", True), ("north@a@", True), ("north", False), ("north@", False), ("north@a@b", False), ("@a", False)],
)
def test_brokers_tell_their_room_by_their_name(broker_name: str, inside: bool) -> None:
    queues = [MessageQueue("T", broker_name, 0)]
    assert bool(AllocateByMachineRoom(["north"]).allocate("c", queues, ["c"])) is inside


def test_negative_virtual_nodes_are_refused() -> None:
    with pytest.raises(ConfigError):
        AllocateConsistentHash(-1)


def test_points_that_collide_belong_to_the_later_member() -> None:
    strategy = AllocateConsistentHash(1, hash_function=lambda text: 7)
    queues = [MessageQueue("T", "b", 0)]
    assert strategy.allocate("a", queues, ["a", "b"]) == []
    assert strategy.allocate("b", queues, ["a", "b"]) == queues
