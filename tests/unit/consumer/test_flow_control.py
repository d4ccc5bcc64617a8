"""The bounds over all queues, few or many."""

from __future__ import annotations

import pytest

from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue


def filled(count: int, start: int = 0) -> ProcessQueue:
    held = ProcessQueue(0.0)
    held.put([MessageExt("T", bytes(1024), queue_offset=start + offset) for offset in range(count)])
    return held


@pytest.mark.parametrize("settings", [{"max_cached_messages": 9}, {"max_cached_mib": 1}])
def test_of_few_queues_the_sums_are_those_of_the_moment(settings: dict[str, int]) -> None:
    each = 3 if "max_cached_messages" in settings else 400
    queues = {MessageQueue("T", "a", number): filled(each) for number in range(3)}
    flow = FlowControl(PushConsumerConfig(**settings), queues)
    first = queues[MessageQueue("T", "a", 0)]
    held_back = flow.holds_back(first)
    assert held_back is (each == 400)
    first.put([MessageExt("T", b"x", queue_offset=1000)])
    assert flow.holds_back(first)
    queues.clear()
    assert not flow.holds_back(first)


def test_of_many_queues_the_sums_follow_soon() -> None:
    queues = {MessageQueue("T", "a", number): filled(1) for number in range(1000)}
    flow = FlowControl(PushConsumerConfig(max_cached_messages=999), queues)
    first = queues[MessageQueue("T", "a", 0)]
    assert [flow.holds_back(first) for _ in range(40)][-1]
    first.remove([MessageExt("T", b"", queue_offset=0)])
    assert not [flow.holds_back(first) for _ in range(40)][-1]


def test_asking_costs_the_same_for_many_queues() -> None:
    class Counted(ProcessQueue):
        looks = 0

        @property
        def count(self) -> int:
            Counted.looks += 1
            return 1

    queues: dict[MessageQueue, ProcessQueue] = {MessageQueue("T", "a", number): Counted(0.0) for number in range(10_000)}
    flow = FlowControl(PushConsumerConfig(max_cached_messages=5), queues)
    flow.holds_back(ProcessQueue(0.0))
    flow.holds_back(ProcessQueue(0.0))
    assert Counted.looks <= 200
