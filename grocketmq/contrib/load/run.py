"""A load test as Locust runs it: in one process, or by workers that report to a master.

Each process with users has a :class:`Run`.  The process that reports in the end, which is the same one or the master, keeps a
:class:`Book`.  What they tell each other:

===================  ==================  ===========================================================================
from, to             by                  what
===================  ==================  ===========================================================================
master to workers    parsed options      the run's id, with the order to start users
worker to master     its reports         what was sent and came since the last one (every 3 s)
master to workers    ``rocketmq_stop``   stop your users now: a master that quits stops before its workers do
worker to master     ``rocketmq_idle``   they have stopped
master to workers    ``rocketmq_drain``  all have: what is stored by now is all there will be
worker to master     ``rocketmq_end``    the last report, once its consumers have all that and its clients have ended
===================  ==================  ===========================================================================

All of it names the test by the run's id: the next one may begin while processes still end this one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

import gevent
from gevent.event import Event
from locust.runners import STATE_CLEANUP, STATE_MISSING, STATE_STOPPED, MasterRunner, WorkerRunner

from grocketmq.contrib.load.clients import Clients, Watch
from grocketmq.contrib.load.ledger import Account, Ledger
from grocketmq.contrib.load.outages import Outages
from grocketmq.contrib.load.reporting import Failure, fire
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["Report", "clients_of", "report", "watch"]

#: Where Locust prints its own tables.
log = logging.getLogger("locust.stats_logger")

#: Among Locust's parsed options, which a master sends to its workers: the run's id.
_RUN_OPTION = "grocketmq_run"
_KEY = "rocketmq"
_STOP, _IDLE, _DRAIN, _END = "rocketmq_stop", "rocketmq_idle", "rocketmq_drain", "rocketmq_end"
#: Seconds between two reports of a process to itself.
_REPORT_INTERVAL = 1.0
#: Seconds that workers get to stop and to end, beyond what their users and consumers may take.
_END_MARGIN = 10.0
#: Seconds that a worker which quits by itself waits for the others to stop, as they do when all are told to at once.
_LEAVE_PAUSE = 3.0
#: Queues with lag that are printed.
_PRINTED_QUEUES = 8


@dataclass
class Report:
    """What a test has come to.

    :param account: what became of the messages.
    :param lag: for each queue, how many messages waited to be consumed when the users had stopped; none are left out.
    :param most_lag: the most that waited at once in one process.
    :param still_down: brokers that gave no answer, and topics that could not be sent to, up to the end.
    :param silent: workers that did not report their end; without that, what is told of the account is not all.
    """

    account: Account = field(default_factory=Account)
    lag: dict[str, int] = field(default_factory=dict)
    most_lag: int = 0
    still_down: list[str] = field(default_factory=list)
    silent: int = 0

    def lines(self) -> list[str]:
        """For people."""
        one, lines = self.account, []
        if one.sent or one.failed:
            lines = [
                f"sent {one.sent}, failed {one.failed}, {one.sent_bytes / 1e6:.1f} MB",
                f"came {one.arrived}, {one.arrived_bytes / 1e6:.1f} MB",
                f"lost {one.lost}, duplicates {one.duplicates}, out of order {one.out_of_order}, "
                f"redelivered {one.redelivered}, came though their send had failed {one.unsure}",
                f"lag at the end {sum(self.lag.values())}, at most {self.most_lag}",
            ]
        worst = sorted(self.lag.items(), key=lambda item: -item[1])
        lines += [f"  {count:>8} in {queue}" for queue, count in worst[:_PRINTED_QUEUES]]
        if self.still_down:
            lines.append(f"not back: {', '.join(self.still_down)}")
        if self.silent:
            lines.append(f"{self.silent} workers did not report their end, so messages may seem lost that are not")
        return lines


class Run:
    """The test under way in a process with users, until its clients have ended."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._id = _test_of(environment) or uuid4().hex[:8]
        self._stream = uuid4().hex[:8]
        self._outages = Outages()
        self._watch = Watch(environment, self._outages)
        self._clients: dict[Any, Clients] = {}
        #: The test's id, once its users have stopped: the next test may begin then.
        self.ending: str | None = None
        #: Set when no process has users any more.
        self.drain = Event()
        self.ended = Event()

    @property
    def test(self) -> str:
        """The id of the test that it is of."""
        return _test_of(self._environment) if self.ending is None else self.ending

    def clients(self, user: Any) -> Clients:
        """Those of a user's class, made when they are first asked for."""
        kind = type(user)
        found = self._clients.get(kind)
        if found is None:
            found = Clients(kind, self._environment, user.host, self._id, self._stream, self._watch)
            self._clients[kind] = found
        return found

    def take(self) -> dict[str, Any]:
        """What is new since the last call."""
        return {
            "test": self.test,
            "accounts": {kind.__name__: clients.recorder.take() for kind, clients in self._clients.items()},
        }

    def finish(self) -> dict[str, Any]:
        """Let consumers catch up, end all clients; the last report.  Clients that do not end well are logged."""
        lag: dict[str, int] = {}
        for kind, clients in self._clients.items():
            try:
                lag.update(clients.finish(kind.drain_timeout))
            except Exception:
                log.exception("the clients of %s did not end well", kind.__name__)
        most_lag = sum(clients.most_lag for clients in self._clients.values())
        return {**self.take(), "lag": lag, "most_lag": most_lag, "still_down": self._outages.lasting}


class Book:
    """What all processes have reported of a test."""

    def __init__(self) -> None:
        self._ledgers: dict[str, Ledger] = {}
        self._report = Report()
        self._told = False
        #: Workers without users, and those of them that have ended.
        self.idle: set[str] = set()
        self.ended: set[str] = set()

    def merge(self, told: Mapping[str, Any]) -> None:
        """Take a report in."""
        self._told = True
        for name, account in told["accounts"].items():
            self._ledgers.setdefault(name, Ledger()).merge(account)

    def end(self, told: Mapping[str, Any]) -> None:
        """Take a process's last report in."""
        self.merge(told)
        report = self._report
        for queue, count in told["lag"].items():
            report.lag[queue] = max(count, report.lag.get(queue, 0))
        report.most_lag = max(report.most_lag, told["most_lag"])
        report.still_down = sorted({*report.still_down, *told["still_down"]})

    def close(self, silent: int) -> Report | None:
        """What the test has come to; None when no RocketMQ user took part.

        :param silent: workers that did not report their end.
        """
        for ledger in self._ledgers.values():
            self._report.account += ledger.account()
        self._report.silent = silent
        return self._report if self._told else None


class _State:
    """What one environment has."""

    def __init__(self) -> None:
        #: The next one is made when this one has ended.
        self.run: Run | None = None
        self.report: Report | None = None
        self.tasks = TaskGroup("locust report")
        #: By the tests' ids, those that are not closed.
        self.books: WeakValueDictionary[str, Book] = WeakValueDictionary()
        self.open_book("")

    def open_book(self, test: str) -> None:
        """The book of a test that begins."""
        self.book = self.books[test] = Book()

    def end_run(self, test: str) -> Run | None:
        """The run of a test whose users have stopped; None when it has none, since the one before has not ended, too."""
        if self.run is None or self.run.ending is not None:
            return None
        self.run.ending = test
        return self.run

    def finish(self, run: Run) -> dict[str, Any]:
        """As :meth:`Run.finish`; users of the next test get clients then, however it went."""
        try:
            return run.finish()
        finally:
            self.tasks.stop_periodic()
            self.run = None
            run.ended.set()


_states: WeakKeyDictionary[Any, _State] = WeakKeyDictionary()


def clients_of(user: Any) -> Clients:
    """The clients of a user's class in this process; blocks while those of the last test end."""
    environment = user.environment
    watch(environment)
    state = _states[environment]
    while state.run is not None and state.run.ending is not None:
        state.run.ended.wait()
    if state.run is None:
        run, book = Run(environment), state.book
        state.run = run
        if not isinstance(environment.runner, WorkerRunner):
            state.tasks.periodic("merge", _REPORT_INTERVAL, lambda: book.merge(run.take()), _REPORT_INTERVAL)
    return state.run.clients(user)


def report(environment: Any) -> Report | None:
    """What the last test has come to, for listeners of ``quitting``; of several processes the master knows.

    :param environment: Locust's.
    :returns: None while a test is under way and before the first one, and when no RocketMQ user took part in it.
    """
    state = _states.get(environment)
    return None if state is None else state.report


def watch(environment: Any, **kwargs: Any) -> None:
    """Follow the tests of an environment; a second call does nothing."""
    if environment in _states:
        return
    _states[environment] = _State()
    events, runner = environment.events, environment.runner
    events.test_start.add_listener(_begin)
    events.test_stop.add_listener(_end)  # not quitting, which comes while users are at work
    if not isinstance(runner, MasterRunner):
        events.quitting.add_listener(_stop_first)
    if isinstance(runner, WorkerRunner):
        events.report_to_master.add_listener(lambda client_id, data: _add_report(environment, data))
        runner.register_message(_STOP, _asked_to_stop, concurrent=True)
        runner.register_message(_DRAIN, _asked_to_drain)
    elif isinstance(runner, MasterRunner):
        events.worker_report.add_listener(lambda client_id, data: _merge_report(environment, data))
        runner.register_message(_IDLE, _worker_idle)
        runner.register_message(_END, _worker_ended)


# -- in every process ----------------------------------------------------------------------------------------------------------


def _test_of(environment: Any) -> str:
    """The id of the test that began last; empty where no master gave it one."""
    return getattr(environment.parsed_options, _RUN_OPTION, "")


def _begin(environment: Any, **kwargs: Any) -> None:
    state = _states[environment]
    if isinstance(environment.runner, MasterRunner) and environment.parsed_options is not None:
        setattr(environment.parsed_options, _RUN_OPTION, uuid4().hex[:8])
    state.open_book(_test_of(environment))
    state.report = None


def _end(environment: Any, **kwargs: Any) -> None:
    state, runner, test = _states[environment], environment.runner, _test_of(environment)
    book, run = state.book, state.end_run(test)
    if isinstance(runner, WorkerRunner):
        state.tasks.spawn("end", _end_worker, environment, run, test)  # to hear the master meanwhile
        return
    silent = 0
    if isinstance(runner, MasterRunner):
        silent = _await_workers(environment, book, test)
    elif run is not None:
        book.end(state.finish(run))
    found = book.close(silent)
    last = state.book is book  # else the next test has begun: the report for listeners, and Locust's tables, are that one's
    if last:
        state.report = found
    if found is not None:
        lines = found.lines() + (_clock_lines(environment.stats) if last else [])
        if lines:
            log.info("\n".join(("RocketMQ", *lines, "")))
        if found.account.lost and last:
            fire(environment, "RMQ-LOST", "messages", 0.0, error=Failure("messages were lost"))


def _clock_lines(stats: Any) -> list[str]:
    """How far brokers' clocks are off: the fastest message each way took as long there as back, were they not."""
    lines = []
    for name, kind in sorted(stats.entries):
        stored, consumed = stats.entries[name, kind].min_response_time, None
        if kind == "RMQ-STORE" and (name, "RMQ-CONSUME") in stats.entries:
            consumed = stats.entries[name, "RMQ-CONSUME"].min_response_time
        if stored is not None and consumed is not None:
            ahead = (stored - consumed) / 2
            fastest = f"fastest {stored:.0f} ms to, {consumed:.0f} ms from"
            lines.append(f"clocks: brokers of {name} ahead by about {round(ahead)} ms ({fastest})")
    return lines


def _stop_first(environment: Any, **kwargs: Any) -> None:
    """This process quits, with users at work maybe: report before its exit code is chosen, and before a master hears that a
    worker is no more."""
    if environment.runner.state not in (STATE_CLEANUP, STATE_STOPPED):
        environment.runner.stop()
    state = _states[environment]
    with gevent.Timeout(_patience(environment), False):
        run = state.run
        if run is not None:
            run.drain.wait(_LEAVE_PAUSE)
            run.drain.set()
        while state.run is not None:
            gevent.sleep(0.05)


# -- in a worker ---------------------------------------------------------------------------------------------------------------


def _add_report(environment: Any, data: dict[str, Any]) -> None:
    run = _states[environment].run
    if run is not None:
        data[_KEY] = run.take()


def _end_worker(environment: Any, run: Run | None, test: str) -> None:
    runner, told = environment.runner, None
    if run is not None:
        runner.send_message(_IDLE, test)
        run.drain.wait(_patience(environment))
        told = _states[environment].finish(run)
    runner.send_message(_END, {"test": test, "told": told})


def _asked_to_stop(environment: Any, msg: Any, **kwargs: Any) -> None:
    """The master is about to quit, or waits for those that have not ended."""
    runner, state, test = environment.runner, _states[environment], msg.data
    if runner.state not in (STATE_CLEANUP, STATE_STOPPED) and _test_of(environment) in ("", test):
        runner.stop()
    stopped = runner.state == STATE_STOPPED or _test_of(environment) != test
    if stopped and (state.run is None or state.run.test != test):  # else its end is told in its time
        runner.send_message(_END, {"test": test, "told": None})


def _asked_to_drain(environment: Any, msg: Any, **kwargs: Any) -> None:
    run = _states[environment].run
    if run is not None and run.test == msg.data:
        run.drain.set()


# -- in a master ---------------------------------------------------------------------------------------------------------------


def _book_of(environment: Any, test: str) -> Book:
    """That of a test that has begun; what is told of one that is closed goes nowhere."""
    return _states[environment].books.get(test) or Book()


def _merge_report(environment: Any, data: dict[str, Any]) -> None:
    if _KEY in data:
        _book_of(environment, data[_KEY]["test"]).merge(data[_KEY])


def _worker_idle(environment: Any, msg: Any, **kwargs: Any) -> None:
    _book_of(environment, msg.data).idle.add(msg.node_id)


def _worker_ended(environment: Any, msg: Any, **kwargs: Any) -> None:
    book = _book_of(environment, msg.data["test"])
    if msg.data["told"] is not None:
        book.end(msg.data["told"])
    book.ended.add(msg.node_id)


def _await_workers(environment: Any, book: Book, test: str) -> int:
    """Wait for the last reports; how many have not come."""
    runner = environment.runner
    awaited = {client.id for client in runner.clients.all if client.state != STATE_MISSING}
    with gevent.Timeout(_patience(environment), False):
        runner.send_message(_STOP, test)
        while not awaited <= book.idle | book.ended:
            gevent.sleep(0.05)
    with gevent.Timeout(_patience(environment), False):
        runner.send_message(_DRAIN, test)
        while not awaited <= book.ended:
            gevent.sleep(0.05)
    return len(awaited - book.ended)


def _patience(environment: Any) -> float:
    """Seconds that a worker may take to end."""
    drains = [getattr(kind, "drain_timeout", 0.0) for kind in environment.user_classes]
    return float(environment.stop_timeout or 0.0) + sum(drains) + _END_MARGIN
