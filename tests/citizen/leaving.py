"""A program that ends while its sends are under way; its consumer's listener is at work then, too.

Usage: python -m tests.citizen.leaving exit|wait
"""

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
        gevent.sleep(0.3)
        producer.send(Message(ENDED, msgs[0].body))

    consumer.start()
    producer.send(Message("work", "one job"))
    at_work.wait(20)
    for number in range(SENDS):
        gevent.spawn(producer.send, Message(TOPIC, str(number)))
    if sys.argv[1] == "wait":
        print("ready", flush=True)
        gevent.sleep(60)
