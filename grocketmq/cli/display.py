"""What the commands show on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from grocketmq.cli.demo import DemoReport, DemoRun, percentile
from grocketmq.embedded.cluster import ClusterCounts

__all__ = ["show_counts", "show_progress", "show_report"]

_MOST_FAULTS = 5


@contextmanager
def show_progress(run: DemoRun) -> Iterator[Callable[[], None]]:
    """Show two bars while a demo runs.

    :param run: the demo.
    :returns: what brings the bars up to date.  The caller does it, since rich would use a thread, which gevent cannot schedule.
    """
    columns = (TextColumn("{task.description:>9}"), BarColumn(bar_width=None), MofNCompleteColumn())
    with Progress(*columns, auto_refresh=False, expand=True) as progress:
        sent = progress.add_task("sent", total=run.messages)
        received = progress.add_task("received", total=run.messages)

        def refresh() -> None:
            progress.update(sent, completed=run.sent)
            progress.update(received, completed=run.received)
            progress.refresh()

        yield refresh
        refresh()


@contextmanager
def show_counts() -> Iterator[tuple[Callable[[ClusterCounts, float], None], bool]]:
    """A line of counts that is kept up to date on a terminal; where there is none, nothing is shown.

    :returns: what brings it up to date, and whether anybody can see it.
    """
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(counts: ClusterCounts, rate: float) -> None:
            line = (
                f"{counts.messages} messages, {rate:.0f}/s; {counts.topics} topics, {counts.groups} groups, "
                f"{counts.connections} connections"
            )
            live.update(line, refresh=True)

        yield show, console.is_terminal


def show_report(report: DemoReport) -> None:
    """Print a demo's figures, its first faults, and the verdict as the last line.

    :param report: what the demo found.
    """
    console = Console(soft_wrap=True, highlight=False)
    table = Table("", "messages", "seconds", "messages/s", "p50 ms", "p99 ms")
    for name, count, seconds, latencies in (
        ("send", report.sent, report.send_seconds, report.send_latencies),
        ("send to listener", report.received, report.total_seconds, report.delivery_latencies),
    ):
        table.add_row(
            name,
            f"{count}",
            f"{seconds:.2f}",
            f"{count / seconds:.0f}",
            f"{percentile(latencies, 50) * 1000:.2f}",
            f"{percentile(latencies, 99) * 1000:.2f}",
        )
    console.print(table)
    for fault in report.faults[:_MOST_FAULTS]:
        console.print(fault, markup=False)
    if len(report.faults) > _MOST_FAULTS:
        console.print(f"... and {len(report.faults) - _MOST_FAULTS} more faults")
    console.print(report.verdict, style="bold green" if report.passed else "bold red", markup=False)
