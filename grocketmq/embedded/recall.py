"""Taking back timer messages.

Source: Apache RocketMQ 5.3.3, module broker, class ``RecallMessageProcessor``.
"""

from __future__ import annotations

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import REGION, success
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.delay import MAX_TIMER_DELAY, Intake
from grocketmq.embedded.topics import TopicTable
from grocketmq.errors import MessageError
from grocketmq.model.properties import Property
from grocketmq.model.recall_handle import RecallHandle, decode_recall_handle
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand

__all__ = ["Recalls"]


class Recalls:
    """Takes messages back that wait for their time.

    :param broker_name: the broker's name, which its handles hold.
    :param enabled: whether it is allowed at all.
    :param intake: where messages wait.
    :param topics: the broker's topics.
    :param clock: the time.
    """

    def __init__(self, broker_name: str, enabled: bool, intake: Intake, topics: TopicTable, clock: Clock) -> None:
        self._broker_name = broker_name
        self._enabled = enabled
        self._intake = intake
        self._topics = topics
        self._clock = clock

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.RECALL_MESSAGE: self._recall}

    def _recall(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        region: dict[str, str | None] = {Property.MSG_REGION: REGION}
        try:
            handle = self._checked(headers.RecallMessageRequestHeader.parse(request.ext_fields))
        except Refused as refused:
            refused.ext_fields = region
            raise
        self._intake.recall(handle.topic, handle.message_id)
        answer = success(request, headers.RecallMessageResponseHeader(msg_id=handle.message_id))
        answer.ext_fields = {**(answer.ext_fields or {}), **region}
        return answer

    def _checked(self, header: headers.RecallMessageRequestHeader) -> RecallHandle:
        if not self._enabled:
            raise Refused(ResponseCode.NO_PERMISSION, "recall failed, operation is forbidden")
        if self._topics.get(header.topic) is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"recall failed, the topic[{header.topic}] not exist")
        try:
            handle = decode_recall_handle(header.recall_handle)
        except MessageError as error:
            raise Refused(ResponseCode.ILLEGAL_OPERATION, str(error)) from error
        if handle.topic != header.topic:
            raise Refused(ResponseCode.ILLEGAL_OPERATION, "recall failed, topic not match")
        if handle.broker_name != self._broker_name:
            raise Refused(ResponseCode.ILLEGAL_OPERATION, "recall failed, broker service not available")
        deliver_at = int(handle.timestamp) if handle.timestamp.isdecimal() else -1
        if not 0 < deliver_at - self._clock.now_ms() < MAX_TIMER_DELAY * 1000:
            raise Refused(ResponseCode.ILLEGAL_OPERATION, "recall failed, timestamp invalid")
        return handle
