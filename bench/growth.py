"""How cost grows with brokers, queues, members and messages: the second half of ``python -m bench``.

Each line is measured in a process of its own, so that its memory is its own; brokers are in yet another one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bench.children import Child
from bench.growth_case import strategies
from bench.report import line

__all__ = ["Growth", "as_values", "grow", "growth_table"]

TIMEOUT = 120.0
#: What no part of the library may hold the event loop for, ms.
LONGEST_HOLD_MS = 5.0

_HEADINGS = ("case", "size", "ms", "CPU %", "MB", "longest hold ms", "")


@dataclass(frozen=True)
class Growth:
    """One line.

    :param case: what was done.
    :param size: with how much.
    :param ms: how long it took; for an idle client, its start.
    :param cpu_percent: of one core, while idle.
    :param mb: resident memory that it took.
    :param hold_ms: the longest that the event loop was held, processor time.
    """

    case: str
    size: str
    ms: float | None = None
    cpu_percent: float | None = None
    mb: float | None = None
    hold_ms: float | None = None


def grow(quick: bool) -> Iterator[Growth]:
    """All lines, one after the other.

    :param quick: small sizes and short looks.
    """
    rebalances = [(200, 20)] if quick else [(1_000, 100), (10_000, 1_000)]
    clients = [(1, 8), (10, 100)] if quick else [(1, 1), (10, 10), (200, 200), (10, 8 * 10), (10, 1_000), (10, 10_000)]
    caches = [1_000] if quick else [1_000, 10_000]
    for strategy in strategies():
        for queues, members in rebalances:
            size = f"{queues:,} queues, {members:,} members"
            yield _line(f"rebalance, {strategy}", size, "rebalance", strategy, queues, members)
    for brokers, queues in clients:
        with _brokers(brokers, queues) as namesrv:
            size = f"{brokers} broker{'s' * (brokers > 1)}, {queues:,} queue{'s' * (queues > 1)}"
            yield _line("idle push consumer", size, "idle", namesrv, queues, 2 if quick else 16)
    for messages in caches:
        yield _line("full cache", f"{messages:,} messages of 1 KiB", "cache", messages)


def _line(case: str, size: str, *arguments: object) -> Growth:
    print(f"growth: {case}, {size} ...", file=sys.stderr, flush=True)
    with Child([sys.executable, "-m", "bench.growth_case", *map(str, arguments)]) as child:
        return Growth(case, size, **json.loads(child.line(TIMEOUT)))


@contextmanager
def _brokers(brokers: int, queues: int) -> Iterator[str]:
    with Child([sys.executable, "-m", "bench.many_brokers", str(brokers), str(queues)]) as child:
        yield child.line(TIMEOUT)


def growth_table(found: Sequence[Growth]) -> str:
    """Plain text; the last column says what falls short."""
    rows = [_HEADINGS, *(_cells(each) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(line(row, widths) for row in rows)


def _cells(line: Growth) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:,.{digits}f}"

    late = line.hold_ms is not None and line.hold_ms > LONGEST_HOLD_MS
    return (
        line.case,
        line.size,
        number(line.ms, 1),
        number(line.cpu_percent, 2),
        number(line.mb, 1),
        number(line.hold_ms, 1),
        "hold" if late else "",
    )


def as_values(found: Sequence[Growth]) -> list[dict[str, object]]:
    """Every line as values."""
    return [asdict(each) for each in found]
