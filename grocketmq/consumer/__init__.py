"""Getting messages."""

from __future__ import annotations

from grocketmq.consumer.allocate import (
    AllocateAveragely,
    AllocateAveragelyByCircle,
    AllocateByConfig,
    AllocateByMachineRoom,
    AllocateConsistentHash,
    AllocateMachineRoomNearby,
    AllocateStrategy,
)
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import ConsumeContext
from grocketmq.consumer.offset_store import OffsetStore, RemoteBrokerOffsetStore
from grocketmq.consumer.push import PushConsumer
from grocketmq.consumer.stats import ConsumerStats

__all__ = [
    "AllocateAveragely",
    "AllocateAveragelyByCircle",
    "AllocateByConfig",
    "AllocateByMachineRoom",
    "AllocateConsistentHash",
    "AllocateMachineRoomNearby",
    "AllocateStrategy",
    "ConsumeContext",
    "ConsumerStats",
    "OffsetStore",
    "PushConsumer",
    "PushConsumerConfig",
    "RemoteBrokerOffsetStore",
]
