"""Hooks: what a program wants to be told of messages on their way.

An object in the option ``hooks`` has any of these methods:

=========================================  =======================================================================
method                                     when it is called
=========================================  =======================================================================
``before_start(client)``                   a client is about to start, in a forked child too
``before_send(context)``                   a message is about to be checked and sent; may add to its properties
``after_send(context)``                    it was sent, or failed for good
``after_try(context)``                     one try of a send has ended; a batch's tries are one message's
``before_consume(context)``                messages are about to be given to the listener, or were polled
``after_consume(context)``                 the listener has ended
``filter_messages(context)``               messages were pulled; returns those that are to be kept
``before_request(address, request)``,      every request and its answer
``after_response(address, request, ...)``
``after_connect(address, seconds, ...)``   a connection was made, or could not be
=========================================  =======================================================================

They run in the greenlet whose work they look at, with the context variables of whoever called ``send``, or of the listener.
There are exceptions:

- ``after_connect`` runs in the connection's greenlet;
- ``after_send`` of an async send that ``shutdown`` cut off before it began runs in the greenlet that calls ``shutdown``;
- with ``auto_batch`` a try is that of a batch, and ``after_try`` runs in the batch's greenlet, in no caller's context;
- the first try of a oneway message is not told.  Now and then one asks for an answer; if it fails, it is sent again in the
  background, and those tries are told there;
- ``after_try`` is not told of a try that a kill, or a ``gevent.Timeout`` of the caller's, has ended.

An ``Exception`` in one is logged and changes nothing.  So is a ``gevent.Timeout`` that is let through around a listener or by
``after_connect``.  Elsewhere it cannot be told from one that the caller has set, and ends the call, though the message may be
stored: hooks that set timeouts catch them.

Source: Apache RocketMQ 5.3.3, module client, classes ``SendMessageHook``, ``ConsumeMessageHook``, ``FilterMessageHook``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from time import monotonic, time_ns
from typing import Any, TypeVar

from grocketmq.errors import ConfigError, GRocketMQError
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.results import SendResult
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.tasks import FAILURES

__all__ = ["ConsumeMessageContext", "FilterMessageContext", "Hooks", "SendMessageContext", "SendMode", "SendTryContext"]

log = logging.getLogger(__name__)

_METHODS = (
    "before_start",
    "before_send",
    "after_send",
    "after_try",
    "before_consume",
    "after_consume",
    "filter_messages",
    "before_request",
    "after_response",
    "after_connect",
)

#: What a send gives: nothing if it is oneway.
Sent = TypeVar("Sent", bound=SendResult | None)


class SendMode(Enum):
    """Which way a message is sent."""

    SYNC = "sync"
    ASYNC = "async"
    ONEWAY = "oneway"


@dataclass(slots=True, eq=False)
class _CallContext:
    """A call that hooks see twice, before and after."""

    _data: dict[Any, Any] | None = field(default=None, init=False, repr=False)
    _began: float = field(default_factory=monotonic, init=False, repr=False)

    @property
    def data(self) -> dict[Any, Any]:
        """For hooks to keep what they need from before to after, each under a key of its own."""
        if self._data is None:
            self._data = {}
        return self._data


@dataclass(slots=True, eq=False)
class SendMessageContext(_CallContext):
    """One call of ``send`` or its sisters.

    :param group: the producer's group.
    :param messages: what is sent: one message, or those of a batch.
    :param mode: which way.
    :param born_timestamp: when the call began, ms since the epoch.
    :param result: where it was stored; None before, after a failure, and for oneway messages.
    :param error: why it failed; None if it did not.
    :param seconds: how long the call took, all its tries together, from the end of ``before_send`` on.
    :param transactional: whether it is a half message, whose transaction decides whether it is delivered.
    """

    group: str
    messages: Sequence[Message]
    mode: SendMode
    born_timestamp: int
    result: SendResult | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    transactional: bool = False

    @property
    def message(self) -> Message:
        """The message; of a batch the first."""
        return self.messages[0]


@dataclass(frozen=True, slots=True, eq=False)
class SendTryContext:
    """One try of a send; a send has several when the first ones fail.

    :param group: the producer's group.
    :param message_queue: where it was sent to.
    :param seconds: how long the try took, from the choice of the queue to the answer; pauses between tries are not in it.
    :param error: why it failed; None if it did not.
    """

    group: str
    message_queue: MessageQueue
    seconds: float
    error: GRocketMQError | None


@dataclass(slots=True, eq=False)
class ConsumeMessageContext(_CallContext):
    """One call of a listener, or messages that were polled.

    :param group: the consumer's group.
    :param message_queue: where the messages come from.
    :param messages: all of them, of one queue.
    :param consumed: how many of them, from the first on, were consumed; 0 before.
    :param error: what the listener raised; None if it did not.
    :param seconds: how long the listener took.
    """

    group: str
    message_queue: MessageQueue
    messages: Sequence[MessageExt]
    consumed: int = 0
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def success(self) -> bool:
        """Whether all were consumed."""
        return self.consumed == len(self.messages)


@dataclass(frozen=True, slots=True, eq=False)
class FilterMessageContext:
    """Messages that were pulled, and fit the subscription.

    :param group: the consumer's group.
    :param message_queue: where they come from.
    :param messages: all of them.
    """

    group: str
    message_queue: MessageQueue
    messages: Sequence[MessageExt]


class Hooks:
    """The hooks of one client, by what they look at; an empty tuple costs its user one test.

    :param hooks: the objects, in the order they are called.
    :raises ConfigError: for one that has none of the methods.
    """

    def __init__(self, hooks: Iterable[object] = ()) -> None:
        hooks = tuple(hooks)
        for hook in hooks:
            if not any(hasattr(hook, name) for name in _METHODS):
                raise ConfigError(f"hook {hook!r} has none of the methods {', '.join(_METHODS)}")
        self.before_start = _methods(hooks, "before_start")
        self.before_send = _methods(hooks, "before_send")
        self.after_send = _methods(hooks, "after_send")
        self.after_try = _methods(hooks, "after_try")
        self.before_consume = _methods(hooks, "before_consume")
        self.after_consume = _methods(hooks, "after_consume")
        self.filter_messages = _methods(hooks, "filter_messages")

    @property
    def on_send(self) -> bool:
        """Whether any looks at sends."""
        return bool(self.before_send or self.after_send)

    @property
    def on_consume(self) -> bool:
        """Whether any looks at what is consumed."""
        return bool(self.before_consume or self.after_consume)

    def starting(self, client: object) -> None:
        """Tell that a client is about to start; blocks as long as the hooks do."""
        _tell(self.before_start, client)

    def begin_send(
        self, group: str, messages: Sequence[Message], mode: SendMode, *, transactional: bool = False
    ) -> SendMessageContext:
        """Tell that messages are about to be sent; blocks as long as the hooks do.

        :returns: for :meth:`end_send`, when they were sent or failed.
        """
        context = SendMessageContext(group, tuple(messages), mode, time_ns() // 1_000_000, transactional=transactional)
        if self.before_send:
            _tell(self.before_send, context)
            context._began = monotonic()
        return context

    def end_send(
        self, context: SendMessageContext, result: SendResult | None = None, error: BaseException | None = None
    ) -> None:
        """Tell how a send ended; blocks as long as the hooks do."""
        context.result = result
        context.error = error
        context.seconds = monotonic() - context._began
        _tell(self.after_send, context)

    def tried(self, context: SendTryContext) -> None:
        """Tell how a try of a send ended; blocks as long as the hooks do."""
        _tell(self.after_try, context)

    def around_send(self, context: SendMessageContext, send: Callable[[], Sent]) -> Sent:
        """Send, and tell how it ended.

        :param context: what :meth:`begin_send` gave.
        """
        try:
            result = send()
        except BaseException as error:
            self.end_send(context, error=error)
            raise
        self.end_send(context, result)
        return result

    def begin_consume(self, group: str, queue: MessageQueue, messages: Sequence[MessageExt]) -> ConsumeMessageContext:
        """Tell that a listener is about to be called; blocks as long as the hooks do.

        :returns: for :meth:`end_consume`; ``consumed`` and ``error`` are to be noted there.
        """
        context = ConsumeMessageContext(group, queue, tuple(messages))
        if self.before_consume:
            _tell(self.before_consume, context, FAILURES)
            context._began = monotonic()
        return context

    def end_consume(self, context: ConsumeMessageContext) -> None:
        """Tell that the listener has ended; blocks as long as the hooks do."""
        context.seconds = monotonic() - context._began
        _tell(self.after_consume, context, FAILURES)

    def polled(self, group: str, queue: MessageQueue, messages: Sequence[MessageExt]) -> None:
        """Tell of messages that were handed out to be worked on elsewhere; blocks as long as the hooks do."""
        context = ConsumeMessageContext(group, queue, tuple(messages))
        _tell(self.before_consume, context)
        context.consumed = len(context.messages)
        _tell(self.after_consume, context)

    def kept(self, group: str, queue: MessageQueue, messages: list[MessageExt]) -> list[MessageExt]:
        """The messages that every filter keeps, in their order; blocks as long as the filters do."""
        for keep in self.filter_messages:
            try:
                kept = {id(message) for message in keep(FilterMessageContext(group, queue, tuple(messages)))}
            except Exception:
                log.exception("filter hook %r failed with %d messages of %s; it keeps them all", keep, len(messages), queue)
            else:
                messages = [message for message in messages if id(message) in kept]
        return messages


def tell_begin(hooks: Hooks | None, group: str, messages: Sequence[Message], mode: SendMode) -> Callable[..., None]:
    """As :meth:`Hooks.begin_send`, where there may be no hooks.

    :returns: to be called as :meth:`Hooks.end_send` is, without the context.
    """
    if hooks is None:
        return _tell_nobody
    return partial(hooks.end_send, hooks.begin_send(group, messages, mode))


def _tell_nobody(result: SendResult | None = None, error: BaseException | None = None) -> None:
    pass


def _methods(hooks: Sequence[object], name: str) -> tuple[Callable[[Any], Any], ...]:
    return tuple(getattr(hook, name) for hook in hooks if hasattr(hook, name))


def _tell(
    methods: Sequence[Callable[[Any], object]], context: object, failures: tuple[type[BaseException], ...] = (Exception,)
) -> None:
    for method in methods:
        try:
            method(context)
        except failures:
            log.exception("hook %r failed; what it looked at goes on", method)
