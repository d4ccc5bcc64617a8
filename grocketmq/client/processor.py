"""What brokers ask of a client.

===========================================  ===========================================================================
request                                      what is done
===========================================  ===========================================================================
CHECK_TRANSACTION_STATE (39), oneway         handed to a producer of the group, which answers in its own time
NOTIFY_CONSUMER_IDS_CHANGED (40), oneway     a rebalance, soon
RESET_CONSUMER_CLIENT_OFFSET (220), oneway   the consumer goes on at the offsets given
GET_CONSUMER_STATUS_FROM_CLIENT (221)        the consumer's offsets of a topic
GET_CONSUMER_RUNNING_INFO (307)              the consumer's state
CONSUME_MESSAGE_DIRECTLY (309)               one message is given to the listener
PUSH_REPLY_MESSAGE_TO_CLIENT (326)           a reply is given to the request that waits for it
===========================================  ===========================================================================

Source: Apache RocketMQ 5.3.3, module client, class ``ClientRemotingProcessor``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from grocketmq.client.members import ConsumerMember, Members
from grocketmq.client.namespace import Namespace
from grocketmq.client.packing import unpack
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.errors import RemoteProtocolError
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.pool import in_pool
from grocketmq.runtime.stacks import stacks
from grocketmq.wire import bodies, headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_message
from grocketmq.wire.reply_command import read_reply

__all__ = ["BrokerRequests"]

log = logging.getLogger(__name__)

T = TypeVar("T")

#: JSON of more queues is read and written in the hub's thread pool, so that it does not hold the event loop.
_QUEUES_AT_ONCE = 100
#: Bytes of JSON for one queue, at the least.
_QUEUE_BYTES = 50


def _apart(queues: int, work: Callable[[], T]) -> T:
    """Do work on bytes, apart from the event loop when it is about many queues."""
    return work() if queues <= _QUEUES_AT_ONCE else in_pool(work)


class BrokerRequests:
    """Serves brokers' requests, each in a greenlet of its own.

    :param remoting: over whose connections they come.
    :param members: whom they are about.
    :param namespace: taken off the messages that come; None for none.
    """

    def __init__(self, remoting: RemotingClient, members: Members, namespace: Namespace | None = None) -> None:
        self._namespace = namespace
        self._members = members
        for code, serve in (
            (RequestCode.CHECK_TRANSACTION_STATE, self._check_transaction),
            (RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, self._ids_changed),
            (RequestCode.RESET_CONSUMER_CLIENT_OFFSET, self._reset_offset),
            (RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, self._status),
            (RequestCode.GET_CONSUMER_RUNNING_INFO, self._running_info),
            (RequestCode.CONSUME_MESSAGE_DIRECTLY, self._consume_directly),
            (RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, self._reply),
        ):
            remoting.register_processor(code, serve)

    def _check_transaction(self, request: RemotingCommand, address: str) -> None:
        header = headers.CheckTransactionStateRequestHeader.from_ext(request.ext_fields)
        message = self._read(request)
        group = message.properties.get(Property.PRODUCER_GROUP)
        checker = None if group is None else self._members.transaction_checker(group)
        if checker is None:
            log.warning("%s asks for the state of a transaction of group %s, which has no checker here", address, group)
        else:
            checker(address, header, message)

    def _ids_changed(self, request: RemotingCommand, address: str) -> None:
        self._members.rebalance_soon()

    def _reset_offset(self, request: RemotingCommand, address: str) -> None:
        header = headers.ResetOffsetRequestHeader.from_ext(request.ext_fields)
        consumer = self._members.consumer(header.group)
        if consumer is None:
            log.warning("%s resets offsets of group %s, which has no consumer here", address, header.group)
        else:
            queues = len(request.body or b"") // _QUEUE_BYTES
            consumer.reset_offsets(_apart(queues, lambda: bodies.RESET_OFFSET.decode(request.body)))

    def _status(self, request: RemotingCommand, address: str) -> RemotingCommand:
        header = headers.GetConsumerStatusRequestHeader.from_ext(request.ext_fields)

        def answer(consumer: ConsumerMember) -> bytes:
            status = bodies.GetConsumerStatusBody(consumer.offsets(header.topic))
            return _apart(len(status.message_queue_table), lambda: bodies.CONSUMER_STATUS.encode(status, object_keys=True))

        return self._ask(request, header.group, answer)

    def _running_info(self, request: RemotingCommand, address: str) -> RemotingCommand:
        header = headers.GetConsumerRunningInfoRequestHeader.from_ext(request.ext_fields)

        def answer(consumer: ConsumerMember) -> bytes:
            info = consumer.running_info()
            if header.jstack_enable:
                info = replace(info, jstack=stacks())
            return _apart(len(info.mq_table), lambda: bodies.RUNNING_INFO.encode(info, object_keys=True))

        return self._ask(request, header.consumer_group, answer)

    def _read(self, request: RemotingCommand, broker_name: str = "") -> MessageExt:
        message = decode_message(request.body or b"", broker_name=broker_name, decompress=False)
        unpack(message)
        if self._namespace is not None:
            self._namespace.received([message])
        return message

    def _consume_directly(self, request: RemotingCommand, address: str) -> RemotingCommand:
        header = headers.ConsumeMessageDirectlyResultRequestHeader.from_ext(request.ext_fields)

        def answer(consumer: ConsumerMember) -> bytes:
            message = self._read(request, header.broker_name or "")
            return bodies.DIRECT_RESULT.encode(consumer.consume_directly(message))

        return self._ask(request, header.consumer_group, answer)

    def _reply(self, request: RemotingCommand, address: str) -> RemotingCommand:
        try:
            reply = read_reply(request)
            unpack(reply)
        except RemoteProtocolError as error:
            log.warning("%s pushes a reply that cannot be read: %s", address, error)
            return RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, f"reply cannot be read: {error}")
        correlation_id = reply.properties.get(Property.CORRELATION_ID)
        if not self._members.replies.arrived(correlation_id, reply):
            log.warning(
                "a reply from %s came too late, or twice; its request %s does not wait", reply.born_host, correlation_id
            )
        return RemotingCommand.response_to(request, ResponseCode.SUCCESS)

    def _ask(self, request: RemotingCommand, group: str, answer: Callable[[ConsumerMember], bytes]) -> RemotingCommand:
        consumer = self._members.consumer(group)
        if consumer is None:
            remark = f"group {group} has no consumer in this client"
            return RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, remark)
        try:
            return RemotingCommand.response_to(request, ResponseCode.SUCCESS, body=answer(consumer))
        except RemoteProtocolError as error:
            return RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, f"request cannot be read: {error}")
