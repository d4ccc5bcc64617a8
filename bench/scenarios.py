"""What is measured, and the targets it is shown beside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["KAPOKMQ_SCENARIOS", "MAX_STALL_P99_MS", "SCENARIOS", "Job", "Kind", "Scenario"]

Kind = Literal["send", "oneway", "batch", "consume", "latency"]

#: Targets that hold in every scenario, or in the one with most callers.
MAX_STALL_P99_MS = 5.0


@dataclass(frozen=True)
class Job:
    """One scenario on one backend, as every worker is told it.

    :param kind: what to do.
    :param callers: greenlets that send at once, or frames that a raw writer keeps outstanding.
    :param batch: messages a batch, or the most messages a call of the listener.
    :param namesrv: ``host:port``.
    :param broker: ``host:port``.
    :param topic: exists already.
    :param queues: of the topic.
    :param seconds: length of a round of the kinds ``send`` and ``batch``.
    :param messages: number of messages a round of the other kinds.
    :param body_bytes: size of each body.
    :param key: the secret key, for KapokMQ only.
    """

    kind: Kind
    callers: int = 1
    batch: int = 1
    namesrv: str = ""
    broker: str = ""
    topic: str = ""
    queues: int = 8
    seconds: float = 1.5
    messages: int = 0
    body_bytes: int = 1024
    key: str = ""


@dataclass(frozen=True)
class Scenario:
    """A line of the table.

    :param name: for ``--only``.
    :param title: for people.
    :param job: with nothing of the backend in it yet.
    :param target: bound of the ratio to the floor: at least this for rates, at most this for ``by_p50``; None for no target.
    :param by_p50: compare medians of latency instead of rates.
    :param max_rss_mb: bound of the peak resident memory of the client's process.
    """

    name: str
    title: str
    job: Job
    target: float | None = None
    by_p50: bool = False
    max_rss_mb: float | None = None

    def quick(self) -> Scenario:
        """The same with small counts."""
        return replace(self, job=replace(self.job, seconds=0.3, messages=self.job.messages // 6))

    def meets(self, ratio: float) -> bool | None:
        """Whether a ratio to the floor is within the target; None without one."""
        if self.target is None:
            return None
        return ratio <= self.target if self.by_p50 else ratio >= self.target


SCENARIOS = (
    Scenario("sync", "sync send, 1 caller", Job("send"), target=1.25, by_p50=True),
    Scenario("send64", "send, 64 callers", Job("send", callers=64), target=0.80),
    Scenario("send1000", "send, 1000 callers", Job("send", callers=1000), target=0.80, max_rss_mb=60.0),
    Scenario("oneway", "oneway, 1 caller", Job("oneway", messages=30_000), target=0.60),
    Scenario("batch", "batches of 32, 1 caller", Job("batch", batch=32), target=0.75),
    Scenario("batch8", "batches of 32, 8 callers", Job("batch", callers=8, batch=32), target=0.75),
    Scenario("consume", "consume, listener by 1", Job("consume", messages=120_000), target=0.55),
    Scenario("consume32", "consume, listener by 32", Job("consume", batch=32, messages=120_000), target=0.55),
    Scenario("latency", "born to listener, 500/s", Job("latency", messages=1500), by_p50=True),
)

#: On a KapokMQ server; bodies have 100 bytes.
KAPOKMQ_SCENARIOS = (
    Scenario("one", "KapokMQ: one at a time", Job("send"), target=0.60),
    Scenario("pipelined", "KapokMQ: pipelined", Job("oneway", messages=60_000), target=0.50),
    Scenario("receive", "KapokMQ: consume with ack", Job("consume", messages=60_000), target=0.50),
)
