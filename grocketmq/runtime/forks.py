"""What must not go on in a forked child.

A fork copies everything: sockets that the parent still uses, greenlets that would run a second time, watchers of the event
loop.  Who owns such a thing registers here and is told to abandon it, in the child, before anything else runs there:

* by the interpreter's at-fork hook, also in the short-lived child of ``subprocess``, so abandoning must be quick;
* by a watcher of the event loop and by the next public call, where a server such as uWSGI runs no at-fork hooks.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import gevent
from gevent._hub_local import get_hub_if_exists

__all__ = ["Inherited", "drop_in_child", "notice_fork", "watch_hub"]


class Inherited(Protocol):
    """Something that a forked child must drop."""

    def abandon(self) -> None:
        """Stop, in the child: no I/O but closing descriptors, no log line, no switch, nobody is woken."""


_inherited: WeakSet[Inherited] = WeakSet()
#: Those whose watchers they have.
_hubs: WeakSet[gevent.hub.Hub] = WeakSet()
_watchers: WeakKeyDictionary[gevent.hub.Hub, Any] = WeakKeyDictionary()
#: The process in which nothing is left to abandon; 0 before anything was registered.
_pid = 0


def drop_in_child(thing: Inherited) -> None:
    """Have something abandoned in every forked child from now on; never blocks.

    :param thing: kept as a weak reference.
    """
    global _pid
    if not _pid:
        _pid = os.getpid()
        os.register_at_fork(after_in_child=_abandon_all)
    notice_fork()
    _inherited.add(thing)
    hub = get_hub_if_exists()
    if hub is not None:
        _hubs.add(hub)


def notice_fork() -> None:
    """Abandon everything if this is a forked child in which that has not happened yet; never blocks."""
    if os.getpid() != _pid and _pid:
        _abandon_all()


def watch_hub() -> None:
    """Have this thread's event loop notice a fork, where nothing else does; never blocks."""
    hub = gevent.get_hub()
    if hub not in _watchers:
        watcher = _watchers[hub] = hub.loop.fork(ref=False)
        watcher.start(notice_fork)


def _abandon_all() -> None:
    global _pid
    _pid = os.getpid()
    for hub in list(_hubs):
        if hub.loop is not None and hub.loop.ptr:
            hub.loop.reinit()  # else libuv would take our descriptors out of the set that the parent's loop polls
    for thing in list(_inherited):
        thing.abandon()
