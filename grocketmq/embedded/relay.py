"""Requests of tools that a broker hands on to consumers, and their answers back.

Source: Apache RocketMQ 5.5.0, module broker, classes ``AdminBrokerProcessor`` (``callConsumer``), ``Broker2Client``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.store import MessageStore
from grocketmq.embedded.topics import TopicTable
from grocketmq.errors import GRocketMQError, MessageError, RemotingError, RequestTimeout
from grocketmq.model.message_id import decode_offset_msg_id
from grocketmq.model.route import MessageQueue
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import GetConsumerStatusBody
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag

__all__ = ["Relay"]

#: Seconds a consumer has for its answer.
_CALL_TIMEOUT = 10.0
_STATUS_TIMEOUT = 5.0


class Relay:
    """Hands requests on.

    :param broker_name: the broker's name.
    :param store: its messages.
    :param topics: its topics.
    :param clients: its groups.
    :param tasks: owns the greenlets that wait for consumers.
    """

    def __init__(
        self, broker_name: str, store: MessageStore, topics: TopicTable, clients: ClientTable, tasks: TaskGroup
    ) -> None:
        self._broker_name = broker_name
        self._store = store
        self._topics = topics
        self._clients = clients
        self._tasks = tasks

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.GET_CONSUMER_RUNNING_INFO: self._running_info,
            RequestCode.CONSUME_MESSAGE_DIRECTLY: self._consume_directly,
            RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS: self._status,
        }

    def _running_info(self, request: RemotingCommand, channel: Channel) -> None:
        header = headers.GetConsumerRunningInfoRequestHeader.parse(request.ext_fields)
        self._later(request, channel, lambda: self._call(request, header.consumer_group, header.client_id))

    def _consume_directly(self, request: RemotingCommand, channel: Channel) -> None:
        header = headers.ConsumeMessageDirectlyResultRequestHeader.parse(request.ext_fields)
        fields: dict[str, str | None] = {**(request.ext_fields or {}), "brokerName": self._broker_name}
        config = self._topics.get(header.topic) if header.topic else None
        if config is not None:
            fields["topicSysFlag"] = str(config.topic_sys_flag)
        fields["groupSysFlag"] = str(self._clients.group_config(header.consumer_group).group_sys_flag)
        asked = RemotingCommand(request.code, ext_fields=fields, body=self._message(header.msg_id) or request.body)
        self._later(request, channel, lambda: self._call(asked, header.consumer_group, header.client_id or ""))

    def _message(self, msg_id: str | None) -> bytes | None:
        """The stored message of an id, which must be here when one is named."""
        if not msg_id:
            return None
        try:
            frame = self._store.log.at(decode_offset_msg_id(msg_id).commit_log_offset)
        except MessageError as error:
            raise Refused(ResponseCode.SYSTEM_ERROR, str(error)) from error
        if frame is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"no message has the id {msg_id} here")
        return frame

    def _later(self, request: RemotingCommand, channel: Channel, answer: Callable[[], RemotingCommand]) -> None:
        """Answer from a greenlet: the consumer may be on the very connection that the request came on."""

        def run() -> None:
            try:
                found = answer()
            except Refused as refused:
                found = RemotingCommand.response_to(request, refused.code, refused.remark, refused.ext_fields)
            except GRocketMQError as error:
                found = RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, str(error))
            found.opaque, found.flag = request.opaque, RpcFlag.RESPONSE
            channel.reply(found)

        self._tasks.spawn(f"relay {request.code} of {channel.address}", run)

    def _call(self, request: RemotingCommand, group: str, client_id: str) -> RemotingCommand:
        """A consumer's own answer."""
        found = self._clients.consumers.get(group)
        members = found.members.items() if found is not None else ()
        target = next((channel for channel, member in members if member.client_id == client_id), None)
        if target is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"The Consumer <{group}> <{client_id}> not online")
        asked = RemotingCommand(request.code, ext_fields=request.ext_fields, body=request.body)
        try:
            return target.call(asked, _CALL_TIMEOUT)
        except RequestTimeout as error:
            raise Refused(ResponseCode.CONSUME_MSG_TIMEOUT, f"consumer <{group}> <{client_id}> Timeout: {error}") from error
        except RemotingError as error:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"invoke consumer <{group}> <{client_id}> Exception: {error}") from error

    def _status(self, request: RemotingCommand, channel: Channel) -> None:
        header = headers.GetConsumerStatusRequestHeader.parse(request.ext_fields)
        group = self._clients.consumers.get(header.group)
        if group is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"No Any Consumer online in the consumer group: [{header.group}]")

        def answer() -> RemotingCommand:
            table: dict[str, Mapping[MessageQueue, int]] = {}
            for target, member in list(group.members.items()):
                if header.client_addr in (None, "", member.client_id):
                    asked = headers.GetConsumerStatusRequestHeader(topic=header.topic, group=header.group)
                    found = target.call(RemotingCommand(asked.CODE, ext_fields=asked.to_ext()), _STATUS_TIMEOUT)
                    if found.code == ResponseCode.SUCCESS and found.body:
                        table[member.client_id] = bodies.CONSUMER_STATUS.decode(found.body).message_queue_table
            body = bodies.CONSUMER_STATUS.encode(GetConsumerStatusBody(consumer_table=table), object_keys=True)
            return success(request, body=body)

        self._later(request, channel, answer)
