"""Sending messages."""

from __future__ import annotations

from grocketmq.producer.config import AutoBatch, Backpressure, ProducerConfig
from grocketmq.producer.producer import Producer
from grocketmq.producer.requests import create_reply
from grocketmq.producer.selector import (
    select_queue_by_hash,
    select_queue_by_java_hash,
    select_queue_by_random,
)
from grocketmq.producer.split import split_batch
from grocketmq.producer.transaction import TransactionProducer

__all__ = [
    "AutoBatch",
    "Backpressure",
    "Producer",
    "ProducerConfig",
    "TransactionProducer",
    "create_reply",
    "select_queue_by_hash",
    "select_queue_by_java_hash",
    "select_queue_by_random",
    "split_batch",
]
