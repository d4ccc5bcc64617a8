"""The rules that every test is held to.

* It ends in time; if it does not, the stacks of all greenlets and threads are printed and it fails.
* No greenlet dies of an error that nobody handled.
* It times nothing that is too short for the event loop, where that is libuv.
* It leaves no greenlet and no socket behind, save with ``@pytest.mark.leaves("sockets", reason="...")``.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import greenlet
import pytest
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Hub
from gevent.util import format_run_info
from hypothesis import HealthCheck, settings

from grocketmq.runtime.deadline import waitable
from tests.faults import FaultProxy

#: Seconds for what a test started to end by itself after the test.
GRACE = 2.0
#: After the limit, a test may still be stuck in C code, where no signal handler runs: then the process ends.
HARD_LIMIT = 60.0
#: Seconds for tests that start a broker, which may have to be fetched first.
BROKER_LIMIT = 300.0
#: Seconds between further attempts, when the first one was swallowed.
REPEAT = 10.0

# No deadline a example: the machine may be busy, and the timeout catches what hangs.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("default"), max_examples=20)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile("default")

passed = pytest.StashKey[bool]()
real_stderr = pytest.StashKey[int]()
started: "weakref.WeakSet[gevent.Greenlet]" = weakref.WeakSet()
errors: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("test_timeout", "seconds for each of setup, call and teardown of a test", default="60")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[real_stderr] = os.dup(2)
    gevent.Greenlet.add_spawn_callback(started.add)
    watch_greenlet_errors()
    if gevent.config.loop.__module__ == "gevent.libuv.loop":
        watch_timers()


def pytest_unconfigure(config: pytest.Config) -> None:
    gevent.Greenlet.remove_spawn_callback(started.add)
    os.close(config.stash[real_stderr])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        leaves = item.get_closest_marker("leaves")
        if leaves and not leaves.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: the marker leaves() wants a reason=")


# Timeout


class TimeLimitExceeded(pytest.fail.Exception):
    """A test did not end in time. Not an ``Exception``, so that the code under test lets it pass."""


def limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0])
    if item.get_closest_marker("broker") is not None:
        return BROKER_LIMIT
    return float(item.config.getini("test_timeout"))


@contextlib.contextmanager
def time_limit(item: pytest.Item, phase: str) -> Iterator[None]:
    limit = limit_of(item)

    def expired(signum: int, frame: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large repr, which must not take the place of our error
            print(*format_run_info(), sep="\n", file=sys.stderr)
        raise_in_main(TimeLimitExceeded(f"{phase} did not end within {limit:g} s; stacks are on stderr"))

    previous = signal.signal(signal.SIGALRM, expired)
    faulthandler.dump_traceback_later(limit + HARD_LIMIT, exit=True, file=item.config.stash[real_stderr])
    signal.setitimer(signal.ITIMER_REAL, limit, REPEAT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, previous)


def raise_in_main(error: BaseException) -> None:
    """Raise in the main greenlet, where the test is; the handler runs in whichever greenlet is current."""
    hub = get_hub_if_exists()
    if hub is not None and greenlet.getcurrent() is not hub.parent:
        hub.parent.throw(error)
    # Also where it was stuck, when that runs again: a hub callback that spins would spoil all later tests.
    raise error


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with time_limit(item, "setup"):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with time_limit(item, "the test"):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with time_limit(item, "teardown"):
        return (yield)


# Errors in greenlets and hub callbacks


def watch_greenlet_errors() -> None:
    """Note what the hub of any thread would only print.

    The method is replaced on the class, so that hubs made before and after, patched or not, are covered.
    """
    original = Hub.handle_error

    def handle_error(self: Hub, context: Any, type: Any, value: Any, tb: Any) -> None:
        if issubclass(type, TimeLimitExceeded):
            return  # the test has had it already
        # System errors reach the main greenlet, and so the test, anyway.
        if context is not None and not issubclass(type, (*self.NOT_ERROR, *self.SYSTEM_ERROR)):
            errors.append(f"in {context!r}:\n" + "".join(traceback.format_exception(type, value, tb)))
        original(self, context, type, value, tb)

    Hub.handle_error = handle_error


def watch_timers() -> None:
    """gevent warns of a timer that is too short for libuv when libuv has it already.  An error made of that warning frees the
    timer's memory all the same, and a later test is aborted.  So here such a timer is made longer, and ours are errors."""
    from gevent.libuv.watcher import timer

    original = timer.__init__

    def note(self: Any, loop: Any, after: float = 0.0, repeat: float = 0.0, *options: Any, **named: Any) -> None:
        if waitable(after) > after or waitable(repeat) > repeat:
            calls = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
            made_in = next(frame for frame in calls if not frame.f_globals["__name__"].startswith("gevent."))
            if made_in.f_globals["__name__"].startswith("grocketmq."):
                errors.append(f"a timer of {after or repeat:g} s:\n" + "".join(traceback.format_stack(made_in, limit=3)))
        original(self, loop, waitable(after), waitable(repeat), *options, **named)

    timer.__init__ = note


@pytest.fixture
def greenlet_errors() -> list[str]:
    """Errors that no greenlet handled. A test that provokes some checks them and then calls ``clear()``."""
    return errors


# Left-overs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if report.when == "call":
        item.stash[passed] = report.passed
    return report


def running_greenlets() -> set[gevent.Greenlet]:
    return {task for task in started if task and task is not greenlet.getcurrent()}


def open_sockets() -> set[str]:
    sockets = set()
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            sockets.add(f"{target} (fd {fd})")
    return sockets


WATCHED: dict[str, Callable[[], set[Any]]] = {"greenlets": running_greenlets, "sockets": open_sockets}


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("leaves")
    watched = {kind: look for kind, look in WATCHED.items() if marker is None or kind not in marker.args}
    before = {kind: look() for kind, look in watched.items()}
    errors.clear()
    yield
    if not request.node.stash.get(passed, False):
        return  # one failure is enough
    for kind, look in watched.items():
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(GRACE):
            while look() - before[kind]:
                gevent.sleep(0.005)
        left = look() - before[kind]
        if left:
            pytest.fail(f"left over {kind}:\n" + "\n".join(describe(thing) for thing in left), pytrace=False)
    if errors:
        pytest.fail("errors that no greenlet handled:\n" + "\n".join(errors), pytrace=False)


def describe(thing: Any) -> str:
    if isinstance(thing, gevent.Greenlet) and thing.gr_frame is not None:
        return f"{thing!r}\n" + "".join(traceback.format_stack(thing.gr_frame)[-3:])
    return str(thing)


# Shared fixtures


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[tuple[str, int]], FaultProxy]]:
    """``fault_proxy(target)`` gives a started :class:`FaultProxy`, which stops after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda target: stack.enter_context(FaultProxy(target))
