"""The table, and the same as values for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.meters import Round
from bench.rounds import Results
from bench.scenarios import MAX_STALL_P99_MS, Scenario
from bench.sides import CLIENT, FLOOR, METRICS

__all__ = ["as_json", "cost_of_metrics", "line", "lines", "table"]

HEADINGS = (
    *("scenario", "side", "msg/s", "p50 ms", "p99 ms", "x floor", "target", ""),
    *("us/msg", "RSS MB", "stall p99", "stall max", "lost"),
)


def ratio(scenario: Scenario, results: Results, side: str, to: str = FLOOR.name) -> float | None:
    """Median over the rounds of this side's rate, or median latency, divided by another's in the round beside it."""
    pairs = list(zip(results.get(side, ()), results.get(to, ()), strict=False))
    if side == to or not pairs:
        return None
    if scenario.by_p50:
        return median(own.p50_ms / other.p50_ms for own, other in pairs if own.p50_ms and other.p50_ms)
    return median(own.rate / other.rate for own, other in pairs)


def cost_of_metrics(scenario: Scenario, results: Results) -> str | None:
    """What metrics make of the rate, or of the median latency; None when they were not measured."""
    compared = ratio(scenario, results, METRICS.name, to=CLIENT.name)
    if compared is None:
        return None
    pairs = zip(results[METRICS.name], results[CLIENT.name], strict=True)
    more = [own.cpu_us - other.cpu_us for own, other in pairs if own.cpu_us is not None and other.cpu_us is not None]
    return f"{scenario.name} x {compared:.2f} ({median(more):+.1f} us/msg)" if more else f"{scenario.name} x {compared:.2f}"


def lines(scenario: Scenario, results: Results, judged: bool) -> Iterable[tuple[str, ...]]:
    """The cells of one scenario, a line for each side."""
    for side, rounds in results.items():
        compared = ratio(scenario, results, side)
        ours = judged and side in (CLIENT.name, METRICS.name)
        yield (
            scenario.title if side == FLOOR.name else "",
            side,
            f"{median(each.rate for each in rounds):,.0f}",
            _cell(rounds, lambda each: each.p50_ms, median, ".2f"),
            _cell(rounds, lambda each: each.p99_ms, median, ".2f"),
            "" if compared is None else f"{compared:.2f}",
            _target(scenario) if ours else "",
            _verdict(scenario, rounds, compared) if ours else "",
            _cell(rounds, lambda each: each.cpu_us, median, ".1f"),
            _cell(rounds, lambda each: each.rss_mb, max, ".0f"),
            _cell(rounds, lambda each: each.stall_p99_ms, median, ".1f"),
            _cell(rounds, lambda each: each.stall_max_ms, max, ".1f"),
            _cell(rounds, lambda each: each.lost, sum, ",d"),
        )


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Plain text; the first two columns to the left, the others to the right."""
    everything = [HEADINGS, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(HEADINGS))]
    return "\n".join(line(row, widths) for row in everything)


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    """One line of the table."""
    cells = [
        cell.ljust(width) if at < 2 or at == 7 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def as_json(scenario: Scenario, results: Results) -> dict[str, Any]:
    """All rounds, and the ratios."""
    return {
        "scenario": scenario.name,
        "job": asdict(scenario.job),
        "target": scenario.target,
        "ratio_of": "p50_ms" if scenario.by_p50 else "rate",
        "ratio": {side: ratio(scenario, results, side) for side in results if side != FLOOR.name},
        "rounds": {side: [{**asdict(each), "rate": each.rate} for each in rounds] for side, rounds in results.items()},
    }


def _target(scenario: Scenario) -> str:
    if scenario.target is None:
        return ""
    return f"{'<=' if scenario.by_p50 else '>='} {scenario.target:.2f}"


def _verdict(scenario: Scenario, rounds: Sequence[Round], compared: float | None) -> str:
    """``met``, or what falls short."""
    short = []
    if compared is not None and scenario.meets(compared) is False:
        short.append("ratio")
    if any(each.lost for each in rounds):
        short.append("lost")
    if median(each.stall_p99_ms or 0.0 for each in rounds) > MAX_STALL_P99_MS:
        short.append("stall")
    if scenario.max_rss_mb is not None and max(each.rss_mb or 0.0 for each in rounds) > scenario.max_rss_mb:
        short.append("RSS")
    return f"short: {', '.join(short)}" if short else "met"


def _cell(rounds: Sequence[Round], value: Callable[[Round], Any], summary: Callable[[list[Any]], Any], form: str) -> str:
    values = [found for each in rounds if (found := value(each)) is not None]
    return format(summary(values), form) if values else ""
