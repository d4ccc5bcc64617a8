"""Requests that a broker holds until there is something to answer: long polls.

Source: Apache RocketMQ 5.5.0, module broker, classes ``PullRequestHoldService``, ``PopLongPollingService``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from gevent.event import Event

from grocketmq.codes import ResponseCode
from grocketmq.embedded.clock import Timer, Timers
from grocketmq.errors import GRocketMQError
from grocketmq.remoting.server import Channel, Refused
from grocketmq.wire.command import RemotingCommand

__all__ = ["MAX_HELD", "MakeAnswer", "Waiting"]

#: Requests that one connection may have waiting; beyond them an answer without messages comes at once.
MAX_HELD = 10_000

#: Makes the answer to a held request, None while it is to wait on; at the end of its time (true) it has to answer.
MakeAnswer = Callable[[bool], RemotingCommand | None]


@dataclass(slots=True, eq=False)
class _Held:
    request: RemotingCommand
    channel: Channel
    keys: tuple[Hashable, ...]
    answer: MakeAnswer
    timer: Timer | None = None


class Waiting:
    """The requests that wait; each is tried again when something it waits for has happened, and at the end of its time.

    :param timers: end their time.
    """

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._held: dict[Hashable, dict[_Held, None]] = {}
        self._by_channel: Counter[Channel] = Counter()
        self._happened: dict[Hashable, None] = {}
        self._wake = Event()

    def hold(
        self, request: RemotingCommand, channel: Channel, keys: tuple[Hashable, ...], seconds: float, answer: MakeAnswer
    ) -> None:
        """Keep a request; never blocks.

        :param keys: what it waits for, any of them.
        :param seconds: for how long.
        :param answer: makes its answer; runs in the greenlet of :meth:`loop` or of the timers, and must not block.
        """
        held = _Held(request, channel, keys, answer)
        held.timer = self._timers.after(seconds, self._try, held, True)
        for key in keys:
            self._held.setdefault(key, {})[held] = None
        self._by_channel[channel] += 1

    def has_room(self, channel: Channel) -> bool:
        """Whether one more request of a client may wait."""
        return self._by_channel[channel] < MAX_HELD

    def count(self, key: Hashable | None = None) -> int:
        """How many requests wait, all or those for one key."""
        return self._by_channel.total() if key is None else len(self._held.get(key, ()))

    def happened(self, key: Hashable) -> None:
        """Something happened that requests may wait for; never blocks."""
        if key in self._held:
            self._happened[key] = None
            self._wake.set()

    def loop(self) -> None:
        """Tries requests again; what its greenlet runs, for ever."""
        while True:
            self._wake.wait()
            self._wake.clear()
            happened, self._happened = self._happened, {}
            for key in happened:
                for held in list(self._held.get(key, ())):
                    self._try(held, False)

    def closed(self, channel: Channel) -> None:
        """A connection has ended; never blocks."""
        if channel in self._by_channel:
            for held in {held for waiting in self._held.values() for held in waiting if held.channel is channel}:
                self._let_go(held)

    def _try(self, held: _Held, at_its_end: bool) -> None:
        try:
            answer = held.answer(at_its_end)
        except Refused as refused:
            answer = RemotingCommand.response_to(held.request, refused.code, refused.remark, refused.ext_fields)
        except GRocketMQError as error:
            answer = RemotingCommand.response_to(held.request, ResponseCode.SYSTEM_ERROR, str(error))
        if answer is not None or at_its_end:
            self._let_go(held)
        if answer is not None:
            held.channel.reply(answer)

    def _let_go(self, held: _Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
        for key in held.keys:
            waiting = self._held[key]
            del waiting[held]
            if not waiting:
                del self._held[key]
        self._by_channel[held.channel] -= 1
        if not self._by_channel[held.channel]:
            del self._by_channel[held.channel]
