"""Stand-ins and clients that end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kapokmq.server import Registry, StandIn

KEY = "test"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def new_server(stack: contextlib.ExitStack) -> Callable[..., StandIn]:
    """``new_server(**options)`` gives a started :class:`StandIn`."""
    return lambda **options: stack.enter_context(StandIn(**options))


@pytest.fixture
def server(new_server: Callable[..., StandIn]) -> StandIn:
    return new_server()


@pytest.fixture
def registry(stack: contextlib.ExitStack) -> Registry:
    return stack.enter_context(Registry(stale=0.5))


@pytest.fixture
def new_producer(stack: contextlib.ExitStack) -> Callable[..., Any]:
    """``new_producer(server, id, **options)`` gives a started producer of topic ``t``; ``start=False`` one that is not."""
    return _maker(stack, "Producer")


@pytest.fixture
def new_consumer(stack: contextlib.ExitStack) -> Callable[..., Any]:
    return _maker(stack, "Consumer")


@pytest.fixture
def new_cluster_producer(stack: contextlib.ExitStack) -> Callable[..., Any]:
    return _maker(stack, "ClusterProducer")


def _maker(stack: contextlib.ExitStack, kind: str) -> Callable[..., Any]:
    from grocketmq import kapokmq

    def make(
        server: Any, client_id: str = "one", *, topic: str = "t", key: str = KEY, start: bool = True, **options: Any
    ) -> Any:
        client = getattr(kapokmq, kind)(server.host, server.port, topic, client_id, key, **options)
        stack.callback(client.close, 1.0)
        if start:
            client.start()
        return client

    return make
