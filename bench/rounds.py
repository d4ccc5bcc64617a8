"""Runs the sides of a scenario in turns, each in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

from bench.backends import Backend
from bench.children import Child, ChildError
from bench.meters import Round
from bench.raw import create_topic, max_offset_sum, missing
from bench.scenarios import Job, Scenario
from bench.sides import CLIENT, FLOOR, Side

__all__ = ["Results", "run_scenario", "warm_up"]

START_TIMEOUT = 60.0
ROUND_TIMEOUT = 90.0

#: The rounds of each side, by its name.
Results = dict[str, list[Round]]

_topics = (f"bench_{time.time_ns()}_{number}" for number in range(1 << 30))


def run_scenario(scenario: Scenario, backend: Backend, sides: Sequence[Side], rounds: int) -> Results:
    """Floor, library, floor, library and so on, so that what disturbs the machine disturbs both.

    :param sides: the first one's start makes what the others need.
    :param rounds: of each side.
    """
    job = _on(backend, scenario.job)
    sides = [side for side in sides if job.kind in side.kinds]
    results: Results = {side.name: [] for side in sides}
    with ExitStack() as stack:
        workers = {side: stack.enter_context(_worker(side, job)) for side in sides}
        for _ in range(rounds):
            for side, worker in list(workers.items()):
                try:
                    results[side.name].append(_round(worker, job))
                except ChildError as error:
                    if side in (FLOOR, CLIENT):
                        raise
                    print(f"{scenario.title}: without {side.name}: {error}", file=sys.stderr, flush=True)
                    del workers[side], results[side.name]
    return results


def warm_up(backend: Backend, seconds: float) -> None:
    """Let the broker's compiler see what follows."""
    jobs = (
        Job("send", callers=64, seconds=seconds / 2),
        Job("batch", callers=8, batch=32, seconds=seconds / 4),
        Job("consume", messages=64_000),
    )
    for job in jobs:
        if job.kind in backend.kinds:
            with _worker(FLOOR, _on(backend, job)) as worker:
                worker.ask("round", ROUND_TIMEOUT)


def _round(worker: Child, job: Job) -> Round:
    """One round, and for messages that are sent how many the broker does not have."""
    before = max_offset_sum(job.broker, job.topic, job.queues)
    found = Round(**json.loads(worker.ask("round", ROUND_TIMEOUT)))
    if job.kind not in ("send", "oneway", "batch"):
        return found
    return replace(found, lost=missing(job.broker, job.topic, job.queues, before, found.messages))


def _on(backend: Backend, job: Job) -> Job:
    """The job with a topic of its own on a backend."""
    topic = next(_topics)
    create_topic(backend.namesrv, backend.broker, topic, job.queues)
    return replace(job, namesrv=backend.namesrv, broker=backend.broker, topic=topic)


@contextmanager
def _worker(side: Side, job: Job) -> Iterator[Child]:
    with Child([*side.command, json.dumps(asdict(job))]) as child:
        child.line(START_TIMEOUT)
        yield child
