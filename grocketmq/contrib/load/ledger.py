"""Which messages of a load test came, and which came twice, out of order, or not at all.

Each process numbers the messages it sends: they are a *stream*.  A message carries a stamp: the run, the stream, its number,
and the number below which all sends of the stream had ended when its own began, its *floor*.  Two sends that overlap may be
stored in either order.  But in one queue a message must not come after one whose floor is above its number: that one was sent
later.  So no order is called broken that is not; but while a send takes long, those behind it are not judged.

A process notes what it sends and what comes to it in a :class:`Recorder`.  The reports of all recorders are merged in one
:class:`Ledger`, whichever comes first, so a message may be sent by one process and come to another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

__all__ = ["MAX_OPEN", "Account", "Ledger", "Recorder"]

#: Numbers of one stream that a ledger remembers one by one: of messages that did not come yet, as many whose send failed, and
#: as many that came out of order.  Of the oldest beyond that only the count is kept.  That bounds a stream to some 50 MB.
MAX_OPEN = 100_000


@dataclass
class Account:
    """What became of the messages of a test.

    :param sent: messages whose send succeeded.
    :param failed: messages whose send failed, so that they may be stored or not.
    :param sent_bytes: the bodies of both.
    :param arrived: of those sent, how many came.
    :param arrived_bytes: all bodies that came, each time they came.
    :param unsure: messages that came although their send failed.
    :param duplicates: messages that came once more, without having been given back.
    :param redelivered: messages that came again because a listener had failed.
    :param out_of_order: messages that came, in their queue, after one that was sent later.
    """

    sent: int = 0
    failed: int = 0
    sent_bytes: int = 0
    arrived: int = 0
    arrived_bytes: int = 0
    unsure: int = 0
    duplicates: int = 0
    redelivered: int = 0
    out_of_order: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def lost(self) -> int:
        """Messages whose send succeeded and that did not come, so far."""
        return self.sent - self.arrived


class Recorder:
    """What one process has sent, and what came to it, since its last report.

    It holds as much as happens between two reports.

    :param run: the run's id, the same in all its processes; without ``:``, as the next.
    :param stream: the process's own id.
    :param others: whether to note what other streams of the run sent, too: for processes that share their messages out.
    """

    def __init__(self, run: str, stream: str, *, others: bool = False) -> None:
        self.run = run
        self.stream = stream
        self._others = others
        self._next = 0
        #: Every send of a number below it has ended.
        self._floor = 0
        self._under_way: set[int] = set()
        #: The highest floor that came, by stream and queue.
        self._floors: dict[tuple[str, Hashable], int] = {}
        self._clear()

    def _clear(self) -> None:
        self._failed: list[int] = []
        self._arrived: dict[str, _Arrived] = {}
        self._sent_bytes = self._arrived_bytes = 0

    def begin(self, size_bytes: int, *, ordered: bool = True) -> tuple[int, str]:
        """A send begins.

        :param size_bytes: the body's length.
        :param ordered: whether it is delivered in its turn; not so with a delay.
        :returns: its number, for :meth:`end`, and its stamp.
        """
        number = self._next
        self._next += 1
        self._under_way.add(number)
        self._sent_bytes += size_bytes
        return number, f"{self.run}:{self.stream}:{number}:{self._floor if ordered else ''}"

    def end(self, number: int, *, stored: bool) -> None:
        """A send has ended.

        :param stored: False when it failed, so that nobody knows.
        """
        self._under_way.discard(number)
        while self._floor < self._next and self._floor not in self._under_way:
            self._floor += 1
        if not stored:
            self._failed.append(number)

    def arrive(self, stamp: str, queue: Hashable, size_bytes: int, *, again: bool = False) -> bool:
        """A message has come.

        :param stamp: as it was sent.
        :param queue: where it was stored.
        :param size_bytes: the body's length.
        :param again: whether it was given back before.
        :returns: whether it is one of this run, and to be noted here.
        """
        run, _, rest = stamp.partition(":")
        stream, _, rest = rest.partition(":")
        text, _, floor = rest.partition(":")
        if run != self.run or not (self._others or stream == self.stream) or not text.isdecimal():
            return False
        number = int(text)
        noted = self._arrived.get(stream)
        if noted is None:
            noted = self._arrived[stream] = _Arrived()
        self._arrived_bytes += size_bytes
        if again:
            noted.again.append(number)
            return True
        if floor.isdecimal():
            key = (stream, queue)
            highest = self._floors.get(key, 0)
            if number < highest and number not in noted.times:
                noted.late.append(number)
            if int(floor) > highest:
                self._floors[key] = int(floor)
        noted.times[number] = noted.times.get(number, 0) + 1
        return True

    def take(self) -> dict[str, Any]:
        """What is new since the last call: lists, dicts, numbers and texts only."""
        report = {
            "stream": self.stream,
            "begun": self._next,
            "under_way": len(self._under_way),
            "failed": _packed(self._failed),
            "arrived": {stream: noted.packed() for stream, noted in self._arrived.items()},
            "bytes": [self._sent_bytes, self._arrived_bytes],
        }
        self._clear()
        return report


class _Arrived:
    """What came of one stream since the last report."""

    __slots__ = ("again", "late", "times")

    def __init__(self) -> None:
        #: How often each number came.
        self.times: dict[int, int] = {}
        #: Those among them that came out of order when they came first.
        self.late: list[int] = []
        self.again: list[int] = []

    def packed(self) -> list[list[int]]:
        came = [number for number, times in self.times.items() for _ in range(times)]
        return [_packed(came), _packed(self.again), _packed(self.late)]


class Ledger:
    """The accounts of all streams of a run."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._sent_bytes = self._arrived_bytes = 0

    def merge(self, report: Mapping[str, Any]) -> None:
        """Take a recorder's report in.  The reports of one recorder come in their order."""
        own = self._stream(report["stream"])
        own.begun, own.under_way = report["begun"], report["under_way"]
        for number in _unpacked(report["failed"]):
            own.fail(number)
        for name, (came, again, late) in report["arrived"].items():
            stream, out_of_order = self._stream(name), set(_unpacked(late))
            for number in _unpacked(came):
                stream.arrive(number, late=number in out_of_order)
            for number in _unpacked(again):
                stream.arrive(number, again=True)
        self._sent_bytes += report["bytes"][0]
        self._arrived_bytes += report["bytes"][1]

    def account(self) -> Account:
        """What is known so far."""
        account = Account(sent_bytes=self._sent_bytes, arrived_bytes=self._arrived_bytes)
        for stream in self._streams.values():
            account.sent += stream.begun - stream.under_way - stream.failures
            account.failed += stream.failures
            account.arrived += stream.arrived
            account.unsure += stream.unsure
            account.duplicates += stream.duplicates
            account.redelivered += stream.redelivered
            account.out_of_order += stream.out_of_order
        return account

    def _stream(self, name: str) -> _Stream:
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = _Stream()
        return found


class _Stream:
    """What came of one stream: all numbers below ``next``, but those that are missing."""

    def __init__(self) -> None:
        self.begun = self.under_way = self.failures = 0
        self.arrived = self.unsure = self.duplicates = self.redelivered = 0
        self._next = 0
        self._missing: OrderedDict[int, None] = OrderedDict()
        #: Missing ones beyond those remembered, all of them below the horizon.
        self._forgotten = self._horizon = 0
        #: Numbers whose send failed, and whether they came.
        self._failed: OrderedDict[int, bool] = OrderedDict()
        self._late: OrderedDict[int, None] = OrderedDict()
        #: Numbers of which it was heard first that they had come again: another process has yet to report that they came.
        self._again_first: OrderedDict[int, None] = OrderedDict()
        self._late_forgotten = 0

    @property
    def out_of_order(self) -> int:
        return len(self._late) + self._late_forgotten

    def arrive(self, number: int, *, late: bool = False, again: bool = False) -> None:
        came = self._failed.get(number)
        if came is False:
            self._failed[number] = True
            self.unsure += 1
        elif came is None and self._first(number):
            self.arrived += 1
            if again:
                self._again_first[number] = None
                _drop_oldest(self._again_first)
            elif late:
                self._late[number] = None
                self._late_forgotten += _drop_oldest(self._late)
        elif again or number in self._again_first:
            if not again:
                del self._again_first[number]
            self.redelivered += 1
        else:
            self.duplicates += 1

    def fail(self, number: int) -> None:
        self.failures += 1
        came = not self._first(number)
        if came:  # before this was known
            self._again_first.pop(number, None)
            self.arrived -= 1
            self.unsure += 1
            self._late.pop(number, None)
        self._failed[number] = came
        _drop_oldest(self._failed)

    def _first(self, number: int) -> bool:
        """Whether nothing was heard of this number; of forgotten ones, that is taken for true while there are any."""
        if number >= self._next:
            known = max(self._next, number - MAX_OPEN)
            if known > self._next:
                self._forgotten += known - self._next
                self._horizon = known
            self._missing.update(dict.fromkeys(range(known, number)))
            while len(self._missing) > MAX_OPEN:
                self._horizon = max(self._horizon, self._missing.popitem(last=False)[0] + 1)
                self._forgotten += 1
            self._next = number + 1
            return True
        if number in self._missing:
            del self._missing[number]
            return True
        if number < self._horizon and self._forgotten:
            self._forgotten -= 1
            return True
        return False


def _drop_oldest(numbers: OrderedDict[int, Any]) -> int:
    """Keep the bound; how many had to go."""
    if len(numbers) <= MAX_OPEN:
        return 0
    numbers.popitem(last=False)
    return 1


def _packed(numbers: list[int]) -> list[int]:
    """Sorted, as runs: first, count, first, count, ..."""
    runs: list[int] = []
    following = None
    for number in sorted(numbers):
        if number == following:
            runs[-1] += 1
        else:
            runs += (number, 1)
        following = number + 1
    return runs


def _unpacked(runs: Iterable[int]) -> Iterator[int]:
    pairs = iter(runs)
    for first, count in zip(pairs, pairs, strict=True):
        yield from range(first, first + count)
