"""Beside a locustfile: ends the test as soon as there was enough of everything, and writes down what Locust counted.

ENOUGH is JSON: how many requests of each type; REPORT is a file's path.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.runners import WorkerRunner


@events.init.add_listener
def watch(environment: Any, **kwargs: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(end, environment.runner, json.loads(os.environ["ENOUGH"]))
        events.quit.add_listener(lambda **_: report(environment.runner))


def end(runner: Any, enough: dict[str, int]) -> None:
    while counts(runner) & Counter(enough) != Counter(enough):
        gevent.sleep(0.1)
    runner.quit()


def counts(runner: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for (_, kind), entry in list(runner.stats.entries.items()):
        found[kind] += entry.num_requests
    return found


def report(runner: Any) -> None:
    told = {
        "steps": {kind: runner.stats.get(name, kind).to_dict() for name, kind in runner.stats.entries},
        "failures": [failure.to_dict() for failure in runner.errors.values()],
    }
    Path(os.environ["REPORT"]).write_text(json.dumps(told))
