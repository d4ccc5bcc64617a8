"""The requests of POP consumption, one short method for each; as :mod:`grocketmq.client.api`, without any policy.

Brokers know them from release 5.0.0 on.

Source: Apache RocketMQ 5.3.3, module client, class ``MQClientAPIImpl``; the timeouts are those of its callers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.errors import broker_error
from grocketmq.model.subscription import MessageModel
from grocketmq.remoting.client import RemotingClient
from grocketmq.wire import bodies, headers
from grocketmq.wire.command import RemotingCommand

__all__ = ["PopAPI", "PopAnswer", "PopStatus"]

ASSIGNMENT_TIMEOUT = 3.0
REQUEST_MODE_TIMEOUT = 3.0
ACK_TIMEOUT = 3.0
#: Seconds beyond the time a broker may hold a pop.
POP_GRACE = 10.0


class PopStatus(Enum):
    """What a pop found."""

    FOUND = "found"
    NOT_FOUND = "not found"
    #: The broker holds as many requests as it may, and so did not hold this one.
    POLLING_FULL = "polling full"


_POPPED = {
    ResponseCode.SUCCESS: PopStatus.FOUND,
    ResponseCode.PULL_NOT_FOUND: PopStatus.NOT_FOUND,
    ResponseCode.POLLING_TIMEOUT: PopStatus.NOT_FOUND,
    ResponseCode.POLLING_FULL: PopStatus.POLLING_FULL,
}


@dataclass(slots=True)
class PopAnswer:
    """A broker's answer to a pop, its messages still as bytes.

    :param status: what was found.
    :param header: which messages came from which queue; None unless some were found.
    :param body: the stored messages, one after the other.
    """

    status: PopStatus
    header: headers.PopMessageResponseHeader | None = None
    body: bytes = b""


class PopAPI:
    """The requests.  Every method blocks its greenlet at most for its timeout, and raises as those of
    :class:`~grocketmq.client.api.ClientAPI` do.

    :param remoting: makes the calls.
    """

    def __init__(self, remoting: RemotingClient) -> None:
        self._remoting = remoting

    def query_assignment(
        self, address: str, topic: str, group: str, client_id: str, strategy: str
    ) -> tuple[bodies.MessageQueueAssignment, ...] | None:
        """Which of a topic's queues are this client's, as a broker shares them out over all brokers.

        :param strategy: the name of the strategy.
        :returns: the queues, -1 for any of their broker; None when the broker cannot tell, which changes nothing.
        """
        asked = bodies.QueryAssignmentRequestBody(topic, group, client_id, strategy, MessageModel.CLUSTERING)
        body = bodies.QUERY_ASSIGNMENT.encode(asked)
        answer = self._call(address, RemotingCommand(RequestCode.QUERY_ASSIGNMENT, body=body), ASSIGNMENT_TIMEOUT)
        return bodies.ASSIGNMENTS.decode(answer.body)

    def set_request_mode(
        self, address: str, topic: str, group: str, mode: bodies.MessageRequestMode, share_queue_num: int = 0
    ) -> None:
        """Have a broker share out a topic for a group by pulling or by popping; it remembers that.

        :param share_queue_num: how many members share a queue when popping; 0 for all.
        """
        body = bodies.REQUEST_MODE.encode(bodies.SetMessageRequestModeRequestBody(topic, group, mode, share_queue_num))
        self._call(address, RemotingCommand(RequestCode.SET_MESSAGE_REQUEST_MODE, body=body), REQUEST_MODE_TIMEOUT)

    def pop(self, address: str, header: headers.PopMessageRequestHeader) -> PopAnswer:
        """Take messages; the broker may hold the request for the header's ``poll_time``, and the answer come 10 s later."""
        request = RemotingCommand(header.CODE, ext_fields=header.to_ext())
        answer = self._remoting.invoke(address, request, header.poll_time / 1000 + POP_GRACE)
        status = _POPPED.get(answer.code)  # type: ignore[call-overload]
        if status is None:
            raise broker_error(answer.code, answer.remark, address)
        if status is not PopStatus.FOUND:
            return PopAnswer(status)
        return PopAnswer(status, headers.PopMessageResponseHeader.parse(answer.ext_fields), answer.body or b"")

    def ack(self, address: str, header: headers.AckMessageRequestHeader) -> None:
        """Acknowledge one message.  A broker takes one that comes too late as well, and delivers the message again."""
        self._call(address, RemotingCommand(header.CODE, ext_fields=header.to_ext()), ACK_TIMEOUT)

    def batch_ack(self, address: str, broker_name: str, acks: Iterable[bodies.BatchAck]) -> None:
        """Acknowledge messages of one broker at once; from release 5.1.3 on.  Offsets it does not have it passes over."""
        body = bodies.BATCH_ACK.encode(bodies.BatchAckMessageRequestBody(broker_name, tuple(acks)))
        self._call(address, RemotingCommand(RequestCode.BATCH_ACK_MESSAGE, body=body), ACK_TIMEOUT)

    def change_invisible(
        self, address: str, header: headers.ChangeInvisibleTimeRequestHeader
    ) -> headers.ChangeInvisibleTimeResponseHeader:
        """Say for how long from now on nobody else gets a message.

        :returns: what the message's new check point is made of.
        """
        answer = self._call(address, RemotingCommand(header.CODE, ext_fields=header.to_ext()), ACK_TIMEOUT)
        return headers.ChangeInvisibleTimeResponseHeader.parse(answer.ext_fields)

    def _call(self, address: str, request: RemotingCommand, timeout: float) -> RemotingCommand:
        answer = self._remoting.invoke(address, request, timeout)
        if answer.code != ResponseCode.SUCCESS:
            raise broker_error(answer.code, answer.remark, address)
        return answer
