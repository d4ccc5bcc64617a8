"""The commands: options in, exit status out.  What they do lives in modules of its own, what they show in ``display``."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from grocketmq import Credentials, GRocketMQError, TLSConfig, __version__
from grocketmq.cli.demo import DemoRun
from grocketmq.cli.display import show_counts, show_progress, show_report
from grocketmq.cli.doctor import examine
from grocketmq.cli.serve import serve_until_told
from grocketmq.client.config import NAMESRV_VARIABLES
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.broker import BrokerConfig

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


@grocketmq.command()
@click.option("--brokers", type=click.IntRange(1, 26), default=1, show_default=True, help="How many brokers.")
@click.option(
    "--namesrv-port", type=click.IntRange(0, 65535), default=9876, show_default=True, help="The name server's port; 0 for any."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on, as a number.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep everything there, so that what was acknowledged survives; default in memory only.",
)
@click.option(
    "--transaction-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=BrokerConfig.transaction_timeout,
    show_default=True,
    help="How long brokers wait for a transaction's end before they ask for it.",
)
@click.option(
    "--transaction-check-interval",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=BrokerConfig.transaction_check_interval,
    show_default=True,
    help="How often brokers look for transactions to ask about.",
)
def serve(
    brokers: int,
    namesrv_port: int,
    host: str,
    data: Path | None,
    transaction_timeout: float,
    transaction_check_interval: float,
) -> None:
    """Run a name server and brokers, for development, tests and demos, until Ctrl-C.

    Real brokers do not filter by SQL unless they are told to; these do.
    """
    try:
        with EmbeddedCluster(
            brokers,
            namesrv_port,
            host=host,
            data=data,
            transaction_timeout=transaction_timeout,
            transaction_check_interval=transaction_check_interval,
        ) as cluster:
            click.echo("For development, tests and demos, not for production: no replicas, no access control.")
            click.echo(f"name server: {cluster.namesrv}")
            for name in cluster.broker_names:
                click.echo(f"{name}: {cluster.broker_address(name)}")
            click.echo("data: " + (f"kept in {data}" if data is not None else "in memory only") + "; stop with Ctrl-C")
            with show_counts() as (show, watched):
                serve_until_told(cluster, show, watched=watched)
        click.echo("stopped")
    except OSError as error:
        advice = "; stop what uses it, or give another --namesrv-port" if error.errno == errno.EADDRINUSE else ""
        sys.exit(f"grocketmq: {error.strerror or error}{advice}")
    except GRocketMQError as error:
        sys.exit(f"grocketmq: {error}")


#: The secret of the account comes by this variable: a command's options can be seen by every user of a machine.
_SECRET = "GROCKETMQ_SECRET_KEY"


@grocketmq.command()
@click.argument("namesrv", envvar=list(NAMESRV_VARIABLES))
@click.option("--tls", is_flag=True, help="Connect over TLS, trusting what the system trusts.")
@click.option("--ca-file", metavar="PEM", help="Connect over TLS, trusting these certificates.")
@click.option("--cert-file", metavar="PEM", help="The client's own certificate, with its key if there is no --key-file.")
@click.option("--key-file", metavar="PEM", help="The key of --cert-file.")
@click.option("--access-key", metavar="NAME", help=f"The account to sign requests with; its secret is read from {_SECRET}.")
def doctor(
    namesrv: str, tls: bool, ca_file: str | None, cert_file: str | None, key_file: str | None, access_key: str | None
) -> None:
    """Check this process, the name servers and the brokers as clients see them, and say what to do.

    NAMESRV is host:port;host:port, by default GROCKETMQ_NAMESRV or NAMESRV_ADDR.  The exit status is 1 if something fails.
    """
    if access_key and not os.environ.get(_SECRET):
        raise click.UsageError(f"--access-key wants the account's secret in the environment variable {_SECRET}")
    failed = False
    try:
        over_tls = tls or ca_file or cert_file or key_file
        secure = TLSConfig(ca_file=ca_file, cert_file=cert_file, key_file=key_file) if over_tls else None
        credentials = Credentials(access_key, os.environ[_SECRET]) if access_key else None
        for finding in examine(namesrv, secure, credentials):
            click.echo(f"{finding.level:4}  {finding.what}")
            if finding.advice:
                click.echo(f"      -> {finding.advice}")
            failed |= finding.level == "FAIL"
    except GRocketMQError as error:
        sys.exit(f"grocketmq: {error}")
    sys.exit(1 if failed else 0)


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
