"""Clock, processor time, memory and hub stalls of one round in this process."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, process_time, thread_time

from gevent import get_hub, sleep

__all__ = ["Holds", "Meter", "Round", "peak_rss_mb", "percentile", "rss_mb"]

#: Seconds between the ticks whose lateness tells how long the hub was busy.
TICK = 0.002


@dataclass(frozen=True)
class Round:
    """What one side did in one round; None where it was not measured.

    :param messages: sent and answered, or received.
    :param seconds: wall time.
    :param p50_ms: median latency of a call, or from born to listener.
    :param p99_ms: as ``p50_ms``.
    :param cpu_us: processor time of the process, microseconds a message.
    :param rss_mb: most resident memory the process had so far.
    :param stall_p99_ms: lateness of a 2 ms loop timer.
    :param stall_max_ms: as ``stall_p99_ms``.
    :param lost: messages that were sent but that no queue has.
    """

    messages: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    rss_mb: float | None = None
    stall_p99_ms: float | None = None
    stall_max_ms: float | None = None
    lost: int | None = None

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


class Meter:
    """Measures from :meth:`start` to :meth:`stop`, or around a ``with`` block; once."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._timer = get_hub().loop.timer(TICK, TICK, ref=False)
        self._due = self._begin = self._cpu = self._seconds = 0.0

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; what earlier rounds left to the garbage collector is not charged to this one."""
        gc.collect()
        self._begin, self._cpu = perf_counter(), process_time()
        self._due = self._begin + TICK
        self._timer.start(self._tick)

    def stop(self) -> None:
        """End; what the tick under way is late counts too."""
        end = perf_counter()
        self._seconds, self._cpu = end - self._begin, process_time() - self._cpu
        self._late.append(max(0.0, end - self._due))
        self._timer.stop()
        self._timer.close()

    def result(self, messages: int, latencies: Sequence[float] = ()) -> Round:
        """The round.

        :param messages: how many were done.
        :param latencies: seconds, any order; empty if not measured.
        """
        return Round(
            messages,
            self._seconds,
            p50_ms=percentile(latencies, 0.50) * 1e3 if latencies else None,
            p99_ms=percentile(latencies, 0.99) * 1e3 if latencies else None,
            cpu_us=self._cpu / max(messages, 1) * 1e6,
            rss_mb=peak_rss_mb(),
            stall_p99_ms=percentile(self._late, 0.99) * 1e3,
            stall_max_ms=max(self._late) * 1e3,
        )

    def _tick(self) -> None:
        now = perf_counter()
        self._late.append(max(0.0, now - self._due))
        self._due = now + TICK


class Holds:
    """The longest time that the event loop did not look at its sockets, inside a ``with`` block.

    It is processor time of this thread from one look to the next, so neither waiting nor other programs count.  Nor does
    Python's collector: what it takes depends on all objects of the program.
    """

    def __enter__(self) -> Holds:
        self.longest = 0.0
        self._collected = self._collecting = 0.0
        gc.callbacks.append(self._collect)
        self._check = get_hub().loop.check(ref=False)
        sleep(0.001)  # begins in a turn of its own
        self._since = thread_time()
        self._check.start(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sleep(0.001)
        self._check.stop()
        self._check.close()
        gc.callbacks.remove(self._collect)

    @property
    def longest_ms(self) -> float:
        """The longest one so far, ms."""
        return self.longest * 1e3

    def _look(self) -> None:
        now = thread_time()
        self.longest = max(self.longest, now - self._since - self._collected)
        self._since, self._collected = now, 0.0

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = thread_time()
        else:
            self._collected += thread_time() - self._collecting


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def peak_rss_mb() -> float:
    """The most resident memory this process ever had, MB."""
    found = _status("VmHWM")
    if found is None:
        import resource

        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / 1024


def rss_mb() -> float:
    """The resident memory of this process now, MB; the most it ever had where the system does not tell."""
    found = _status("VmRSS")
    return peak_rss_mb() if found is None else found / 1024


def _status(name: str) -> int | None:
    """A line of Linux's process status, KB."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None
