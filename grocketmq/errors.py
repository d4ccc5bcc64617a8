"""The one error tree of grocketmq.

::

    GRocketMQError
      ConfigError (ValueError)          an option, group or subscription that cannot work
      MessageError (ValueError)         a message that no broker would take
      ClientStateError                  used before start() or after shutdown(), or from another thread
        ForkError                       a started client used in a forked child
      ProtocolError
        LocalProtocolError              we were asked to build bytes that the protocol cannot express
        RemoteProtocolError             a peer sent bytes that the protocol does not allow
      RemotingError
        ConnectError                    no connection could be made
          TLSError                      the TLS handshake failed, or the certificate is refused
        ConnectionLostError             the connection ended while a call was under way
        RequestTimeout (TimeoutError)   no answer within the deadline
        TooManyRequestsError            no room for one more call within the deadline
      BrokerError                       a peer answered with an error code; one subclass for each code we act on
      RouteNotFoundError                no name server knows where the topic lives
      SendError                         every try of a send failed; ``attempts`` tells each
      RequestReplyTimeout (TimeoutError)
      KapokMQError                      what a KapokMQ server or its registry answered
        AuthError                       the server refused the secret key
        SendOutcomeUnknown              a message was sent, and whether the server has it is not known
          AckTimeout (RequestTimeout)   likewise: no acknowledgement within the deadline

An error knows whether another try may help (``retriable``) and whether the route should be fetched anew first
(``refresh_route``), so retry loops ask the error instead of listing classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from grocketmq.codes import ResponseCode

__all__ = [
    "AckTimeout",
    "AuthError",
    "BrokerError",
    "BrokerSystemError",
    "ClientStateError",
    "ConfigError",
    "ConnectError",
    "ConnectionLostError",
    "FlowControlError",
    "ForkError",
    "GRocketMQError",
    "GoAwayError",
    "GroupNotExistError",
    "InvalidParameterError",
    "KapokMQError",
    "LocalProtocolError",
    "MessageError",
    "MessageIllegalError",
    "NoBuyerIdError",
    "NoPermissionError",
    "NotInCurrentUnitError",
    "NotLeaderError",
    "OffsetMovedError",
    "ProtocolError",
    "QueryNotFoundError",
    "RemoteProtocolError",
    "RemotingError",
    "RequestReplyTimeout",
    "RequestTimeout",
    "RouteNotFoundError",
    "SendAttempt",
    "SendError",
    "SendOutcomeUnknown",
    "ServiceNotAvailableError",
    "SubscriptionNotExistError",
    "SubscriptionNotLatestError",
    "SubscriptionParseError",
    "SystemBusyError",
    "TLSError",
    "TooManyRequestsError",
    "TopicNotExistError",
    "UnsupportedRequestError",
    "broker_error",
]


class GRocketMQError(Exception):
    """Base of every error this library raises on purpose."""

    #: Whether the same call may succeed on another try.
    retriable: bool = False
    #: Whether the topic's route should be fetched anew before another try.
    refresh_route: ClassVar[bool] = False


class ConfigError(GRocketMQError, ValueError):
    """An option, a group, a subscription or a listener that cannot work."""


class MessageError(GRocketMQError, ValueError):
    """A message (or a list of messages) that no broker would take."""


class ClientStateError(GRocketMQError):
    """A client was used before ``start()``, after ``shutdown()`` or from a thread that does not own it."""


class ForkError(ClientStateError):
    """A client that was started before a fork was used in the child."""


class ProtocolError(GRocketMQError):
    """Bytes that do not fit the protocol; raised as one of its two subclasses."""


class LocalProtocolError(ProtocolError):
    """We were asked to build something that the protocol cannot express."""


class RemoteProtocolError(ProtocolError):
    """A peer sent something that the protocol does not allow; the message names the field and the frame."""


class RemotingError(GRocketMQError):
    """A call that got no answer, for a reason below the protocol."""

    retriable = True


class ConnectError(RemotingError):
    """No connection to the address could be made within the time for it."""

    refresh_route = True


class TLSError(ConnectError):
    """The TLS handshake failed: the certificate is refused, or the peer does not speak TLS as we do."""


class ConnectionLostError(RemotingError):
    """The connection ended while the call was under way.

    The request may or may not have been carried out.

    :param reason: why the connection ended, for the message.
    """

    refresh_route = True

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RequestTimeout(RemotingError, TimeoutError):
    """No answer came within the deadline; the request may or may not have been carried out."""


class TooManyRequestsError(RemotingError):
    """The bound on calls in flight left no room for this one within its deadline; nothing was sent."""

    retriable = False


class BrokerError(GRocketMQError):
    """A broker or name server answered with an error code.

    :param code: the response code (:class:`~grocketmq.codes.ResponseCode` where it has a name).
    :param remark: the peer's own words; its wording is no part of the protocol.
    :param address: ``host:port`` of the peer.
    """

    def __init__(self, code: int, remark: str | None, address: str) -> None:
        super().__init__(code, remark, address)
        self.code = code
        self.remark = remark
        self.address = address

    def __str__(self) -> str:
        try:
            name = ResponseCode(self.code).name
        except ValueError:
            name = "unknown code"
        return f"{self.address} answered {self.code} ({name}): {self.remark or 'no remark'}"


class BrokerSystemError(BrokerError):
    """Code 1: the broker failed inside."""

    retriable = True


class SystemBusyError(BrokerError):
    """Code 2: the broker's own queues are full."""

    retriable = True


class UnsupportedRequestError(BrokerError):
    """Code 3: the peer does not know this request."""


class MessageIllegalError(BrokerError):
    """Code 13: the broker refuses the message, for its size or its properties."""


class ServiceNotAvailableError(BrokerError):
    """Code 14: the broker cannot take writes at the moment."""

    retriable = True
    refresh_route = True


class NoPermissionError(BrokerError):
    """Not allowed, by permission bits or by access control: code 16, or code 1 of a 4.x broker's access control."""

    retriable = True
    refresh_route = True


class TopicNotExistError(BrokerError):
    """Code 17: no such topic at this peer."""

    retriable = True
    refresh_route = True


class OffsetMovedError(BrokerError):
    """Code 21: the offset asked for lies outside the queue, or an operator has reset it."""


class QueryNotFoundError(BrokerError):
    """Code 22: nothing found, such as an offset never stored."""


class SubscriptionParseError(BrokerError):
    """Code 23: the broker cannot parse the filter expression."""


class SubscriptionNotExistError(BrokerError):
    """Code 24: the broker has no heartbeat of this group yet."""


class SubscriptionNotLatestError(BrokerError):
    """Code 25: the broker's heartbeat of this group is older than the subscription."""


class GroupNotExistError(BrokerError):
    """Code 26: no such consumer group at this broker."""


class InvalidParameterError(BrokerError):
    """Code 29: a parameter the broker refuses, such as a queue id out of range."""


class NoBuyerIdError(BrokerError):
    """Code 204: the unit needs a buyer id."""

    retriable = True


class NotInCurrentUnitError(BrokerError):
    """Code 205: the message belongs to another unit."""

    retriable = True


class FlowControlError(BrokerError):
    """Code 215: the broker slows this client down."""


class NotLeaderError(BrokerError):
    """Code 501: the (static topic's) queue lives elsewhere now."""

    retriable = True
    refresh_route = True


class GoAwayError(BrokerError):
    """Code 1500, twice in a row: the peer is closing its connections."""

    retriable = True
    refresh_route = True


#: Response code -> class; a code without an entry stays a plain :class:`BrokerError`.
_BROKER_ERRORS: dict[int, type[BrokerError]] = {
    ResponseCode.SYSTEM_ERROR: BrokerSystemError,
    ResponseCode.SYSTEM_BUSY: SystemBusyError,
    ResponseCode.REQUEST_CODE_NOT_SUPPORTED: UnsupportedRequestError,
    ResponseCode.MESSAGE_ILLEGAL: MessageIllegalError,
    ResponseCode.SERVICE_NOT_AVAILABLE: ServiceNotAvailableError,
    ResponseCode.NO_PERMISSION: NoPermissionError,
    ResponseCode.TOPIC_NOT_EXIST: TopicNotExistError,
    ResponseCode.PULL_OFFSET_MOVED: OffsetMovedError,
    ResponseCode.QUERY_NOT_FOUND: QueryNotFoundError,
    ResponseCode.SUBSCRIPTION_PARSE_FAILED: SubscriptionParseError,
    ResponseCode.SUBSCRIPTION_NOT_EXIST: SubscriptionNotExistError,
    ResponseCode.SUBSCRIPTION_NOT_LATEST: SubscriptionNotLatestError,
    ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST: GroupNotExistError,
    ResponseCode.INVALID_PARAMETER: InvalidParameterError,
    ResponseCode.NO_BUYER_ID: NoBuyerIdError,
    ResponseCode.NOT_IN_CURRENT_UNIT: NotInCurrentUnitError,
    ResponseCode.FLOW_CONTROL: FlowControlError,
    ResponseCode.NOT_LEADER_FOR_QUEUE: NotLeaderError,
    ResponseCode.GO_AWAY: GoAwayError,
}


#: A 4.x broker answers "failed inside" when its access control refuses, and names the exception's class.
_OLD_ACCESS_CONTROL = "org.apache.rocketmq.acl.common.AclException"


def broker_error(code: int, remark: str | None, address: str) -> BrokerError:
    """Make the error for a response code; never blocks.

    :param code: the response code of the answer.
    :param remark: the answer's remark.
    :param address: ``host:port`` of the peer that answered.
    :returns: an instance of the code's class, of :class:`BrokerError` itself for a code without one.

    Source: Apache RocketMQ 4.9.7, module acl, class ``PlainPermissionManager``; module remoting, class
    ``NettyRemotingAbstract``.
    """
    kind = _BROKER_ERRORS.get(code, BrokerError)
    if kind is BrokerSystemError and (remark or "").startswith(_OLD_ACCESS_CONTROL):
        kind = NoPermissionError
    return kind(code, remark, address)


class RouteNotFoundError(GRocketMQError):
    """No name server knows the topic, or none of its brokers can take the call.

    :param topic: the topic without a route.
    :param why: what was tried and what to do.
    """

    refresh_route = True

    def __init__(self, topic: str, why: str = "no name server knows it; create the topic or check the name") -> None:
        super().__init__(topic, why)
        self.topic = topic
        self.why = why

    def __str__(self) -> str:
        return f"no route for topic {self.topic!r}: {self.why}"


@dataclass(frozen=True)
class SendAttempt:
    """One try of a send that failed in the end.

    :param broker_name: the broker of the chosen queue, None when no queue could be chosen.
    :param error: what went wrong.
    :param seconds: how long the try took.
    """

    broker_name: str | None
    error: Exception
    seconds: float


class SendError(GRocketMQError):
    """Every try of a send failed; raised ``from`` the last error.

    :param message: what was to be sent, and where.
    :param attempts: one entry a try, in order.
    """

    def __init__(self, message: str, attempts: Sequence[SendAttempt]) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)
        self.retriable = any(getattr(one.error, "retriable", False) for one in self.attempts[-1:])

    def __str__(self) -> str:
        tries = "; ".join(f"{one.broker_name or 'no broker'} after {one.seconds:.3f} s: {one.error}" for one in self.attempts)
        count = "1 try" if len(self.attempts) == 1 else f"{len(self.attempts)} tries"
        return f"{self.args[0]} failed after {count} ({tries})"


def send_failure(topic: str, attempts: Sequence[SendAttempt]) -> GRocketMQError:
    """What a send raises when its last try has failed: all of them, or the one reason they share that no try can help.

    :param topic: where the message was to go.
    :param attempts: at least one.
    """
    last = attempts[-1].error
    if isinstance(last, NoPermissionError) and all(isinstance(one.error, NoPermissionError) for one in attempts):
        return NoPermissionError(last.code, last.remark, last.address)
    return SendError(f"sending to topic {topic}", attempts)


class RequestReplyTimeout(GRocketMQError, TimeoutError):
    """A request message got no reply within its time."""


class KapokMQError(GRocketMQError):
    """Base of the errors of :mod:`grocketmq.kapokmq`."""


class AuthError(KapokMQError):
    """The server refused the secret key; the client stops trying to connect."""


class SendOutcomeUnknown(KapokMQError):
    """A message was sent, and no acknowledgement came: the server may or may not have it.

    Sending it again may make a second message, with a code of its own.
    """

    retriable = True


class AckTimeout(SendOutcomeUnknown, RequestTimeout):
    """A message was sent, and no acknowledgement came within the deadline."""
