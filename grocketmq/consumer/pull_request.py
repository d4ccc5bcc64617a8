"""``PullRequest``: where the next pull of a queue begins."""

from __future__ import annotations

from dataclasses import dataclass

from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.route import MessageQueue

__all__ = ["PullRequest"]


@dataclass(slots=True, eq=False)
class PullRequest:
    """Travels between the queue of pull requests and the pulls, as long as the queue is this consumer's.

    :param queue: what to pull.
    :param process_queue: where the messages go.
    :param next_offset: where to begin.
    :param failing: whether the last pull failed, so that a series of failures is logged once.
    """

    queue: MessageQueue
    process_queue: ProcessQueue
    next_offset: int
    failing: bool = False
