"""Two consumers with POP share one queue: brokers hand out single messages instead of queues.  Needs a 5.x broker.

Usage: python examples/pop_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
from collections import Counter

import gevent
from gevent.event import Event

from grocketmq import ConsumeFromWhere, Message, MessageExt, Producer, PushConsumer

TOPIC = "example_single_queue"
MESSAGES = 200

consumed: Counter[str] = Counter()
enough = Event()


def new_consumer(name: str, namesrv: str | None) -> PushConsumer:
    consumer = PushConsumer(
        "example_poppers",
        namesrv=namesrv,
        instance_name=name,  # two members of a group in one process need one each
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
        pop=True,
        pop_invisible_time=30.0,  # a listener that takes longer has its message delivered again
        pop_batch_size=8,
    )
    consumer.subscribe(TOPIC)

    @consumer.listener
    def on_messages(msgs: list[MessageExt]) -> None:
        gevent.sleep(0.01)  # the work: slow enough that one consumer alone would fall behind
        consumed[name] += len(msgs)
        if consumed.total() >= MESSAGES:
            enough.set()

    return consumer


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_senders", namesrv=namesrv) as producer:
        producer.create_topic(TOPIC, queues=1)
        with new_consumer("first", namesrv), new_consumer("second", namesrv):
            for number in range(MESSAGES):
                producer.send(Message(TOPIC, f"message {number}"))
            enough.wait(timeout=30)
    print(f"{consumed.total()} messages consumed by {len(consumed)} consumers of one group")
    if consumed.total() < MESSAGES:
        sys.exit("some messages did not come")


if __name__ == "__main__":
    main()
