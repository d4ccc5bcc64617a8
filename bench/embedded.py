"""The embedded cluster in a process of its own. Prints its nameserver's address, ends with its input."""

from __future__ import annotations

import os
import sys

from gevent.fileobject import FileObject

from grocketmq.embedded import EmbeddedCluster


def main() -> None:
    """Serve until the input ends."""
    with_input = FileObject(os.dup(sys.stdin.fileno()), "rb")
    with EmbeddedCluster(brokers=1) as cluster:
        print(cluster.namesrv, flush=True)
        with_input.read()


if __name__ == "__main__":
    main()
