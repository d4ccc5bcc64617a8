"""Raw calls to the embedded cluster, without any of the clients."""

from __future__ import annotations

import time
from typing import Any

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import encode_properties
from grocketmq.model.subscription import MessageModel, SubscriptionData, subscription
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import ConsumerData, ConsumeType, HeartbeatData, ProducerData
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import pull_sys_flag
from grocketmq.wire.headers.base import CommandHeader
from grocketmq.wire.message_codec import decode_messages

TOPIC = "topic"
GROUP = "group"


class RawClient:
    """One client's connections, with the few calls that many tests make.

    :param broker: the address that is meant where none is given.
    """

    def __init__(self, broker: str) -> None:
        self.broker = broker
        self.tasks = TaskGroup("raw client")
        self.remoting = RemotingClient(self.tasks)
        #: Groups of which the broker said that their members changed.
        self.notified: list[str | None] = []
        self.remoting.register_processor(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, self._notify)

    def _notify(self, request: RemotingCommand, address: str) -> None:
        self.notified.append((request.ext_fields or {}).get("consumerGroup"))

    def close(self) -> None:
        self.remoting.close(1.0)
        self.tasks.kill()

    def call(
        self, header: CommandHeader, body: bytes | None = None, *, code: int | None = None, at: str = "", **more: Any
    ) -> RemotingCommand:
        request = RemotingCommand(header.CODE if code is None else code, ext_fields=header.to_ext(), body=body, **more)
        return self.remoting.invoke(at or self.broker, request, 10.0)

    def send(
        self,
        body: bytes = b"body",
        *,
        topic: str = TOPIC,
        queue_id: int = 0,
        code: int = RequestCode.SEND_MESSAGE_V2,
        **properties: str,
    ) -> RemotingCommand:
        return self.call(send_header(topic, queue_id, **properties), body, code=code)

    def pull(
        self,
        offset: int = 0,
        *,
        topic: str = TOPIC,
        queue_id: int = 0,
        expression: str | None = "*",
        hold: float = 0.0,
        group: str = GROUP,
        **more: Any,
    ) -> RemotingCommand:
        return self.call(pull_header(offset, topic, queue_id, expression, hold, group, **more))

    def pop(self, **more: Any) -> RemotingCommand:
        return self.call(pop_header(**more))

    def messages(self, offset: int = 0, *, topic: str = TOPIC, queue_id: int = 0) -> list[MessageExt]:
        answer = self.pull(offset, topic=topic, queue_id=queue_id)
        return decode_messages(answer.body or b"")

    def heartbeat(
        self, client_id: str = "client", *subscriptions: SubscriptionData, group: str = GROUP, broadcasting: bool = False
    ) -> RemotingCommand:
        model = MessageModel.BROADCASTING if broadcasting else MessageModel.CLUSTERING
        data = ConsumerData(group, ConsumeType.PASSIVELY, model, None, subscriptions or (subscription(TOPIC, "*", 1),))
        body = bodies.HEARTBEAT.encode(HeartbeatData(client_id, (ProducerData("producers"),), (data,)))
        return self.call(headers.HeartbeatRequestHeader(), body)


def send_header(topic: str = TOPIC, queue_id: int = 0, **properties: str) -> headers.SendMessageRequestHeaderV2:
    return headers.SendMessageRequestHeaderV2(
        producer_group="producers",
        topic=topic,
        default_topic="TBW102",
        default_topic_queue_nums=4,
        queue_id=queue_id,
        sys_flag=0,
        born_timestamp=time.time_ns() // 1_000_000,
        flag=0,
        properties=encode_properties(properties),
    )


def pull_header(
    offset: int = 0,
    topic: str = TOPIC,
    queue_id: int = 0,
    expression: str | None = "*",
    hold: float = 0.0,
    group: str = GROUP,
    commit_offset: int | None = None,
    max_msg_nums: int = 32,
    sub_version: int = 0,
    expression_type: str = "TAG",
) -> headers.PullMessageRequestHeader:
    return headers.PullMessageRequestHeader(
        consumer_group=group,
        topic=topic,
        queue_id=queue_id,
        queue_offset=offset,
        max_msg_nums=max_msg_nums,
        sys_flag=pull_sys_flag(
            commit_offset=commit_offset is not None, suspend=bool(hold), subscription=expression is not None
        ),
        commit_offset=commit_offset or 0,
        suspend_timeout_millis=round(hold * 1000),
        subscription=expression,
        sub_version=sub_version,
        expression_type=expression_type,
    )


def pop_header(
    topic: str = TOPIC,
    queue_id: int = 0,
    group: str = GROUP,
    most: int = 32,
    invisible: float = 60.0,
    hold: float = 0.0,
    **more: Any,
) -> headers.PopMessageRequestHeader:
    return headers.PopMessageRequestHeader(
        consumer_group=group,
        topic=topic,
        queue_id=queue_id,
        max_msg_nums=most,
        invisible_time=round(invisible * 1000),
        poll_time=round(hold * 1000),
        born_time=more.pop("born_time", time.time_ns() // 1_000_000),
        init_mode=more.pop("init_mode", 0),
        **more,
    )


def names(answer: RemotingCommand) -> str:
    """The answer's code by name, for messages that tell what went wrong."""
    return ResponseCode(answer.code).name
