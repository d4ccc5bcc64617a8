"""Sending, sending back, transactions, replies, recall.

Source: Apache RocketMQ 5.3.3, module remoting, package ``protocol.header``, classes of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from grocketmq.codes import RequestCode
from grocketmq.errors import RemoteProtocolError
from grocketmq.wire.headers.base import CommandHeader, RpcRequestHeader, TopicRequestHeader

__all__ = [
    "CheckTransactionStateRequestHeader",
    "CheckTransactionStateResponseHeader",
    "ConsumerSendMsgBackRequestHeader",
    "EndTransactionRequestHeader",
    "EndTransactionResponseHeader",
    "RecallMessageRequestHeader",
    "RecallMessageResponseHeader",
    "ReplyMessageRequestHeader",
    "SendMessageRequestHeader",
    "SendMessageRequestHeaderV2",
    "SendMessageResponseHeader",
]

#: ``commitOrRollback``: unknown, commit, rollback (``MessageSysFlag.TRANSACTION_*_TYPE``).
_TRANSACTION_ENDS = (0, 8, 12)

#: The names of ``SendMessageRequestHeaderV2``.
_LETTERS = {
    "producer_group": "a",
    "topic": "b",
    "default_topic": "c",
    "default_topic_queue_nums": "d",
    "queue_id": "e",
    "sys_flag": "f",
    "born_timestamp": "g",
    "flag": "h",
    "properties": "i",
    "reconsume_times": "j",
    "unit_mode": "k",
    "max_reconsume_times": "l",
    "batch": "m",
    "broker_name": "n",
}


@dataclass(slots=True, kw_only=True)
class _SendFields(TopicRequestHeader):
    """What both forms of a send's header hold."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: int
    queue_id: int
    sys_flag: int
    born_timestamp: int
    flag: int
    properties: str | None = None
    reconsume_times: int | None = None
    unit_mode: bool | None = None
    max_reconsume_times: int | None = None
    batch: bool | None = None

    def _shared(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _LETTERS if name != "broker_name"}


@dataclass(slots=True, kw_only=True)
class SendMessageRequestHeader(_SendFields):
    """SEND_MESSAGE, client to broker, with long names.

    ============================  ========================================================================
    ``default_topic``             the topic whose settings a topic created on the fly inherits
    ``default_topic_queue_nums``  how many queues such a topic gets
    ``queue_id``                  the queue, -1 for any
    ``sys_flag``                  bits of ``MessageSysFlag``
    ``born_timestamp``            ms since the epoch
    ``flag``                      the sender's own number
    ``properties``                the property text
    ``reconsume_times``           times consumed before, of a message going to a retry topic
    ``max_reconsume_times``       the consumer's bound, for the same messages
    ``batch``                     whether the body holds many messages
    ============================  ========================================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.SEND_MESSAGE

    def to_v2(self) -> SendMessageRequestHeaderV2:
        """The same request with one-letter names, which is what Java sends; never blocks."""
        v2 = SendMessageRequestHeaderV2(**self._shared(), broker_name=self.bname)
        v2.reconsume_times = self.reconsume_times or 0
        v2.unit_mode = bool(self.unit_mode)
        v2.batch = bool(self.batch)
        return v2


@dataclass(slots=True, kw_only=True)
class SendMessageRequestHeaderV2(_SendFields):
    """SEND_MESSAGE_V2, SEND_BATCH_MESSAGE and SEND_REPLY_MESSAGE_V2, client to broker, with one-letter names.

    Only the lettered fields are read; the broker's name travels as ``n``, not as ``bname``.
    """

    CODE: ClassVar[RequestCode] = RequestCode.SEND_MESSAGE_V2
    _WIRE: ClassVar[Mapping[str, str]] = _LETTERS
    _UNREAD: ClassVar[frozenset[str]] = frozenset({"ns", "nsd", "bname", "oway", "lo"})

    broker_name: str | None = None

    def to_v1(self) -> SendMessageRequestHeader:
        """The same request with long names, as a broker reads it; never blocks."""
        return SendMessageRequestHeader(**self._shared(), bname=self.broker_name)


@dataclass(slots=True, kw_only=True)
class SendMessageResponseHeader(CommandHeader):
    """The broker's answer to a send, whichever of its codes was used.

    ====================  =============================================================
    ``msg_id``            the offset message id; a comma list for a batch
    ``batch_uniq_id``     the unique id of a batch the broker keeps as one record
    ``recall_handle``     what RECALL_MESSAGE needs, for timer messages only
    ====================  =============================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.SEND_MESSAGE_V2

    msg_id: str
    queue_id: int
    queue_offset: int
    transaction_id: str | None = None
    batch_uniq_id: str | None = None
    recall_handle: str | None = None


@dataclass(slots=True, kw_only=True)
class ConsumerSendMsgBackRequestHeader(RpcRequestHeader):
    """CONSUMER_SEND_MSG_BACK, client to broker.

    =======================  =======================================================================
    ``offset``               the message's commit log offset
    ``delay_level``          0: grows with the times consumed; -1: straight to the dead letters
    ``origin_msg_id``        the message's offset id
    =======================  =======================================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.CONSUMER_SEND_MSG_BACK

    offset: int
    group: str
    delay_level: int
    origin_msg_id: str | None = None
    origin_topic: str | None = None
    unit_mode: bool = False
    max_reconsume_times: int | None = None


@dataclass(slots=True, kw_only=True)
class EndTransactionRequestHeader(RpcRequestHeader):
    """END_TRANSACTION, client to broker, oneway.

    ===========================  ==============================================================
    ``tran_state_table_offset``  the half message's queue offset
    ``commit_log_offset``        its commit log offset
    ``commit_or_rollback``       8 commit, 12 rollback, 0 unknown
    ``from_transaction_check``   whether the broker had asked
    ``msg_id``                   its unique id
    ===========================  ==============================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.END_TRANSACTION

    topic: str | None = None
    producer_group: str
    tran_state_table_offset: int
    commit_log_offset: int
    commit_or_rollback: int
    from_transaction_check: bool | None = False
    msg_id: str
    transaction_id: str | None = None

    def _check(self) -> None:
        if self.commit_or_rollback not in _TRANSACTION_ENDS:
            raise RemoteProtocolError(f"EndTransactionRequestHeader: commitOrRollback is {self.commit_or_rollback}")


@dataclass(slots=True, kw_only=True)
class EndTransactionResponseHeader(CommandHeader):
    """The broker's answer to END_TRANSACTION, when the request was not oneway."""

    CODE: ClassVar[RequestCode] = RequestCode.END_TRANSACTION


@dataclass(slots=True, kw_only=True)
class CheckTransactionStateRequestHeader(RpcRequestHeader):
    """CHECK_TRANSACTION_STATE, broker to client, oneway; the body is the half message.

    ``topic`` is the broker's own topic of half messages; the real one stands in the body.
    """

    CODE: ClassVar[RequestCode] = RequestCode.CHECK_TRANSACTION_STATE

    topic: str | None = None
    tran_state_table_offset: int
    commit_log_offset: int
    msg_id: str | None = None
    transaction_id: str | None = None
    offset_msg_id: str | None = None


@dataclass(slots=True, kw_only=True)
class CheckTransactionStateResponseHeader(CommandHeader):
    """The answer to CHECK_TRANSACTION_STATE; nobody sends it, END_TRANSACTION is the answer."""

    CODE: ClassVar[RequestCode] = RequestCode.CHECK_TRANSACTION_STATE

    producer_group: str
    tran_state_table_offset: int
    commit_log_offset: int
    commit_or_rollback: int

    def _check(self) -> None:
        if self.commit_or_rollback not in _TRANSACTION_ENDS[1:]:
            raise RemoteProtocolError(f"CheckTransactionStateResponseHeader: commitOrRollback is {self.commit_or_rollback}")


@dataclass(slots=True, kw_only=True)
class ReplyMessageRequestHeader(TopicRequestHeader):
    """PUSH_REPLY_MESSAGE_TO_CLIENT, broker to client; the body is the reply's payload.

    ``born_host`` and ``store_host`` are ``ip:port``; the times are ms since the epoch.
    """

    CODE: ClassVar[RequestCode] = RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: int
    queue_id: int
    sys_flag: int
    born_timestamp: int
    flag: int
    properties: str | None = None
    reconsume_times: int | None = None
    unit_mode: bool = False
    born_host: str
    store_host: str
    store_timestamp: int


@dataclass(slots=True, kw_only=True)
class RecallMessageRequestHeader(TopicRequestHeader):
    """RECALL_MESSAGE, client to broker: take back a timer message."""

    CODE: ClassVar[RequestCode] = RequestCode.RECALL_MESSAGE

    producer_group: str | None = None
    topic: str
    recall_handle: str


@dataclass(slots=True, kw_only=True)
class RecallMessageResponseHeader(CommandHeader):
    """The broker's answer: the unique id of the message taken back."""

    CODE: ClassVar[RequestCode] = RequestCode.RECALL_MESSAGE

    msg_id: str
