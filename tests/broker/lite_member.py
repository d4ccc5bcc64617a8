"""Program: a lite pull consumer that commits by hand, and tells each body, a line of base64, once it is done with it.

``python -m tests.broker.lite_member NAMESRV GROUP TOPIC [LIMIT]``; after ``LIMIT`` bodies it leaves by ``os._exit``, in the
middle of its work.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode

import gevent

from grocketmq import ConsumeFromWhere, LitePullConsumer

#: Seconds of work for each message.
WORK = 0.002


def main(namesrv: str, group: str, topic: str, limit: str = "1000000") -> None:
    consumer = LitePullConsumer(group, namesrv=namesrv, auto_commit=False, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(topic)
    consumer.start()
    left = int(limit)
    while True:
        for message in consumer.poll():
            gevent.sleep(WORK)
            # Straight to the pipe: what is done has been told.
            os.write(1, b64encode(message.body) + b"\n")
            left -= 1
            if not left:
                os._exit(9)
        consumer.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
