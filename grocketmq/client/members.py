"""What the shared instance asks of the clients that use it: the only things this layer knows of producers and consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from grocketmq.client.config import ClientConfig
from grocketmq.client.replies import ReplyTable
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.wire.bodies import ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo
from grocketmq.wire.headers import CheckTransactionStateRequestHeader

if TYPE_CHECKING:
    from grocketmq.client.manager import MQClientManager

__all__ = ["ConsumerMember", "Member", "Members", "ProducerMember", "TransactionChecker"]


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

    def undo_start(self) -> None:
        """Stop it if it runs, so that it may be started again."""

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

    def reset_offsets(self, offsets: Mapping[MessageQueue, int]) -> None:
        """Go on at these offsets, as an operator wants it."""

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The offsets reached in a topic's queues."""

    def running_info(self) -> ConsumerRunningInfo:
        """Its state, as operators see it."""

    def consume_directly(self, message: MessageExt) -> ConsumeMessageDirectlyResult:
        """Give one message to its listener, as an operator wants it."""


#: ``(address of the broker that asks, its request's header, the half message)``; must not block.
TransactionChecker = Callable[[str, CheckTransactionStateRequestHeader, MessageExt], None]


class Members(Protocol):
    """Whom brokers' requests are about: an instance, as :mod:`grocketmq.client.processor` sees it."""

    def consumer(self, group: str) -> ConsumerMember | None:
        """The consumer of a group."""

    def transaction_checker(self, group: str) -> TransactionChecker | None:
        """What answers transaction checks of a producer group."""

    @property
    def replies(self) -> ReplyTable:
        """The requests that wait for a reply."""

    def rebalance_soon(self) -> None:
        """Let every consumer take its share."""
