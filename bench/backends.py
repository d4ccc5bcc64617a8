"""What the clients talk to: a real broker, the embedded one, or a sink with canned answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child, ChildError
from bench.raw import find_broker
from bench.scenarios import Kind

__all__ = ["BACKENDS", "Backend", "Missing"]

REAL_VERSION = "5.5.0"
BOOT_TIMEOUT = 20.0
#: A topic that every broker has from its first moment.
FIRST_TOPIC = "TBW102"

#: The optimising compiler and room for the load, unlike brokers for tests.
JVM_OPTIONS = ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=1g")
SETTINGS = {
    "mappedFileSizeCommitLog": 256 << 20,
    "mappedFileSizeConsumeQueue": 20 * 300_000,
    "maxIndexNum": 20_000_000,
    "maxHashSlotNum": 5_000_000,
}

ALL_KINDS: tuple[Kind, ...] = ("send", "oneway", "batch", "consume", "latency")


class Missing(Exception):
    """A backend cannot be had here; says why."""


@dataclass(frozen=True)
class Backend:
    """A running one.

    :param title: for people.
    :param namesrv: ``host:port``.
    :param broker: ``host:port``.
    :param kinds: what it can do.
    :param warm_up: seconds until it has its full speed.
    :param judged: whether the targets, which speak of a broker, mean it.
    """

    title: str
    namesrv: str
    broker: str
    kinds: tuple[Kind, ...] = ALL_KINDS
    warm_up: float = 1.0
    judged: bool = True


@contextmanager
def real() -> Iterator[Backend]:
    """One broker from the released jars; its data is deleted afterwards."""
    from tests.broker.cluster import RealCluster, Unavailable

    cluster = RealCluster(REAL_VERSION, brokers=1, settings=SETTINGS, jvm_options=JVM_OPTIONS)
    try:
        cluster.start()
    except Unavailable as reason:
        raise Missing(str(reason)) from None
    try:
        broker = find_broker(cluster.namesrv, FIRST_TOPIC)
        yield Backend(f"RocketMQ {REAL_VERSION}, one broker", cluster.namesrv, broker, warm_up=10.0)
    finally:
        cluster.stop()


@contextmanager
def embedded() -> Iterator[Backend]:
    """``grocketmq.embedded`` in a process of its own."""
    with _child([sys.executable, "-m", "bench.embedded"]) as namesrv:
        yield Backend("embedded broker", namesrv, find_broker(namesrv, FIRST_TOPIC))


@contextmanager
def sink() -> Iterator[Backend]:
    """A peer that only counts and answers: ``sink.c``, or ``sink.py`` where nothing compiles that."""
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory(prefix="grocketmq-bench-") as directory:
        command = [sys.executable, "-m", "bench.sink"]
        if compiler:
            command = [f"{directory}/sink"]
            source = Path(__file__).with_name("sink.c")
            subprocess.run([compiler, "-O2", "-o", command[0], str(source)], check=True)
        with _child(command) as port:
            address = f"127.0.0.1:{port}"
            language = "C" if compiler else "Python"
            yield Backend(f"sink in {language}", address, address, ("send", "oneway", "batch"), judged=False)


@contextmanager
def _child(command: list[str]) -> Iterator[str]:
    with Child(command) as child:
        try:
            address = child.line(BOOT_TIMEOUT)
        except ChildError as error:
            raise Missing(str(error)) from None
        yield address


BACKENDS: dict[str, Callable[[], AbstractContextManager[Backend]]] = {"real": real, "embedded": embedded, "sink": sink}
