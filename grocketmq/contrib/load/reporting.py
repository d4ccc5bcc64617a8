"""How steps and failures are told to Locust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, time
from typing import Any

from locust.exception import RescheduleTask

from grocketmq import BrokerError, SendError

__all__ = ["Failure", "fire", "measured"]


class Failure(Exception):
    """What Locust counts failures by: no ids, times or addresses, which would make each of them another one.

    ``__cause__`` is the error, for listeners of Locust's ``request`` event.
    """

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that an error is."""
        if isinstance(error, Failure):
            return error
        failure = cls(_kind(error))
        failure.__cause__ = error
        return failure


def _kind(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, SendError):
        return f"{name}: {_kind(error.attempts[-1].error)}"
    return f"{name} {error.code}" if isinstance(error, BrokerError) else name


@contextmanager
def measured(
    environment: Any, kind: str, name: str, length: int = 0, context: Any = None, late: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Report how long the block takes.

    An ``Exception`` in it is reported as a failure and ends the task, by Locust's ``RescheduleTask``.

    :param environment: the user's.
    :param kind: the type in the report.
    :param name: the name in the report.
    :param length: bytes.
    :param context: what :meth:`User.context` gave.
    :param late: seconds since it should have begun, which count.
    :returns: what is reported; the block may set ``response_time`` (ms) and ``response_length``.
    """
    report = {"response_length": length}
    began = perf_counter() - late
    try:
        yield report
    except Exception as error:
        fire(environment, kind, name, perf_counter() - began, 0, error, context)
        raise RescheduleTask from error
    seconds = report.get("response_time", (perf_counter() - began) * 1000) / 1000
    fire(environment, kind, name, seconds, report["response_length"], None, context)


def fire(
    environment: Any, kind: str, name: str, seconds: float, length: int = 0, error: Exception | None = None, context: Any = None
) -> None:
    """Tell Locust of one step.

    :param environment: the user's.
    :param kind: the type in the report.
    :param name: the name in the report.
    :param seconds: how long it took; by the clocks of two machines that may be less than 0.
    :param length: bytes.
    :param error: why it failed; None if it did not.
    :param context: what :meth:`User.context` gave.
    """
    environment.events.request.fire(
        request_type=kind,
        name=name,
        response_time=seconds * 1000,
        response_length=length,
        exception=None if error is None else Failure.of(error),
        context=context or {},
        start_time=time() - seconds,
        url=None,
        response=None,
    )
