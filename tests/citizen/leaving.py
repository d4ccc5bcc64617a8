"""A program that ends while its sends are under way; its consumer's listener is at work then, too.

Usage: python -m tests.citizen.leaving exit|wait|interrupt|error
"""

import os
import signal
import sys

import gevent

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer, shutdown_at_exit

SENDS = 200
TOPIC, ENDED = "leaving", "ended"

if __name__ == "__main__":
    shutdown_at_exit()
    producer = Producer("leaving")
    producer.start()
    consumer = PushConsumer("leaving", consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("work")
    at_work = gevent.event.Event()

    @consumer.listener
    def work(msgs):  # type: ignore[no-untyped-def]
        at_work.set()
        if sys.argv[1] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, just when this runs
        gevent.sleep(0.3)
        producer.send(Message(ENDED, msgs[0].body))

    consumer.start()
    producer.send(Message("work", "one job"))
    try:
        at_work.wait(20)
        gevent.sleep(10 if sys.argv[1] == "interrupt" else 0)
    finally:
        for number in range(SENDS):
            gevent.spawn(producer.send, Message(TOPIC, str(number)))
    if sys.argv[1] == "wait":
        print("ready", flush=True)
        gevent.sleep(60)
    if sys.argv[1] == "error":
        raise ZeroDivisionError
