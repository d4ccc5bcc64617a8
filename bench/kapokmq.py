"""The KapokMQ scenarios, on a sink of their own or on a server that is given."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

from bench.children import Child
from bench.meters import Round
from bench.report import lines, table
from bench.rounds import ROUND_TIMEOUT, START_TIMEOUT, Results
from bench.scenarios import KAPOKMQ_SCENARIOS, Scenario
from bench.sides import CLIENT, FLOOR

__all__ = ["measure_kapokmq"]

BOOT_TIMEOUT = 10.0


def measure_kapokmq(names: list[str], rounds: int, quick: bool, server: str | None, key: str) -> dict[str, Results]:
    """Run the scenarios and print their table.

    :param names: which; all when none is one of these.
    :param rounds: of each side.
    :param quick: with small counts.
    :param server: ``host:port`` of a KapokMQ server that does not pace its pushes; None for the sink.
    :param key: the server's.
    """
    chosen = [each.quick() if quick else each for each in KAPOKMQ_SCENARIOS if each.name in names]
    found = {}
    rows: list[tuple[str, ...]] = []
    with ExitStack() as stack:
        address = server or stack.enter_context(_sink())
        for scenario in chosen:
            print(f"{scenario.title} ...", file=sys.stderr, flush=True)
            found[scenario.name] = _run(scenario, address, key, rounds)
            rows += lines(scenario, found[scenario.name], True)
    print(
        f"\n{f'KapokMQ at {server}' if server else 'KapokMQ sink in Python'}; medians of {rounds} rounds\n{table(rows)}",
        flush=True,
    )
    return found


@contextmanager
def _sink() -> Iterator[str]:
    with Child([sys.executable, "-m", "bench.kapokmq_sink"]) as child:
        yield f"127.0.0.1:{child.line(BOOT_TIMEOUT)}"


def _run(scenario: Scenario, address: str, key: str, rounds: int) -> Results:
    """The sides take turns.  Each has a topic of its own, or they would share its messages."""
    results: Results = {FLOOR.name: [], CLIENT.name: []}
    with ExitStack() as stack:
        workers = {}
        for name, module in ((FLOOR.name, "kapokmq_floor"), (CLIENT.name, "kapokmq_client")):
            job = replace(scenario.job, broker=address, key=key, topic=f"bench_{module}_{time.time_ns()}")
            workers[name] = stack.enter_context(Child([sys.executable, "-m", "bench.worker", module, json.dumps(asdict(job))]))
            workers[name].line(START_TIMEOUT)
        for _ in range(rounds):
            for name, worker in workers.items():
                found = Round(**json.loads(worker.ask("round", ROUND_TIMEOUT)))
                # Neither side ever yields while it has something to do, so its stalls say nothing.
                results[name].append(replace(found, stall_p99_ms=None, stall_max_ms=None))
    return results
