"""How a push consumer gets at its messages: by pulling queues or by popping them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from grocketmq.consumer.stats import Held
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.bodies import PopProcessQueueInfo, ProcessQueueInfo

__all__ = ["Consumption"]


class Consumption(Protocol):
    """Everything between the brokers and the listener, made at the consumer's start."""

    #: Whether nothing more is to be fetched for now.
    paused: bool

    def prepare(self) -> None:
        """Make brokers ready for the first rebalance, after the first heartbeat; may block for calls to brokers.

        :raises ConfigError: when they cannot serve this consumer.
        """

    def rebalance(self) -> bool:
        """Take the consumer's share of the queues; whether it has exactly that.  Blocks for calls to brokers."""

    def persist_offsets(self) -> None:
        """Store the offsets of its queues, if it keeps any; blocks for calls to brokers."""

    def held(self) -> Mapping[MessageQueue, Held]:
        """The queues it has at present, and those it still has to let go of; never blocks."""

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The offsets reached in a topic's queues, where it keeps any; never blocks."""

    def reset_offset(self, queue: MessageQueue, offset: int) -> None:
        """Go on at an offset, if it has the queue and keeps offsets; blocks for calls to brokers."""

    def pull_infos(self) -> dict[MessageQueue, ProcessQueueInfo]:
        """The queues it pulls, as operators see them; never blocks."""

    def pop_infos(self) -> dict[MessageQueue, PopProcessQueueInfo]:
        """The queues it pops, as operators see them; never blocks."""

    def stop(self, deadline: Deadline) -> None:
        """Fetch nothing more, let listeners end, settle what is done; blocks about until the deadline at most."""
