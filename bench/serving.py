"""What the embedded cluster takes: its start, its memory, and how well it serves another process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from bench.children import Child
from bench.client import SIDES
from bench.meters import Round
from bench.raw import create_topic, find_broker
from bench.scenarios import Job

__all__ = ["Figure", "figures", "show"]

TIMEOUT = 120.0
TOPIC = "serving"
FILLED = 1_000_000


@dataclass(frozen=True)
class Figure:
    """One thing that was measured.

    :param target: its bound; None without one.
    :param most: whether the target is the most it may be, or the least.
    """

    title: str
    value: float
    target: float | None = None
    most: bool = True

    @property
    def verdict(self) -> str:
        """The target, and whether it is met."""
        if self.target is None:
            return ""
        met = self.value <= self.target if self.most else self.value >= self.target
        return f"{'<=' if self.most else '>='} {self.target:<8g} {'met' if met else 'short'}"


def figures(rounds: int, filled: int = FILLED) -> Iterator[Figure]:
    """Measure all of it; takes about a minute.

    :param rounds: of serving; of starts as many.
    :param filled: messages of 100 bytes to hold; the figure is for a million.
    """
    starts = []
    for _ in range(rounds):
        with _cluster() as child:
            child.line(TIMEOUT)
            starts.append([float(each) for each in child.ask("start", TIMEOUT).split()])
    yield Figure("start, s", median(start for start, _ in starts), 0.3)
    yield Figure("imports and start, s", median(both for _, both in starts))
    with _cluster() as child:
        namesrv = child.line(TIMEOUT)
        create_topic(namesrv, find_broker(namesrv, "TBW102"), TOPIC, 8)
        served = [_round(child, namesrv) for _ in range(rounds)]
        yield Figure("sends of one client, messages/s", median(each.rate for each in served), 20_000, most=False)
        yield Figure("its processor time, us a message", median(each.cpu_us or 0 for each in served))
        yield Figure("its longest hold of the event loop, ms", median(each.stall_max_ms or 0 for each in served), 20)
    with _cluster() as child:
        child.line(TIMEOUT)
        taken = float(child.ask(f"fill {filled}", TIMEOUT)) * FILLED / filled
        yield Figure("a million messages of 100 bytes, MB", taken, 1024)


def _cluster() -> Child:
    return Child([sys.executable, "-m", "bench.embedded"])


def _round(child: Child, namesrv: str) -> Round:
    """The cluster's side of a round of sends from this process."""
    job = Job("send", callers=256, namesrv=namesrv, topic=TOPIC, seconds=3.0, body_bytes=100)
    with SIDES["send"](job) as run:
        child.ask("begin", TIMEOUT)
        run()
        return Round(**json.loads(child.ask("end", TIMEOUT)))


def show(found: Iterator[Figure], write: Callable[[str], object]) -> None:
    """Write a line for each figure."""
    write("\nembedded cluster")
    for figure in found:
        write(f"{figure.title:40} {figure.value:12,.3f}   {figure.verdict}".rstrip())
