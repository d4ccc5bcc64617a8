"""``python -m tests.kapokmq [servers]``: stand-in servers of a cluster and their registry, until the input ends.

Prints one line: the registry's address, then the servers'.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from gevent.fileobject import FileObject

from tests.kapokmq.server import Registry, StandIn


def main() -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(stale=1.0))
        servers = [StandIn(check=1, speed=5.0) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1)]
        for server in servers:
            server.registry = registry
            stack.enter_context(server)
        print(*(f"{one.host}:{one.port}" for one in (registry, *servers)), flush=True)
        FileObject(os.dup(sys.stdin.fileno()), "rb").read()


if __name__ == "__main__":
    main()
