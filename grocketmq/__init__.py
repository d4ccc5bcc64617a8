"""grocketmq: Apache RocketMQ for gevent, in pure Python.

Reading order: ``model`` (the values), ``wire.framing`` (bytes), ``runtime.tasks`` (greenlets), ``remoting.connection``
(sockets), ``client.instance`` (what clients share), ``producer.producer``, ``consumer.push``.
"""

from __future__ import annotations

import logging

from grocketmq.client.config import ClientConfig, Credentials
from grocketmq.client.leaving import shutdown_all, shutdown_at_exit
from grocketmq.client.manager import MQClientManager
from grocketmq.consumer import (
    AllocateAveragely,
    AllocateAveragelyByCircle,
    AllocateByConfig,
    AllocateByMachineRoom,
    AllocateConsistentHash,
    AllocateMachineRoomNearby,
    ConsumeContext,
    LitePullConsumer,
    LocalFileOffsetStore,
    OrderlyContext,
    PullConsumer,
    PushConsumer,
    RemoteBrokerOffsetStore,
    SimpleConsumer,
)
from grocketmq.errors import *  # noqa: F403
from grocketmq.errors import __all__ as _error_names
from grocketmq.hooks import ConsumeMessageContext, FilterMessageContext, SendMessageContext, SendMode, SendTryContext
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.results import (
    ConsumeOrderlyStatus,
    ConsumeResult,
    ConsumeStatus,
    LocalTransactionState,
    PullResult,
    PullStatus,
    SendResult,
    SendStatus,
    TransactionSendResult,
)
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel, Sql
from grocketmq.producer import (
    AutoBatch,
    Backpressure,
    Producer,
    TransactionProducer,
    create_reply,
    select_queue_by_hash,
    select_queue_by_java_hash,
    select_queue_by_random,
    split_batch,
)
from grocketmq.remoting.tls import TLSConfig
from grocketmq.runtime.bridge import ThreadBridge

__version__ = "0.1.0"

__all__ = [
    *_error_names,
    "AllocateAveragely",
    "AllocateAveragelyByCircle",
    "AllocateByConfig",
    "AllocateByMachineRoom",
    "AllocateConsistentHash",
    "AllocateMachineRoomNearby",
    "AutoBatch",
    "Backpressure",
    "ClientConfig",
    "ConsumeContext",
    "ConsumeFromWhere",
    "ConsumeMessageContext",
    "ConsumeOrderlyStatus",
    "ConsumeResult",
    "ConsumeStatus",
    "Credentials",
    "FilterMessageContext",
    "LitePullConsumer",
    "LocalFileOffsetStore",
    "LocalTransactionState",
    "MQClientManager",
    "Message",
    "MessageExt",
    "MessageModel",
    "MessageQueue",
    "OrderlyContext",
    "Producer",
    "PullConsumer",
    "PullResult",
    "PullStatus",
    "PushConsumer",
    "RemoteBrokerOffsetStore",
    "SendMessageContext",
    "SendMode",
    "SendResult",
    "SendStatus",
    "SendTryContext",
    "SimpleConsumer",
    "Sql",
    "TLSConfig",
    "ThreadBridge",
    "TransactionProducer",
    "TransactionSendResult",
    "__version__",
    "create_reply",
    "select_queue_by_hash",
    "select_queue_by_java_hash",
    "select_queue_by_random",
    "shutdown_all",
    "shutdown_at_exit",
    "split_batch",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
