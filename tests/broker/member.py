"""Program: a consumer that tells, a JSON object per line, each body its listener gets, and its queues when they change.

``python -m tests.broker.member NAMESRV GROUP TOPIC``; runs until it is killed.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode

import gevent

from grocketmq import ConsumeFromWhere, MessageExt, PushConsumer


def tell(**line: object) -> None:
    # Straight to the pipe: a listener that has returned has told.
    os.write(1, json.dumps(line).encode() + b"\n")


def listen(msgs: list[MessageExt]) -> None:
    for message in msgs:
        tell(body=b64encode(message.body).decode())


def main(namesrv: str, group: str, topic: str) -> None:
    consumer = PushConsumer(group, namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(topic)
    consumer.register_listener(listen)
    consumer.start()
    known: object = None
    while True:
        queues = sorted([queue.topic, queue.broker_name, queue.queue_id] for queue in consumer.queues())
        if queues != known:
            tell(queues=queues)
            known = queues
        gevent.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
