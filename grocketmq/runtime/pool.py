"""Work that would hold the event loop: it goes to the hub's thread pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import gevent

__all__ = ["in_pool"]

P = ParamSpec("P")
T = TypeVar("T")


def in_pool(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in the hub's thread pool; blocks its greenlet only, until the function has ended.

    What it raises is raised here, and nowhere else: the pool by itself would print it too.

    :param work: burns CPU or reads files; it must touch nothing of gevent.
    :param args: its arguments.
    :param kwargs: likewise.
    :returns: what it returns.
    """

    def caught() -> tuple[T | None, Exception | None]:
        try:
            return work(*args, **kwargs), None
        except Exception as error:
            return None, error

    value, error = gevent.get_hub().threadpool.apply(caught)
    if error is not None:
        raise error
    return cast(T, value)
