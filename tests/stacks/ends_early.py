"""Beside a locustfile: ends the test as soon as there was enough of everything, and writes down what Locust counted.

ENOUGH is JSON: how many requests of each type; REPORT is a file's path.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gevent
from locust import events, runners
from locust.runners import WorkerRunner

from grocketmq.contrib.locust import report

runners.WORKER_REPORT_INTERVAL = 0.5


@events.init.add_listener
def watch(environment: Any, **kwargs: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(end, environment.runner, json.loads(os.environ["ENOUGH"]))
        events.quit.add_listener(lambda **_: write(environment))


def end(runner: Any, enough: dict[str, int]) -> None:
    while counts(runner) & Counter(enough) != Counter(enough):
        gevent.sleep(0.1)
    runner.quit()


def counts(runner: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for (_, kind), entry in list(runner.stats.entries.items()):
        found[kind] += entry.num_requests
    return found


def write(environment: Any) -> None:
    stats, found = environment.stats, report(environment)
    told = {
        "steps": [{**entry.to_dict(), "times": dict(entry.response_times)} for entry in stats.entries.values()],
        "failures": [failure.to_dict() for failure in stats.errors.values()],
        "report": None if found is None else {**asdict(found), **asdict(found.account), "lost": found.account.lost},
    }
    Path(os.environ["REPORT"]).write_text(json.dumps(told))
