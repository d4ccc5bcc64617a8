"""What the clients and the console give out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

__all__ = ["ClientInfo", "Clients", "KapokMessage", "MessageCounts", "Node"]


class _Acknowledger(Protocol):
    def ack(self, message: KapokMessage) -> None: ...


@dataclass(slots=True)
class KapokMessage:
    """A message as the server has it.

    :param message_code: the server's id of it, 32 hexadecimal digits; a message pushed again keeps its code.
    :param message_data: the text that was sent; ``""`` in the console's lists.
    :param topic: its topic.
    :param create_time: when the server took it, Unix seconds.
    :param consumed_time: when it was acknowledged, Unix seconds; 0 when it was not.
    :param delay_time: seconds of delay; a message pushed again has its age here.
    :param status: -1 waiting, 0 delayed, 1 consumed.
    """

    message_code: str
    message_data: str
    topic: str
    create_time: int
    consumed_time: int
    delay_time: int
    status: int
    _consumer: _Acknowledger | None = field(default=None, repr=False, compare=False, kw_only=True)

    def ack(self) -> None:
        """Acknowledge it through the consumer that received it; see :meth:`Consumer.ack`.

        :raises ValueError: it did not come from a consumer.
        """
        if self._consumer is None:
            raise ValueError(f"message {self.message_code} did not come from a consumer; use Consumer.ack(message_code)")
        self._consumer.ack(self)


class Node(NamedTuple):
    """A server of a cluster, as the registry lists it.

    :param name: ``mq:host:port``.
    :param addr: host name or address.
    :param port: port of its WebSocket and HTTP service.
    """

    name: str
    addr: str
    port: int


class MessageCounts(NamedTuple):
    """How many messages the server holds, of all topics together."""

    all: int
    consumed: int
    delay: int
    unconsumed: int


class ClientInfo(NamedTuple):
    """A client that is logged in.

    :param id: its producer or consumer id.
    :param topic: its topic.
    :param ip: where the server thinks it is; a client can claim any address.
    :param join_time: when it logged in, Unix seconds.
    """

    id: str
    topic: str
    ip: str
    join_time: int


class Clients(NamedTuple):
    """The clients that are logged in.

    :param producers: in no order.
    :param consumers: in no order.
    """

    producers: list[ClientInfo]
    consumers: list[ClientInfo]
