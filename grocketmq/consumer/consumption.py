"""How a push consumer gets at its messages: by pulling queues or by popping them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from grocketmq.consumer.stats import Held
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.bodies import PopProcessQueueInfo, ProcessQueueInfo

__all__ = ["Consumption"]


class Fetching(Protocol):
    """The half that gets messages from the brokers."""

    #: Whether nothing more is to be fetched for now.
    paused: bool


class Consumption(ABC):
    """Everything between the brokers and the listener, made at the consumer's start.

    What is not abstract here is so where the broker keeps the offsets.
    """

    #: Gets messages from the brokers.
    fetching: Fetching

    @abstractmethod
    def prepare(self) -> None:
        """Make brokers ready for the first rebalance, after the first heartbeat; may block for calls to brokers.

        :raises ConfigError: when they cannot serve this consumer.
        """

    @abstractmethod
    def rebalance(self) -> bool:
        """Take the consumer's share of the queues; whether it has exactly that.  Blocks for calls to brokers."""

    @abstractmethod
    def held(self) -> Mapping[MessageQueue, Held]:
        """The queues it has at present, and those it still has to let go of; never blocks."""

    @abstractmethod
    def stop(self, deadline: Deadline) -> None:
        """Fetch nothing more, let listeners end, settle what is done; blocks about until the deadline at most."""

    def persist_offsets(self) -> None:  # noqa: B027
        """Store the offsets of its queues; blocks for calls to brokers."""

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The offsets reached in a topic's queues; lets other greenlets run when there are many."""
        return {}

    def reset_offset(self, queue: MessageQueue, offset: int) -> None:  # noqa: B027
        """Go on at an offset, if it has the queue; blocks for calls to brokers."""

    def pull_infos(self) -> dict[MessageQueue, ProcessQueueInfo]:
        """The queues it pulls, as operators see them; lets other greenlets run when there are many."""
        return {}

    def pop_infos(self) -> dict[MessageQueue, PopProcessQueueInfo]:
        """The queues it pops, as operators see them; never blocks."""
        return {}
