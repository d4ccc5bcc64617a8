"""The embedded cluster in a process of its own, and what it takes.  Prints its nameserver's address, ends with its input.

Each line of its input is a command, answered with one line:

==================  ==============================================================================
``start``           seconds that the start of the cluster took, and those from the first import on
``begin``           begins to measure
``end``             the round since, as JSON: messages stored, processor time, memory, stalls
``fill COUNT``      stores so many messages of 100 bytes; the memory that they take, MB
==================  ==============================================================================
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING

BEGAN = time.perf_counter()

if TYPE_CHECKING:
    from grocketmq.embedded import EmbeddedCluster

FILL_BODY = bytes(100)


def main() -> None:
    """Serve until the input ends."""
    from gevent.fileobject import FileObject

    from grocketmq.embedded import EmbeddedCluster

    imported = time.perf_counter()
    with EmbeddedCluster(brokers=1) as cluster:
        ready = time.perf_counter()
        started = f"{ready - imported:.5f} {ready - BEGAN:.5f}"
        commands = FileObject(os.dup(sys.stdin.fileno()), "rb")
        print(cluster.namesrv, flush=True)
        serve(cluster, started, commands)


def serve(cluster: EmbeddedCluster, started: str, commands: object) -> None:
    """Answer the commands."""
    from bench.meters import Holds, Meter

    meter, holds, before = Meter(), Holds(), 0
    for line in commands:  # type: ignore[attr-defined]
        command, *arguments = line.decode().split()
        if command == "start":
            answer = started
        elif command == "begin":
            meter, holds, before = Meter(), Holds(), cluster.counts().messages
            holds.__enter__()
            meter.start()
            answer = "begun"
        elif command == "end":
            meter.stop()
            holds.__exit__()
            found = meter.result(cluster.counts().messages - before)
            answer = json.dumps({**asdict(found), "stall_max_ms": holds.longest_ms})
        else:
            answer = f"{fill(cluster, int(*arguments)):.1f}"
        print(answer, flush=True)


def fill(cluster: EmbeddedCluster, count: int) -> float:
    """Store messages as if clients had sent them; resident memory that came with them, MB."""
    from bench.meters import rss_mb
    from bench.raw import send_frame
    from grocketmq.codes import RequestCode
    from grocketmq.wire.framing import FrameDecoder

    broker = cluster.brokers["broker-a"]
    handler = broker.server.handlers[RequestCode.SEND_MESSAGE_V2]
    client = SimpleNamespace(peer=(bytes((127, 0, 0, 1)), 50_000))
    decoder = FrameDecoder()
    before = rss_mb()
    for number in range(count):
        (request,) = decoder.feed(send_frame("fill", FILL_BODY, number, 4))
        assert handler(request, client).code == 0  # type: ignore[arg-type,union-attr]
    return rss_mb() - before


if __name__ == "__main__":
    main()
