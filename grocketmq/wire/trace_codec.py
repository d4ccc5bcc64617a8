"""Message traces: what producers and consumers tell about messages, as text in the body of a message to the trace topic.

A record ends with 0x02, its fields are separated by 0x01, a field without a value is the word ``null``.  The first is the type:

* ``Pub``: time, region, group, topic, id, tags, keys, store host, body length, cost, message type, offset id, success
* ``SubBefore``, a record a message: time, region, group, request id, id, reconsume times, keys
* ``SubAfter``, a record a message: request id, id, cost, success, keys, context code, time, group (the two not in the cloud)
* ``EndTransaction``: time, region, group, topic, id, tags, keys, store host, message type, transaction id, state, from check
* ``Recall``: time, region, group, topic, id, success

Older clients write fewer fields, some newer ones the client's host after a ``Pub``.

Source: Apache RocketMQ 5.3.3, module client, classes ``TraceDataEncoder``, ``TraceContext``, ``TraceBean``; module common,
class ``MessageType``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.model.results import LocalTransactionState
from grocketmq.wire.numbers import read_integer

__all__ = [
    "CLOUD",
    "LOCAL",
    "TraceBean",
    "TraceContext",
    "TraceMessageType",
    "TraceType",
    "decode_trace",
    "encode_trace",
    "trace_keys",
]

_FIELD_END = "\x01"
_RECORD_END = "\x02"
_KEY_SEPARATOR = " "

#: Access channels: an own cluster, and the cloud service, which takes less in a ``SubAfter``.
LOCAL = "LOCAL"
CLOUD = "CLOUD"


class TraceType(Enum):
    """What a record tells of."""

    PUB = "Pub"
    RECALL = "Recall"
    SUB_BEFORE = "SubBefore"
    SUB_AFTER = "SubAfter"
    END_TRANSACTION = "EndTransaction"


class TraceMessageType(Enum):
    """What kind of message was sent; the order is the number that travels."""

    NORMAL = "Normal_Msg"
    TRANSACTION_HALF = "Trans_Msg_Half"
    TRANSACTION_COMMIT = "Trans_msg_Commit"
    DELAY = "Delay_Msg"
    ORDER = "Order_Msg"


_MESSAGE_TYPES = tuple(TraceMessageType)


@dataclass(slots=True)
class TraceBean:
    """What is told about one message; which fields travel depends on the record's type.

    :param topic: the message's topic.
    :param msg_id: its unique id.
    :param offset_msg_id: its offset id.
    :param tags: its tag.
    :param keys: its keys, separated by spaces.
    :param store_host: the broker's ``host:port``.
    :param client_host: the sender's host, which some versions tell.
    :param retry_times: how often it was consumed before.
    :param body_length: bytes of the body.
    :param msg_type: its kind.
    :param transaction_id: its transaction.
    :param transaction_state: how the transaction ended.
    :param from_transaction_check: whether the broker had to ask.
    """

    topic: str | None = ""
    msg_id: str | None = ""
    offset_msg_id: str | None = ""
    tags: str | None = ""
    keys: str | None = ""
    store_host: str | None = ""
    client_host: str | None = ""
    retry_times: int = 0
    body_length: int = 0
    msg_type: TraceMessageType | None = None
    transaction_id: str | None = None
    transaction_state: LocalTransactionState | None = None
    from_transaction_check: bool = False


@dataclass(slots=True)
class TraceContext:
    """One event: a send, a recall, the begin or the end of a listener call, the end of a transaction.

    :param trace_type: which of them.
    :param timestamp: when, ms since the epoch; 0 where the record does not say.
    :param region_id: the broker's region.
    :param group: the producer or consumer group.
    :param cost_time: how long it took, ms; of a listener call the mean for one message.
    :param success: whether it went well.
    :param request_id: joins the begin and the end of one listener call.
    :param context_code: how a listener call ended, as the ordinal of Java's ``ConsumeReturnType``.
    :param access_channel: ``LOCAL`` or ``CLOUD``; it does not travel.
    :param beans: the messages; only listener calls have more than one, and each of theirs is decoded to a context of its own.
    """

    trace_type: TraceType
    timestamp: int = 0
    region_id: str | None = ""
    group: str | None = ""
    cost_time: int = 0
    success: bool = True
    request_id: str | None = None
    context_code: int = 0
    access_channel: str | None = LOCAL
    beans: list[TraceBean] = field(default_factory=list)


def encode_trace(context: TraceContext) -> str:
    """Write one event; never blocks.

    :param context: the event with its messages.
    :returns: a record, or one for each message of a listener call.
    :raises LocalProtocolError: when there is no message, or a field that must have a value has none.
    """
    if not context.beans:
        raise LocalProtocolError(f"trace {context.trace_type.value}: there is no message in it")
    write = _WRITERS[context.trace_type]
    beans = context.beans if context.trace_type in _RECORD_A_MESSAGE else context.beans[:1]
    return "".join(
        [_FIELD_END.join([context.trace_type.value, *map(_word, write(context, bean))]) + _RECORD_END for bean in beans]
    )


def trace_keys(contexts: Iterable[TraceContext]) -> set[str]:
    """The keys by which operators find the trace message: ids and keys of all messages in it.

    :param contexts: the events that go into one trace message.
    """
    keys: set[str] = set()
    for context in contexts:
        for bean in context.beans:
            keys.update([bean.msg_id or "", *(bean.keys or "").split(_KEY_SEPARATOR)])
    keys.discard("")
    return keys


def decode_trace(text: str) -> list[TraceContext]:
    """Read the records of a trace message; never blocks.

    A record of an unknown type is left out.  What a record does not hold has its default; a text that was None comes back as
    ``null``.

    :param text: the body of a trace message.
    :returns: a context for each record, in order.
    :raises RemoteProtocolError: when a record lacks a field, or a field does not hold what it should.
    """
    contexts = []
    for record in text.split(_RECORD_END):
        # As Java splits, empty fields at the end do not count.
        fields = record.rstrip(_FIELD_END).split(_FIELD_END)
        read = _READERS.get(fields[0])
        if read is not None:
            contexts.append(read(_Fields(fields)))
    return contexts


_Value = str | int | bool | None


def _word(value: _Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(int(value))  # Python 3.10: str(member) tells its name


def _write_pub(context: TraceContext, bean: TraceBean) -> list[_Value]:
    head = [context.timestamp, context.region_id, context.group, bean.topic, bean.msg_id, bean.tags, bean.keys]
    measures = [bean.store_host, bean.body_length, context.cost_time, _ordinal(bean)]
    return [*head, *measures, bean.offset_msg_id, context.success]


def _write_sub_before(context: TraceContext, bean: TraceBean) -> list[_Value]:
    head = [context.timestamp, context.region_id, context.group, context.request_id]
    return [*head, bean.msg_id, bean.retry_times, bean.keys]


def _write_sub_after(context: TraceContext, bean: TraceBean) -> list[_Value]:
    head = [context.request_id, bean.msg_id, context.cost_time, context.success, bean.keys, context.context_code]
    return [*head, ""] if context.access_channel == CLOUD else [*head, context.timestamp, context.group]


def _write_end_transaction(context: TraceContext, bean: TraceBean) -> list[_Value]:
    if bean.transaction_state is None:
        raise LocalProtocolError("trace EndTransaction: the transaction has no state")
    head = [context.timestamp, context.region_id, context.group, bean.topic, bean.msg_id, bean.tags, bean.keys]
    state = [bean.transaction_id, bean.transaction_state.value, bean.from_transaction_check]
    return [*head, bean.store_host, _ordinal(bean), *state]


def _write_recall(context: TraceContext, bean: TraceBean) -> list[_Value]:
    return [context.timestamp, context.region_id, context.group, bean.topic, bean.msg_id, context.success]


def _ordinal(bean: TraceBean) -> int:
    if bean.msg_type is None:
        raise LocalProtocolError(f"trace of message {bean.msg_id}: it has no type")
    return _MESSAGE_TYPES.index(bean.msg_type)


_WRITERS: dict[TraceType, Callable[[TraceContext, TraceBean], list[_Value]]] = {
    TraceType.PUB: _write_pub,
    TraceType.RECALL: _write_recall,
    TraceType.SUB_BEFORE: _write_sub_before,
    TraceType.SUB_AFTER: _write_sub_after,
    TraceType.END_TRANSACTION: _write_end_transaction,
}
_RECORD_A_MESSAGE = (TraceType.SUB_BEFORE, TraceType.SUB_AFTER)


class _Fields:
    """One record's fields, the type at 0."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, at: int) -> str:
        if at >= len(self._fields):
            raise RemoteProtocolError(f"trace record {self._fields[0]}: field {at} is missing")
        return self._fields[at]

    def number(self, at: int) -> int:
        number = read_integer(self.text(at))
        if number is None:
            self._fail(at, "a number")
        return number

    def flag(self, at: int) -> bool:
        return self.text(at).lower() == "true"

    def message_type(self, at: int) -> TraceMessageType:
        number = self.number(at)
        if not 0 <= number < len(_MESSAGE_TYPES):
            self._fail(at, "a message type")
        return _MESSAGE_TYPES[number]

    def transaction_state(self, at: int) -> LocalTransactionState:
        try:
            return LocalTransactionState(self.text(at))
        except ValueError:
            self._fail(at, "a transaction state")

    def _fail(self, at: int, wanted: str) -> NoReturn:
        raise RemoteProtocolError(f"trace record {self._fields[0]}: field {at} is {self._fields[at]!r:.80}, not {wanted}")


def _read_common(trace_type: TraceType, fields: _Fields) -> TraceContext:
    return TraceContext(trace_type, fields.number(1), fields.text(2), fields.text(3), access_channel=None)


def _read_pub(fields: _Fields) -> TraceContext:
    context = _read_common(TraceType.PUB, fields)
    bean = TraceBean(fields.text(4), fields.text(5), "", fields.text(6), fields.text(7), fields.text(8))
    bean.body_length = fields.number(9)
    context.cost_time = fields.number(10)
    bean.msg_type = fields.message_type(11)
    if len(fields) == 13:
        context.success = fields.flag(12)
    elif len(fields) > 13:
        bean.offset_msg_id = fields.text(12)
        context.success = fields.flag(13)
    if len(fields) > 14:
        bean.client_host = fields.text(14)
    context.beans.append(bean)
    return context


def _read_sub_before(fields: _Fields) -> TraceContext:
    context = _read_common(TraceType.SUB_BEFORE, fields)
    context.request_id = fields.text(4)
    context.beans.append(TraceBean(msg_id=fields.text(5), retry_times=fields.number(6), keys=fields.text(7)))
    return context


def _read_sub_after(fields: _Fields) -> TraceContext:
    context = TraceContext(TraceType.SUB_AFTER, request_id=fields.text(1), access_channel=None)
    context.cost_time = fields.number(3)
    context.success = fields.flag(4)
    context.beans.append(TraceBean(msg_id=fields.text(2), keys=fields.text(5)))
    if len(fields) >= 7:
        context.context_code = fields.number(6)
    if len(fields) >= 9:
        context.timestamp = fields.number(7)
        context.group = fields.text(8)
    return context


def _read_end_transaction(fields: _Fields) -> TraceContext:
    context = _read_common(TraceType.END_TRANSACTION, fields)
    bean = TraceBean(fields.text(4), fields.text(5), "", fields.text(6), fields.text(7), fields.text(8))
    bean.msg_type = fields.message_type(9)
    bean.transaction_id = fields.text(10)
    bean.transaction_state = fields.transaction_state(11)
    bean.from_transaction_check = fields.flag(12)
    context.beans.append(bean)
    return context


def _read_recall(fields: _Fields) -> TraceContext:
    context = _read_common(TraceType.RECALL, fields)
    context.success = fields.flag(6)
    context.beans.append(TraceBean(fields.text(4), fields.text(5)))
    return context


_READERS: dict[str, Callable[[_Fields], TraceContext]] = {
    TraceType.PUB.value: _read_pub,
    TraceType.RECALL.value: _read_recall,
    TraceType.SUB_BEFORE.value: _read_sub_before,
    TraceType.SUB_AFTER.value: _read_sub_after,
    TraceType.END_TRANSACTION.value: _read_end_transaction,
}
