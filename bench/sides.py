"""Who runs a scenario: the floor, grocketmq, and for scale the official Java and Go clients."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.backends import ALL_KINDS, REAL_VERSION, Missing
from bench.scenarios import Kind

__all__ = ["CLIENT", "FLOOR", "METRICS", "Side", "go", "java"]

HERE = Path(__file__).parent
BUILD_TIMEOUT = 600.0


@dataclass(frozen=True)
class Side:
    """A program that speaks as ``worker.py`` does.

    :param name: in the table.
    :param command: the job is added to it.
    :param kinds: what it can do.
    """

    name: str
    command: tuple[str, ...]
    kinds: tuple[Kind, ...] = ALL_KINDS


FLOOR = Side("floor", (sys.executable, "-m", "bench.worker", "floor"))
CLIENT = Side("grocketmq", (sys.executable, "-m", "bench.worker", "client"))
METRICS = Side("with metrics", (sys.executable, "-m", "bench.worker", "metrics"))


def java(directory: Path) -> Side:
    """The Java client, its side compiled into a directory.

    :raises Missing: without Java or the jars.
    """
    from tests.broker.jvm import JDK17_OPTIONS, Unavailable, jars, run, tool

    try:
        classpath = os.pathsep.join(str(jar) for jar in jars(REAL_VERSION).glob("*.jar") if not _of_a_server(jar))
        command = [tool("javac"), "-nowarn", "-cp", classpath, "-d", str(directory), str(HERE / "java" / "JavaSide.java")]
        status, output = run(command, BUILD_TIMEOUT)
        if status:
            raise Missing(output)
        program = (tool("java"), *JDK17_OPTIONS, f"-Duser.home={directory}", "-cp", f"{directory}{os.pathsep}{classpath}")
    except Unavailable as reason:
        raise Missing(str(reason)) from None
    return Side(f"Java {REAL_VERSION}", (*program, "JavaSide"), ("send", "oneway", "consume"))


def _of_a_server(jar: Path) -> bool:
    """The brokers' settings of logging, found first, would rule the client's too."""
    return jar.name.startswith(("rocketmq-broker-", "rocketmq-namesrv-", "rocketmq-controller-"))


def go(directory: Path) -> Side:
    """The Go client, its side built into a directory.

    :raises Missing: without Go, or when the client cannot be fetched.
    """
    from tests.broker.jvm import Unavailable, run, tool

    program = directory / "goside"
    try:
        status, output = run([tool("go"), "build", "-o", str(program), "."], BUILD_TIMEOUT, cwd=HERE / "go")
    except Unavailable as reason:
        raise Missing(str(reason)) from None
    if status:
        raise Missing(output)
    return Side("Go 2.1.2", (str(program),), ("send", "oneway", "consume"))
