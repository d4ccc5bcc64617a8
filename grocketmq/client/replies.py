"""Requests that wait for their reply."""

from __future__ import annotations

from gevent.event import AsyncResult

from grocketmq.model.message import MessageExt

__all__ = ["ReplyTable"]


class ReplyTable:
    """The requests of an instance that wait, by correlation id."""

    def __init__(self) -> None:
        self._waiting: dict[str, AsyncResult] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, correlation_id: str) -> AsyncResult:
        """Note a request, until :meth:`forget`; never blocks.

        :returns: gets the reply.
        """
        result = self._waiting[correlation_id] = AsyncResult()
        return result

    def forget(self, correlation_id: str) -> None:
        """Wait no more; never blocks."""
        self._waiting.pop(correlation_id, None)

    def arrived(self, correlation_id: str | None, reply: MessageExt) -> bool:
        """Give a reply to its request; never blocks.

        :returns: whether one waits for it.
        """
        result = None if correlation_id is None else self._waiting.get(correlation_id)
        if result is None:
            return False
        if not result.ready():  # a replier that tried again has sent it twice
            result.set(reply)
        return True
