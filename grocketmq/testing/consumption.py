"""A consumer under test: what its listener was given, and what went wrong in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from grocketmq import MessageExt, PushConsumer
from grocketmq.consumer.listener import adapt_listener

__all__ = ["Consumption"]


class Consumption:
    """What ``rocketmq_consumer_factory`` makes: a running push consumer with a listener under test.

    :param listener: the listener; None only collects messages.
    :param may_fail: whether its errors are part of the test; else the first of them fails the test.
    """

    def __init__(self, listener: Callable[..., object] | None, *, may_fail: bool = False) -> None:
        #: The consumer; set once it was made.
        self.consumer: PushConsumer
        #: What the listener was given and did not fail, in the order it came.
        self.messages: list[MessageExt] = []
        #: What the listener raised, in that order.
        self.errors: list[BaseException] = []
        self.may_fail = may_fail
        self._listener = adapt_listener(_nothing if listener is None else listener)
        self._changed = Event()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of :attr:`messages`."""
        return [message.body for message in self.messages]

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[MessageExt]:
        """Wait until the listener has done so many messages; blocks this greenlet only, others and the cluster go on.

        :param count: how many, since the consumer was started.
        :param timeout: seconds.
        :returns: :attr:`messages`, which may be more.
        :raises AssertionError: when they do not come in time.  What the listener raised is raised at once, unless it may fail.
        """
        self._wait(lambda: len(self.messages) >= count or self.failure is not None, timeout)
        if self.failure is not None:
            raise self.failure
        if len(self.messages) < count:
            raise AssertionError(
                f"{len(self.messages)} of {count} messages were consumed within {timeout:g} s, "
                f"the listener failed {len(self.errors)} times"
            )
        return self.messages

    def wait_for_errors(self, count: int = 1, timeout: float = 10.0) -> list[BaseException]:
        """Wait until the listener has failed so often; for a listener that may fail.  Blocks as :meth:`wait` does.

        :param count: how often, since the consumer was started.
        :param timeout: seconds.
        :returns: :attr:`errors`.
        :raises AssertionError: when it does not fail so often in time.
        """
        self._wait(lambda: len(self.errors) >= count, timeout)
        if len(self.errors) < count:
            raise AssertionError(f"the listener failed {len(self.errors)} of {count} times within {timeout:g} s")
        return self.errors

    def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        with gevent.Timeout(timeout, False):
            while not condition():
                self._changed.clear()
                self._changed.wait()

    @property
    def failure(self) -> BaseException | None:
        """The error that is to fail the test, None without one."""
        return self.errors[0] if self.errors and not self.may_fail else None

    def listener(self) -> Callable[..., object]:
        """The listener that the consumer runs: the one under test, watched."""

        @functools.wraps(self._listener)
        def watched(msgs: list[MessageExt], context: Any) -> object:
            try:
                result = self._listener(msgs, context)
            except gevent.GreenletExit:
                raise
            except BaseException as error:
                self.errors.append(error)
                raise
            else:
                self.messages += msgs
                return result
            finally:
                self._changed.set()

        return watched


def _nothing(msgs: list[MessageExt]) -> None:
    """Consumes everything."""
