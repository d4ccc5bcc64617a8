"""Fixtures of the remoting tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.remoting.servers import Clients, Server


@pytest.fixture
def clients() -> Iterator[Clients]:
    """``clients(**options)`` makes a ``RemotingClient``, which is closed after the test."""
    clients = Clients()
    yield clients
    clients.end()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """``server(serve)`` gives a started :class:`Server`, which stops after the test."""
    with contextlib.ExitStack() as stack:

        def start(*args: Any, **options: Any) -> Server:
            return stack.enter_context(Server(*args, **options))

        yield start
