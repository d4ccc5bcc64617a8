"""The commands: options in, exit status out.  What they do lives in modules of its own, what they show in ``display``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from grocketmq import GRocketMQError, __version__
from grocketmq.cli.demo import DemoRun
from grocketmq.cli.display import show_progress, show_report
from grocketmq.client.config import NAMESRV_VARIABLES
from grocketmq.embedded import EmbeddedCluster

__all__ = ["grocketmq"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def grocketmq() -> None:
    """Apache RocketMQ from the command line."""


@grocketmq.command()
@click.option("--messages", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many to send.")
@click.option("--callers", type=click.IntRange(min=1), default=64, show_default=True, help="Greenlets that send.")
@click.option(
    "--namesrv",
    envvar=list(NAMESRV_VARIABLES),
    metavar="HOST:PORT",
    help=f"The cluster to use; default {' or '.join(NAMESRV_VARIABLES)}, or without them a cluster in this process.",
)
def demo(messages: int, callers: int, namesrv: str | None) -> None:
    """Send messages, consume them, and check that every one came back exactly as it was sent.

    The exit status is 1 if not.
    """
    try:
        with _cluster(namesrv) as address:
            run = DemoRun(address, messages=messages, callers=callers)
            with show_progress(run) as refresh:
                report = run.run(refresh)
    except GRocketMQError as error:
        sys.exit(f"grocketmq: {error}")
    show_report(report)
    if not report.passed:
        sys.exit(1)


@contextmanager
def _cluster(namesrv: str | None) -> Iterator[str]:
    """The name server of the given cluster, else of an embedded one that ends with the block."""
    if namesrv:
        click.echo(f"cluster: {namesrv}")
        yield namesrv
        return
    with EmbeddedCluster() as embedded:
        click.echo(f"cluster: {embedded.namesrv}, embedded in this process")
        yield embedded.namesrv
