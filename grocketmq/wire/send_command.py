"""A send: the request and its answer.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``SendMessageRequestHeaderV2``, ``SendMessageResponseHeader``.
"""

from __future__ import annotations

from collections.abc import Mapping

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.errors import RemoteProtocolError, broker_error
from grocketmq.model.results import SendResult, SendStatus
from grocketmq.model.route import MessageQueue
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.request_template import PreparedCommand, RequestTemplate

__all__ = ["SendTemplate", "read_send_answer", "send_fields"]

_DEFAULT_REGION = "DefaultRegion"

_STORED = {
    ResponseCode.SUCCESS: SendStatus.SEND_OK,
    ResponseCode.FLUSH_DISK_TIMEOUT: SendStatus.FLUSH_DISK_TIMEOUT,
    ResponseCode.FLUSH_SLAVE_TIMEOUT: SendStatus.FLUSH_SLAVE_TIMEOUT,
    ResponseCode.SLAVE_NOT_AVAILABLE: SendStatus.SLAVE_NOT_AVAILABLE,
}


class SendTemplate(RequestTemplate):
    """What all sends of one producer group to one topic and broker have in common.

    :param code: ``SEND_MESSAGE_V2``, ``SEND_BATCH_MESSAGE`` or ``SEND_REPLY_MESSAGE_V2``.
    :param fields: the constant header fields by V2's short names; e, f, g, h, i and j vary and are not among them.
    """

    __slots__ = ()

    def __init__(self, code: RequestCode, fields: Mapping[str, str | None]) -> None:
        super().__init__(code, fields, ("e", "f", "g", "h", "j"), "i")

    def command(
        self,
        queue_id: int,
        sys_flag: int,
        born_timestamp: int,
        message_flag: int,
        properties: str,
        reconsume_times: int,
        body: bytes,
    ) -> PreparedCommand:
        """One send; never blocks.

        :param queue_id: the broker's queue, -1 for any.
        :param sys_flag: bits of ``MessageSysFlag``.
        :param born_timestamp: ms since the epoch.
        :param message_flag: the sender's own number.
        :param properties: the property text.
        :param reconsume_times: how often a message that goes to a retry topic was consumed before.
        :param body: the (compressed) payload.
        """
        return PreparedCommand(self, (queue_id, sys_flag, born_timestamp, message_flag, reconsume_times), properties, body)


def send_fields(
    group: str,
    topic: str,
    broker_name: str,
    *,
    default_topic: str,
    queue_nums: int,
    unit_mode: bool = False,
    batch: bool = False,
    max_reconsume_times: int | None = None,
) -> dict[str, str | None]:
    """The fields of a template, by V2's short names; never blocks.

    :param group: the producer's group.
    :param topic: where the messages go.
    :param broker_name: the broker they go to.
    :param default_topic: the topic whose settings it gets if the broker has to create it.
    :param queue_nums: how many queues it gets then.
    :param unit_mode: whether the client belongs to a unit.
    :param batch: whether the body is a batch.
    :param max_reconsume_times: of a message to a retry topic, how often it may be consumed.
    """
    return {
        "a": group,
        "b": topic,
        "c": default_topic,
        "d": str(queue_nums),
        "k": "true" if unit_mode else "false",
        "l": None if max_reconsume_times is None else str(max_reconsume_times),
        "m": "true" if batch else "false",
        "n": broker_name,
    }


def read_send_answer(answer: RemotingCommand, address: str, queue: MessageQueue, msg_id: str) -> SendResult:
    """Read the answer to a send, in place of the slower ``SendMessageResponseHeader``; never blocks.

    :param answer: the answer.
    :param address: who gave it.
    :param queue: where the message was sent; the broker chose the queue itself if that is -1.
    :param msg_id: the id the client gave the message.
    :raises BrokerError: when the answer does not mean stored.
    :raises RemoteProtocolError: when a field is missing or is no number.
    """
    status = _STORED.get(answer.code)  # type: ignore[call-overload]
    if status is None:
        raise broker_error(answer.code, answer.remark, address)
    ext = answer.ext_fields or {}
    try:
        queue_id = int(ext["queueId"] or "")
        if queue_id != queue.queue_id:
            queue = MessageQueue(queue.topic, queue.broker_name, queue_id)
        return SendResult(
            status,
            msg_id,
            ext["msgId"] or "",
            queue,
            int(ext["queueOffset"] or ""),
            ext.get("transactionId"),
            ext.get("MSG_REGION") or _DEFAULT_REGION,
            ext.get("recallHandle"),
        )
    except (KeyError, ValueError) as error:
        raise RemoteProtocolError(f"answer to a send lacks a field or has a wrong one: {error!r}") from error
