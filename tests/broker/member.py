"""Program: a consumer that tells, a JSON object per line, each body its listener gets, and its queues when they change.

``python -m tests.broker.member NAMESRV GROUP TOPIC KIND``, the kind being ``concurrent``, ``orderly`` or ``pop``; runs until it
is killed, or leaves in order when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from base64 import b64encode
from typing import Any

import gevent
from gevent.fileobject import FileObject

from grocketmq import ConsumeFromWhere, MessageExt, PushConsumer

#: Seconds that a listener takes: a member that is killed has something in hand.
PAUSE = 0.002


def tell(**line: object) -> None:
    # Straight to the pipe: a listener that has returned has told.
    os.write(1, json.dumps(line).encode() + b"\n")


def listen(msgs: list[MessageExt]) -> None:
    for message in msgs:
        tell(body=b64encode(message.body).decode(), at=time.monotonic())
    gevent.sleep(PAUSE)


def main(namesrv: str, group: str, topic: str, kind: str) -> None:
    options: dict[str, Any] = {"pop": True, "pop_invisible_time": 5.0} if kind == "pop" else {}
    consumer = PushConsumer(group, namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, **options)
    consumer.subscribe(topic)
    consumer.register_listener(listen, orderly=kind == "orderly")
    consumer.start()
    left = gevent.spawn(FileObject(0, "rb", closefd=False).read)
    known: object = None
    while not left.dead:
        queues = sorted([queue.topic, queue.broker_name, queue.queue_id] for queue in consumer.queues())
        if queues != known:
            tell(queues=queues)
            known = queues
        gevent.sleep(0.1)
    consumer.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
