"""``python -m bench``: all scenarios on all backends that can be had here."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.backends import BACKENDS, Backend, Missing
from bench.children import ChildError
from bench.growth import as_values, grow, growth_table
from bench.kapokmq import measure_kapokmq
from bench.report import as_json, cost_of_metrics, lines, table
from bench.rounds import run_scenario, warm_up
from bench.scenarios import KAPOKMQ_SCENARIOS, SCENARIOS, Scenario
from bench.serving import FILLED, figures, show
from bench.sides import CLIENT, FLOOR, METRICS, Side, go, java


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    for name in BACKENDS:
        parser.add_argument(f"--{name}", dest="backends", action="append_const", const=name, help=f"only the {name} backend")
    parser.add_argument("--kapokmq", action="store_true", help="only the KapokMQ client")
    parser.add_argument("--kapokmq-server", metavar="HOST:PORT", help="a KapokMQ server, in the place of a sink")
    parser.add_argument("--kapokmq-key", default="test", metavar="KEY", help="its secret key")
    names = [scenario.name for scenario in (*SCENARIOS, *KAPOKMQ_SCENARIOS)]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="of each side; default 5, quick 2")
    parser.add_argument("--floor", action="store_true", help="the floor alone")
    parser.add_argument("--metrics", action="store_true", help="grocketmq with metrics for Prometheus too")
    parser.add_argument("--java", action="store_true", help="the official Java client too, on the real broker")
    parser.add_argument("--go", action="store_true", help="the official Go client too, on the real broker")
    parser.add_argument("--growth", action="store_true", help="only how cost grows with brokers, queues, members and messages")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds there")
    options = parser.parse_args()
    if options.metrics and find_spec("prometheus_client") is None:
        parser.error("--metrics needs prometheus_client")
    return options


def main() -> int:
    """0 when every scenario ran; what it measured does not matter."""
    options = arguments()
    scenarios = [each.quick() if options.quick else each for each in SCENARIOS if each.name in options.only]
    rounds = options.rounds or (2 if options.quick else 5)
    sides = [FLOOR] if options.floor else [FLOOR, CLIENT, *([METRICS] if options.metrics else [])]
    report: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine(), "backends": {}}
    failures = 0
    compared = [] if options.growth or options.kapokmq else options.backends or list(BACKENDS)
    with tempfile.TemporaryDirectory(prefix="grocketmq-bench-") as directory:
        strangers = others(options, Path(directory))
        for name in compared:
            try:
                with BACKENDS[name]() as backend:
                    if not options.quick:
                        warm_up(backend, backend.warm_up)
                    report["backends"][name], failed = measure(
                        backend, scenarios, [*sides, *strangers] if name == "real" else sides, rounds
                    )
                    failures += failed
            except Missing as reason:
                print(f"\n{name}: left out: {reason}", flush=True)
                failures += bool(options.backends)
    if options.growth or not (options.backends or options.floor or options.kapokmq):
        report["growth"] = growth(options.quick)
    if options.kapokmq or not (options.backends or options.floor or options.growth):
        failures += kapokmq(options, rounds, report)
    if "embedded" in (options.backends or []) or not (options.backends or options.floor or options.growth or options.kapokmq):
        filled = FILLED // 20 if options.quick else FILLED
        show(figures(2 if options.quick else 3, filled), lambda text: print(text, flush=True))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return 1 if failures else 0


def growth(quick: bool) -> list[dict[str, object]]:
    """Print the growth table; its values for JSON."""
    found = list(grow(quick))
    print(f"\nGrowth\n{growth_table(found)}", flush=True)
    return as_values(found)


def kapokmq(options: argparse.Namespace, rounds: int, report: dict[str, Any]) -> int:
    """Measure the KapokMQ client; how many failures there were."""
    try:
        found = measure_kapokmq(options.only, rounds, options.quick, options.kapokmq_server, options.kapokmq_key)
    except (ChildError, OSError) as error:
        print(f"\nKapokMQ: failed: {error}", flush=True)
        return 1
    report["kapokmq"] = {
        name: {side: [asdict(each) for each in of] for side, of in sides.items()} for name, sides in found.items()
    }
    return 0


def others(options: argparse.Namespace, directory: Path) -> list[Side]:
    """The clients to compare with, as far as they were asked for and can be had."""
    found = []
    for wanted, build in ((options.java, java), (options.go, go)):
        if wanted:
            try:
                found.append(build(directory))
            except Missing as reason:
                print(f"{build.__name__}: left out: {reason}", flush=True)
    return found


def measure(backend: Backend, scenarios: list[Scenario], sides: list[Side], rounds: int) -> tuple[list[dict[str, Any]], int]:
    """Run all scenarios on one backend and print its table; values for JSON, and how many scenarios failed."""
    rows: list[tuple[str, ...]] = []
    found = []
    failures = []
    costs = []
    for scenario in scenarios:
        if scenario.job.kind not in backend.kinds:
            continue
        print(f"{backend.title}: {scenario.title} ...", file=sys.stderr, flush=True)
        try:
            results = run_scenario(scenario, backend, sides, rounds)
        except (ChildError, OSError) as error:
            failures.append(f"{scenario.title}: {error}")
            continue
        rows += lines(scenario, results, backend.judged)
        found.append(as_json(scenario, results))
        costs.append(cost_of_metrics(scenario, results))
    print(f"\n{backend.title}; medians of {rounds} rounds\n{table(rows)}")
    if any(costs):
        print("with metrics, of the rate without (sync and latency: of the median latency):", ", ".join(filter(None, costs)))
    for failure in failures:
        print(f"failed: {failure}")
    sys.stdout.flush()
    return found, len(failures)


if __name__ == "__main__":
    sys.exit(main())
