"""What a listener may be, and what its answers mean."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from grocketmq.consumer.listener import ConsumeContext, adapt_listener, consumed_of
from grocketmq.errors import ConfigError
from grocketmq.model.results import ConsumeResult, ConsumeStatus
from tests.unit.consumer.fakes import QUEUE

MESSAGES: list[Any] = [object(), object()]


def context() -> ConsumeContext:
    return ConsumeContext(QUEUE)


class Callables:
    def method(self, msgs: object) -> object:
        return msgs

    def with_context(self, msgs: object, context: object) -> object:
        return (msgs, context)

    def __call__(self, msgs: object, context: object = None) -> object:
        return (msgs, context)


@pytest.mark.parametrize(
    ("listener", "two"),
    [
        (lambda msgs: msgs, False),
        (lambda msgs, context: (msgs, context), True),
        (lambda *args: args, True),
        (lambda msgs, context=None: (msgs, context), True),
        (lambda msgs, *, option=1: msgs, False),
        (Callables().method, False),
        (Callables().with_context, True),
        (Callables(), True),
        (functools.partial(lambda extra, msgs: msgs, "extra"), False),
    ],
)
def test_listeners_of_one_and_of_two_arguments(listener: Any, two: bool) -> None:
    given = context()
    assert adapt_listener(listener)(MESSAGES, given) == ((MESSAGES, given) if two else MESSAGES)


async def coroutine(msgs: object) -> None:
    """No listener."""


@pytest.mark.parametrize("listener", [None, "text", lambda: None, lambda a, b, c: None, lambda *, msgs: None, coroutine])
def test_no_listener(listener: Any) -> None:
    with pytest.raises(ConfigError, match="listener"):
        adapt_listener(listener)


SUCCESS, LATER = ConsumeStatus.SUCCESS, ConsumeStatus.RECONSUME_LATER


@pytest.mark.parametrize(
    ("answer", "ack_index", "consumed"),
    [
        (None, None, 5),
        (SUCCESS, None, 5),
        (LATER, None, 0),
        (None, 2, 3),
        (SUCCESS, 0, 1),
        (SUCCESS, -1, 0),
        (SUCCESS, 99, 5),
        (SUCCESS, -99, 0),
        (LATER, 2, 0),
        (ConsumeResult(SUCCESS), None, 5),
        (ConsumeResult(SUCCESS, 1), None, 2),
        (ConsumeResult(SUCCESS, -1), None, 0),
        (ConsumeResult(SUCCESS, 1), 3, 2),
        (ConsumeResult(SUCCESS), 3, 4),
        (ConsumeResult(LATER, 3), None, 0),
    ],
)
def test_answers(answer: object, ack_index: int | None, consumed: int) -> None:
    given = context()
    given.ack_index = ack_index
    assert consumed_of(answer, given, 5) == consumed


@pytest.mark.parametrize("answer", [True, False, 0, "SUCCESS", []])
def test_an_answer_that_is_none_is_no_success(answer: object) -> None:
    with pytest.raises(TypeError, match="returns None"):
        consumed_of(answer, context(), 5)
