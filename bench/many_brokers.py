"""Many embedded brokers in a process of their own: ``python -m bench.many_brokers BROKERS QUEUES``.

The queues are those of topic ``T`` at all of them together.

Prints its name server's address, ends with its input.
"""

from __future__ import annotations

import os
import sys

from gevent.fileobject import FileObject

from grocketmq.embedded.broker import Broker, BrokerConfig
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.control import Control
from grocketmq.embedded.namesrv import NameServer
from grocketmq.wire.bodies import TopicConfig

HOST = "127.0.0.1:0"


def main(brokers: int, queues: int) -> None:
    """Serve until the input ends."""
    with_input = FileObject(os.dup(sys.stdin.fileno()), "rb")
    clock, control = Clock(), Control()
    namesrv = NameServer(HOST, control)
    namesrv.start()
    for number in range(brokers):
        broker = Broker(f"broker-{number:03d}", HOST, BrokerConfig(), namesrv, clock, control)
        each = queues // brokers
        broker.topics.put(TopicConfig("T", each, each))
        broker.start()
    print(namesrv.address, flush=True)
    with_input.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
