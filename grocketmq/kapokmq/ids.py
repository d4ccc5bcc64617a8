"""Which ids are in use in this process, and when each logged in last.

A server files a client under its id, topic, address and the whole second of its login.  Two logins of one id in the same
second leave the first client deaf: it stays connected and gets no push any more.  So an id belongs to one client of the
process, and two logins of it lie at least ``LOGIN_GAP`` apart.

Source: dpwgc/kapokmq, commit a8c2c0c, ``model/client.go``, ``server/consumer.go``.
"""

from __future__ import annotations

import os
from time import monotonic

from grocketmq.errors import ConfigError
from grocketmq.kapokmq.wire import Kind
from grocketmq.runtime.deadline import waitable

__all__ = ["LOGIN_GAP", "logged_in", "pause_before_login", "release", "reserve"]

#: Seconds between two logins of one id at one server, at least.
LOGIN_GAP = 1.1

#: Process, kind and id, while a client has it.  A forked child has none of its parent's.
_in_use: set[tuple[int, Kind, str]] = set()
#: Server and path of a login -> when it was.
_logins: dict[tuple[str, str], float] = {}


def reserve(kind: Kind, client_id: str) -> None:
    """Take an id.

    :raises ConfigError: another client of the process has it.
    """
    if (os.getpid(), kind, client_id) in _in_use:
        raise ConfigError(
            f"{kind}_id {client_id!r} is in use by another {kind} of this process; give this one an id of its own, "
            "or shut the other down first"
        )
    _in_use.add((os.getpid(), kind, client_id))


def release(kind: Kind, client_id: str) -> None:
    """Give an id back."""
    _in_use.discard((os.getpid(), kind, client_id))


def pause_before_login(address: str, target: str) -> float:
    """Seconds until the next login there is safe."""
    return waitable(_logins.get((address, target), float("-inf")) + LOGIN_GAP - monotonic())


def logged_in(address: str, target: str) -> None:
    """Note that a login was, or may have been."""
    now = monotonic()
    for key in [key for key, at in _logins.items() if now - at > LOGIN_GAP]:
        del _logins[key]
    _logins[address, target] = now
