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
from grocketmq.consumer.config import LitePullConsumerConfig, PushConsumerConfig, SimpleConsumerConfig
from grocketmq.consumer.listener import ConsumeContext, OrderlyContext
from grocketmq.consumer.lite_pull import LitePullConsumer
from grocketmq.consumer.local_offset_store import LocalFileOffsetStore
from grocketmq.consumer.offset_store import OffsetStore, RemoteBrokerOffsetStore
from grocketmq.consumer.pull import PullConsumer
from grocketmq.consumer.push import PushConsumer
from grocketmq.consumer.simple import SimpleConsumer
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
    "LitePullConsumer",
    "LitePullConsumerConfig",
    "LocalFileOffsetStore",
    "OffsetStore",
    "OrderlyContext",
    "PullConsumer",
    "PushConsumer",
    "PushConsumerConfig",
    "RemoteBrokerOffsetStore",
    "SimpleConsumer",
    "SimpleConsumerConfig",
]
