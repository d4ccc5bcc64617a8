"""What calls give back.

Source: Apache RocketMQ 5.3.3, module client, classes ``SendResult``, ``SendStatus``, ``PullResult``, ``PullStatus``,
``ConsumeConcurrentlyStatus``, ``ConsumeOrderlyStatus``, ``LocalTransactionState``, ``TransactionSendResult``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue

__all__ = [
    "ConsumeOrderlyStatus",
    "ConsumeResult",
    "ConsumeStatus",
    "LocalTransactionState",
    "PullResult",
    "PullStatus",
    "SendResult",
    "SendStatus",
    "TransactionSendResult",
]


class SendStatus(Enum):
    """How a broker stored a message; each of them means stored."""

    SEND_OK = "SEND_OK"
    FLUSH_DISK_TIMEOUT = "FLUSH_DISK_TIMEOUT"
    FLUSH_SLAVE_TIMEOUT = "FLUSH_SLAVE_TIMEOUT"
    SLAVE_NOT_AVAILABLE = "SLAVE_NOT_AVAILABLE"


@dataclass(slots=True)
class SendResult:
    """A stored message, or a stored batch.

    :param status: how it was stored.
    :param msg_id: the id the client gave it; of a batch, all ids joined by commas.
    :param offset_msg_id: the id that says where it is stored; of a batch, all joined by commas.
    :param message_queue: the queue it went to.
    :param queue_offset: its place in that queue; of a batch, the first message's.
    :param transaction_id: the transaction's id; of a normal message, what the broker says, which is its own id.
    :param region_id: the broker's region.
    :param recall_handle: by which a timer message can be recalled; None for others.
    """

    status: SendStatus
    msg_id: str
    offset_msg_id: str
    message_queue: MessageQueue
    queue_offset: int
    transaction_id: str | None = None
    region_id: str = "DefaultRegion"
    recall_handle: str | None = None


class LocalTransactionState(Enum):
    """How the local part of a transaction ended."""

    COMMIT = "COMMIT_MESSAGE"
    ROLLBACK = "ROLLBACK_MESSAGE"
    UNKNOWN = "UNKNOW"


@dataclass(slots=True)
class TransactionSendResult(SendResult):
    """A half message that was stored, and how its local transaction ended.

    :param local_transaction_state: what the broker was told; after UNKNOWN it will ask.
    :param exception: what the local transaction raised; None when it returned.
    """

    local_transaction_state: LocalTransactionState = LocalTransactionState.UNKNOWN
    exception: Exception | None = None


class PullStatus(Enum):
    """What a pull found."""

    FOUND = "FOUND"
    NO_NEW_MSG = "NO_NEW_MSG"
    NO_MATCHED_MSG = "NO_MATCHED_MSG"
    OFFSET_ILLEGAL = "OFFSET_ILLEGAL"


@dataclass(slots=True)
class PullResult:
    """The answer to one pull.

    :param status: what the pull found.
    :param messages: the messages, by queue offset; empty unless ``FOUND``.
    :param next_begin_offset: where the next pull should begin.
    :param min_offset: the queue's first offset.
    :param max_offset: one past the queue's last offset.
    """

    status: PullStatus
    messages: list[MessageExt] = field(default_factory=list)
    next_begin_offset: int = 0
    min_offset: int = 0
    max_offset: int = 0


class ConsumeStatus(Enum):
    """What a concurrent listener says about the messages it was given."""

    SUCCESS = "CONSUME_SUCCESS"
    RECONSUME_LATER = "RECONSUME_LATER"


class ConsumeOrderlyStatus(Enum):
    """What an orderly listener says about the messages it was given."""

    SUCCESS = "SUCCESS"
    ROLLBACK = "ROLLBACK"
    COMMIT = "COMMIT"
    SUSPEND_CURRENT_QUEUE_A_MOMENT = "SUSPEND_CURRENT_QUEUE_A_MOMENT"


@dataclass(frozen=True)
class ConsumeResult:
    """A concurrent listener's answer with detail.

    :param status: as the bare status.
    :param ack_index: index of the last message that was consumed; those after it are sent back.  None means all; -1 none.
    """

    status: ConsumeStatus
    ack_index: int | None = None
