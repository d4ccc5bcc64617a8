"""A listener whose calls the hooks are told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grocketmq.consumer.listener import consumed_of, orderly_outcome_of
from grocketmq.hooks import Hooks
from grocketmq.model.message import MessageExt
from grocketmq.model.results import ConsumeOrderlyStatus

__all__ = ["hooked_listener"]

_DONE = (ConsumeOrderlyStatus.SUCCESS, ConsumeOrderlyStatus.COMMIT)

AdaptedListener = Callable[[list[MessageExt], Any], object]


def hooked_listener(listener: AdaptedListener, group: str, hooks: Hooks, *, orderly: bool) -> AdaptedListener:
    """A listener that tells hooks before and after it runs; the same one when none of them looks.  Never blocks.

    :param listener: ``(messages, context) -> answer``.
    :param group: the consumer's group.
    :param hooks: the consumer's.
    :param orderly: whether its answers are those of an orderly listener.
    """
    if not hooks.on_consume:
        return listener

    def call(messages: list[MessageExt], context: Any) -> object:
        told = hooks.begin_consume(group, context.message_queue, messages)
        try:
            answer = listener(messages, context)
            if orderly:
                told.consumed = len(told.messages) if orderly_outcome_of(answer) in _DONE else 0
            else:
                told.consumed = consumed_of(answer, context, len(told.messages))
        except BaseException as error:
            told.error = error
            raise
        finally:
            hooks.end_consume(told)
        return answer

    return call
