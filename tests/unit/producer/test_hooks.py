"""When the hooks of a producer are told, and what they hold up."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import gevent
import pytest

from grocketmq.errors import ClientStateError, ConnectError, ForkError, GRocketMQError, MessageError
from grocketmq.hooks import SendMessageContext, SendTryContext
from grocketmq.model.message import Message
from grocketmq.producer import Producer
from tests.unit.client.fakes import route
from tests.unit.producer.fakes import Brokers, producer_with

ONE = {"T": route("a", queues=4)}
request_id: ContextVar[str] = ContextVar("request_id", default="none")


def nothing(context: SendMessageContext) -> None:
    pass


class Told:
    """A hook that notes how sends ended, and may take its time about it."""

    def __init__(self, before: Callable[..., object] = nothing, after: Callable[..., object] = nothing) -> None:
        self.before, self.after = before, after
        self.begun = 0
        self.ended: list[tuple[SendMessageContext, str]] = []
        self.tries: list[SendTryContext] = []

    def before_send(self, context: SendMessageContext) -> None:
        self.begun += 1
        self.before(context)

    def after_send(self, context: SendMessageContext) -> None:
        self.ended.append((context, request_id.get()))
        self.after(context)

    def after_try(self, context: SendTryContext) -> None:
        self.tries.append(context)


def waits(context: SendMessageContext) -> None:
    gevent.sleep(30)


@pytest.mark.parametrize("begun", [False, True])
def test_an_async_send_that_is_cut_off_is_told_once_and_calls_nobody_back(begun: bool) -> None:
    hook, called = Told(), []
    with producer_with(Brokers(a=lambda *_: gevent.sleep(30)), routes=ONE, hooks=[hook]) as producer:
        request_id.set("of the caller")
        results = [producer.send_async(Message("T", b"x"), called.append, called.append) for _ in range(3)]
        request_id.set("of who shuts down")
        if begun:
            gevent.sleep(0.01)
        producer.shutdown(timeout=0.0)
        assert hook.begun == 3
        assert [name for _, name in hook.ended] == ["of the caller"] * 3
    assert len(hook.ended) == 3
    for result in results:
        with pytest.raises(ClientStateError, match="shut down"):
            result.get(block=False)
    assert any(isinstance(context.error, ClientStateError) for context, _ in hook.ended) is not begun
    assert called == []


@pytest.mark.parametrize("answer", [None, ConnectError("refused")])
def test_a_hook_that_waits_holds_up_neither_the_result_nor_the_window(answer: GRocketMQError | None) -> None:
    """And a kill in it takes nothing back."""
    hook = Told(after=waits)
    with producer_with(Brokers(a=answer), routes=ONE, hooks=[hook], retries=0) as producer:
        result = producer.send_async(Message("T", b"x"))
        result.wait(timeout=1)
        assert result.ready()
        assert producer._window.messages == 0
        gevent.sleep(0)
        producer.shutdown(timeout=0.0)
    assert result.successful() is (answer is None)
    assert not isinstance(result.exception, ClientStateError)
    [(context, _)] = hook.ended
    assert (context.error is None) is (answer is None)


@pytest.mark.parametrize(
    "send",
    [
        Producer.send,
        Producer.send_oneway,
        lambda producer, msg: producer.send_batch([msg]),
    ],
    ids=["send", "oneway", "batch"],
)
def test_a_timeout_in_a_hook_that_waits_is_no_second_end(send: Callable[..., Any]) -> None:
    hook = Told(after=waits)
    with producer_with(Brokers(), routes=ONE, hooks=[hook]) as producer, pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        send(producer, Message("T", b"x"))
    [(context, _)] = hook.ended
    assert context.error is None


def test_the_time_of_a_send_is_without_that_of_the_hooks_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0

    def takes_long(context: SendMessageContext) -> None:
        nonlocal now
        now += 60.0

    def broker(*_: object) -> None:
        nonlocal now
        now += 2.0

    monkeypatch.setattr("grocketmq.hooks.monotonic", lambda: now)
    hook = Told(before=takes_long)
    with producer_with(Brokers(a=broker), routes=ONE, hooks=[hook]) as producer:
        producer.send(Message("T", b"x"))
    assert hook.ended[0][0].seconds == 2.0


def test_what_was_not_tried_is_no_try() -> None:
    """A broker that cannot take a timer message is not asked; a message of a parent process is not sent by its child."""
    hook, brokers = Told(), Brokers()
    with producer_with(brokers, routes=ONE, hooks=[hook]) as producer:
        producer._instance.broker_version = lambda *_: 0  # type: ignore[method-assign]
        with pytest.raises(MessageError, match="ignores delay"):
            producer.send(Message("T", b"x", delay=60.0))
        producer._instance_for = _forked  # type: ignore[method-assign]
        with pytest.raises(ForkError):
            producer.send(Message("T", b"x"))
    assert (brokers.tries, hook.tries) == ([], [])
    assert len(hook.ended) == 2


def _forked(sends: object) -> Any:
    raise ForkError("this call began before the fork")
