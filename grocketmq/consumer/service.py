"""What a push consumer asks of the half that runs the listener, and a rebalance of whoever works on its queues."""

from __future__ import annotations

from typing import Protocol

from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline

__all__ = ["ConsumeService", "QueueWork"]


class QueueWork(Protocol):
    """Works on the messages of queues that come and go."""

    def acquire(self, queue: MessageQueue) -> bool:
        """Make sure of a queue before it is taken; may block for a call to a broker."""

    def quiesce(self, queue: MessageQueue, process_queue: ProcessQueue) -> bool:
        """Whether a dropped queue may be let go of: nobody works on it any more.  May block for half a second."""

    def release(self, queue: MessageQueue) -> None:
        """A queue was let go of, and its offset stored; may block for a call to a broker."""


class ConsumeService(QueueWork, Protocol):
    """Runs a listener, concurrently or in order."""

    def submit(self, queue: MessageQueue, process_queue: ProcessQueue, messages: list[MessageExt], max_offset: int) -> None:
        """Take over what a pull found; never blocks.

        :param queue: where the messages come from.
        :param process_queue: where they are to be kept until they are done.
        :param messages: at least one.
        :param max_offset: the queue's end, as the answer told it.
        """

    def pull_pause(self, process_queue: ProcessQueue) -> float:
        """Seconds to wait before the queue may be pulled; 0 for none.  Never blocks."""

    def clean_expired(self, queue: MessageQueue, process_queue: ProcessQueue) -> None:
        """Send back what listeners have held too long of a queue; blocks for the calls."""

    def stop(self, deadline: Deadline) -> None:
        """Hand out nothing more and wait for listeners; blocks at most until the deadline."""
