"""What the shared instance asks of the clients that use it: the only things this layer knows of producers and consumers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from grocketmq.client.config import ClientConfig
from grocketmq.wire.bodies import ConsumerData

if TYPE_CHECKING:
    from grocketmq.client.manager import MQClientManager

__all__ = ["ConsumerMember", "Member", "ProducerMember"]


class Member(Protocol):
    """Any client that a manager looks after."""

    @property
    def group(self) -> str:
        """Its group."""

    @property
    def config(self) -> ClientConfig:
        """Its common settings."""

    def bind(self, manager: MQClientManager) -> None:
        """Belong to this manager; before it is started."""

    def start(self) -> None:
        """Start it."""

    def shutdown(self, timeout: float = 10.0) -> None:
        """Stop it."""


class ProducerMember(Protocol):
    """A producer, as its instance sees it."""

    @property
    def group(self) -> str:
        """Its group."""

    def topics(self) -> Iterable[str]:
        """The topics whose routes it needs."""


class ConsumerMember(Protocol):
    """A consumer, as its instance sees it."""

    @property
    def group(self) -> str:
        """Its group."""

    def topics(self) -> Iterable[str]:
        """The topics whose routes it needs."""

    def heartbeat_data(self) -> ConsumerData:
        """What brokers are told of it."""

    def rebalance(self) -> bool:
        """Take the queues that are its share; whether it has exactly those now."""

    def persist_offsets(self) -> None:
        """Store the offsets of its queues."""
