"""What a user writes to consume: a function of messages, and what it may say about them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import CodeType
from typing import Any

from grocketmq.errors import ConfigError
from grocketmq.model.message import MessageExt
from grocketmq.model.results import ConsumeOrderlyStatus, ConsumeResult, ConsumeStatus
from grocketmq.model.route import MessageQueue

__all__ = [
    "ConsumeContext",
    "Listener",
    "OrderlyContext",
    "adapt_listener",
    "listener_code",
    "consumed_of",
    "orderly_outcome_of",
]

#: What users write: ``listener(msgs)`` or ``listener(msgs, context)``.
Listener = Callable[..., object]


@dataclass(slots=True)
class ConsumeContext:
    """Given to a concurrent listener that takes two arguments.

    :param message_queue: where the messages come from.
    :param ack_index: index of the last message that was consumed; set it to send those after it back.  None: all were.
    :param delay_level_when_next_consume: the delay of those sent back: 0 grows with each time, -1 means the dead letters.
    """

    message_queue: MessageQueue
    ack_index: int | None = None
    delay_level_when_next_consume: int = 0


def adapt_listener(listener: Listener) -> Callable[[list[MessageExt], ConsumeContext], object]:
    """Make any listener take messages and a context; never blocks.

    :param listener: a callable with one or two positional parameters.
    :raises ConfigError: when it is none.
    """
    if not callable(listener):
        raise ConfigError(f"listener {listener!r} is not callable")
    if inspect.iscoroutinefunction(listener):
        raise ConfigError(f"listener {listener!r} is a coroutine function; grocketmq runs greenlets, not coroutines")
    if _takes(listener, 2):
        return listener
    if _takes(listener, 1):
        return lambda messages, context: listener(messages)
    raise ConfigError(f"listener {listener!r} must be callable as listener(msgs) or listener(msgs, context)")


def _takes(listener: Callable[..., Any], count: int) -> bool:
    try:
        signature = inspect.signature(listener)
    except (TypeError, ValueError):
        return count == 1
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def consumed_of(answer: object, context: ConsumeContext, count: int) -> int:
    """How many messages, from the first on, a concurrent listener's answer says were consumed; never blocks.

    :param answer: what it returned.
    :param context: what it may have set.
    :param count: how many messages it was given.
    :raises TypeError: for an answer that is none, so that a slip is no silent success.
    """
    ack_index = context.ack_index
    status: object = answer
    if isinstance(answer, ConsumeResult):
        status = answer.status
        ack_index = answer.ack_index if answer.ack_index is not None else ack_index
    if status is None or status is ConsumeStatus.SUCCESS:
        return count if ack_index is None else max(0, min(count, ack_index + 1))
    if status is ConsumeStatus.RECONSUME_LATER:
        return 0
    raise TypeError(f"a listener returns None, a ConsumeStatus or a ConsumeResult, not {answer!r:.80}")


@dataclass(slots=True)
class OrderlyContext:
    """Given to an orderly listener that takes two arguments.

    :param message_queue: where the messages come from.
    :param auto_commit: whether ``SUCCESS`` stores the offset; if not, that takes ``COMMIT``, and ``ROLLBACK`` has everything
        since then consumed again.
    :param suspend_queue_time: seconds the queue waits after ``SUSPEND_CURRENT_QUEUE_A_MOMENT``, 0.01 to 30.
    """

    message_queue: MessageQueue
    auto_commit: bool = True
    suspend_queue_time: float = 1.0


def orderly_outcome_of(answer: object) -> ConsumeOrderlyStatus:
    """What an orderly listener's answer means; never blocks.

    :param answer: what it returned; None means ``SUCCESS``.
    :raises TypeError: for an answer that is none.
    """
    if answer is None:
        return ConsumeOrderlyStatus.SUCCESS
    if isinstance(answer, ConsumeOrderlyStatus):
        return answer
    raise TypeError(f"an orderly listener returns None or a ConsumeOrderlyStatus, not {answer!r:.80}")


def listener_code(listener: Listener) -> CodeType | None:
    """The code by which a listener is known in a stack; None when it has none of its own.

    :param listener: a function, a method, or an object with ``__call__``.
    """
    function = inspect.unwrap(listener)
    if isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    code: CodeType | None = getattr(getattr(function, "__func__", function), "__code__", None)
    return code
