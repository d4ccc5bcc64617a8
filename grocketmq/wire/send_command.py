"""A send: the request and its answer.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``SendMessageRequestHeaderV2``, ``SendMessageResponseHeader``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from grocketmq.codes import RequestCode
from grocketmq.errors import RemoteProtocolError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.request_template import PreparedCommand, RequestTemplate

__all__ = ["SendAnswer", "SendCommand", "SendTemplate", "read_send_answer"]

_DEFAULT_REGION = "DefaultRegion"


class SendTemplate(RequestTemplate):
    """What all sends of one producer group to one topic and broker have in common.

    :param code: ``SEND_MESSAGE_V2``, ``SEND_BATCH_MESSAGE`` or ``SEND_REPLY_MESSAGE_V2``.
    :param fields: the constant header fields by V2's short names; e, f, g, h, i and j vary and are not among them.
    """

    __slots__ = ()

    def __init__(self, code: RequestCode, fields: Mapping[str, str | None]) -> None:
        super().__init__(code, fields, ("e", "f", "g", "h", "j"), "i")


class SendCommand(PreparedCommand):
    """One send.

    :param template: the constant part.
    :param queue_id: the broker's queue, -1 for any.
    :param sys_flag: bits of ``MessageSysFlag``.
    :param born_timestamp: ms since the epoch.
    :param message_flag: the sender's own number.
    :param properties: the property text.
    :param reconsume_times: how often a message that goes to a retry topic was consumed before.
    :param body: the (compressed) payload.
    """

    __slots__ = ()

    def __init__(
        self,
        template: SendTemplate,
        queue_id: int,
        sys_flag: int,
        born_timestamp: int,
        message_flag: int,
        properties: str,
        reconsume_times: int,
        body: bytes,
    ) -> None:
        values = (queue_id, sys_flag, born_timestamp, message_flag, reconsume_times, properties)
        super().__init__(template, values, body)


class SendAnswer(NamedTuple):
    """What a broker says of a stored message; the fast twin of ``SendMessageResponseHeader``."""

    msg_id: str
    queue_id: int
    queue_offset: int
    transaction_id: str | None
    recall_handle: str | None
    region_id: str


def read_send_answer(answer: RemotingCommand) -> SendAnswer:
    """Read the answer to a send; never blocks.

    :param answer: an answer with a code that means stored.
    :raises RemoteProtocolError: when a field is missing or is no number.
    """
    ext = answer.ext_fields or {}
    try:
        return SendAnswer(
            ext["msgId"] or "",
            int(ext["queueId"] or ""),
            int(ext["queueOffset"] or ""),
            ext.get("transactionId"),
            ext.get("recallHandle"),
            ext.get("MSG_REGION") or _DEFAULT_REGION,
        )
    except (KeyError, ValueError) as error:
        raise RemoteProtocolError(f"answer to a send lacks a field or has a wrong one: {error!r}") from error
