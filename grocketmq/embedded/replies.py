"""Replies: pushed to the client that waits for them, and stored.

Source: Apache RocketMQ 5.3.3, module broker, class ``ReplyMessageProcessor``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import REGION
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.delay import Draft, Intake
from grocketmq.embedded.store import MessageStore
from grocketmq.errors import RemotingError
from grocketmq.model.message_id import encode_offset_msg_id, host_text
from grocketmq.model.properties import Property, decode_properties, encode_properties
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import headers
from grocketmq.wire.bodies import TopicConfig
from grocketmq.wire.command import RemotingCommand

__all__ = ["Replies"]

#: Seconds a client may take to answer a push.
_PUSH_TIMEOUT = 10.0

_Header = headers.SendMessageRequestHeader | headers.SendMessageRequestHeaderV2


class Replies:
    """Takes replies.

    :param store: the broker's messages.
    :param intake: stores messages.
    :param clients: who is there.
    :param topic_of: the topic of a send, which it creates or refuses.
    :param tasks: owns the greenlets that push: a reply may be for the client it comes from.
    :param now_ms: the clock, ms since the epoch.
    """

    def __init__(
        self,
        store: MessageStore,
        intake: Intake,
        clients: ClientTable,
        topic_of: Callable[[_Header], TopicConfig],
        tasks: TaskGroup,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._intake = intake
        self._clients = clients
        self._topic_of = topic_of
        self._tasks = tasks
        self._now_ms = now_ms

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.SEND_REPLY_MESSAGE: self._reply_v1, RequestCode.SEND_REPLY_MESSAGE_V2: self._reply_v2}

    def _reply_v1(self, request: RemotingCommand, channel: Channel) -> None:
        self._reply(headers.SendMessageRequestHeader.parse(request.ext_fields), request, channel)

    def _reply_v2(self, request: RemotingCommand, channel: Channel) -> None:
        self._reply(headers.SendMessageRequestHeaderV2.parse(request.ext_fields), request, channel)

    def _reply(self, header: _Header, request: RemotingCommand, channel: Channel) -> None:
        try:
            config = self._topic_of(header)
        except Refused as refused:
            refused.ext_fields = _fields()
            raise
        queue_id = header.queue_id if header.queue_id >= 0 else random.randrange(config.write_queue_nums)
        self._tasks.spawn(f"push a reply of {channel.address}", self._push_and_store, header, queue_id, request, channel)

    def _push_and_store(self, header: _Header, queue_id: int, request: RemotingCommand, channel: Channel) -> None:
        properties = decode_properties(header.properties or "")
        properties.update({Property.MSG_REGION: REGION, Property.TRACE_SWITCH: "true"})
        remark = self._push(header, dict(properties), request.body, channel)
        draft = Draft(
            header.topic,
            queue_id,
            request.body or b"",
            properties,
            0,  # as a real broker stores it, packed or not
            header.flag,
            header.born_timestamp,
            channel.peer,
            header.reconsume_times or 0,
        )
        stored = self._intake.put_plain(draft)
        if not request.is_oneway:
            fields = _fields(
                msgId=encode_offset_msg_id(*self._store.store_host, stored.commit_log_offset),
                queueId=str(queue_id),
                queueOffset=str(stored.queue_offset),
            )
            code = ResponseCode.SUCCESS if remark is None else ResponseCode.SYSTEM_ERROR
            channel.reply(RemotingCommand.response_to(request, code, remark, fields))

    def _push(self, header: _Header, properties: dict[str, str], body: bytes | None, channel: Channel) -> str | None:
        """Give a reply to the client that waits for it; blocks until that has answered.

        :returns: what went wrong, None for nothing.
        """
        client_id = properties.get(Property.REPLY_TO_CLIENT)
        if client_id is None:
            return f"reply message properties[{Property.REPLY_TO_CLIENT}] is null"
        waiting = self._clients.client_channels.get(client_id)
        if waiting is None:
            return f"push reply message fail, channel of <{client_id}> not found."
        properties[Property.PUSH_REPLY_TIME] = str(self._now_ms())
        push = headers.ReplyMessageRequestHeader(
            producer_group=header.producer_group,
            topic=header.topic,
            default_topic=header.default_topic,
            default_topic_queue_nums=header.default_topic_queue_nums,
            queue_id=header.queue_id,
            sys_flag=header.sys_flag,
            born_timestamp=header.born_timestamp,
            flag=header.flag,
            properties=encode_properties(properties),
            reconsume_times=header.reconsume_times or 0,
            unit_mode=bool(header.unit_mode),
            born_host=host_text(*channel.peer),
            store_host=host_text(*self._store.store_host),
            store_timestamp=self._now_ms(),
        )
        try:
            answer = waiting.call(RemotingCommand(push.CODE, ext_fields=push.to_ext(), body=body), _PUSH_TIMEOUT)
        except RemotingError:
            answer = None
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return f"push reply message to {client_id}fail."
        return None


def _fields(**more: str | None) -> dict[str, str | None]:
    return {"MSG_REGION": REGION, "TRACE_ON": "true", **more}
