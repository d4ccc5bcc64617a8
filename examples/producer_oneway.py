"""Send a thousand messages without asking for an answer, then count what the brokers hold.

Oneway is for what may be lost, such as metrics: a message that a broker refuses is gone without a word.

Usage: python examples/producer_oneway.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

import gevent

from grocketmq import Message, Producer

TOPIC = "example_oneway"
MESSAGES = 1000


def held(producer: Producer) -> int:
    """The messages the topic has ever taken: the sum of its queues' ends."""
    return sum(producer.max_offset(queue) for queue in producer.fetch_publish_queues(TOPIC))


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_oneway_producer", namesrv=namesrv) as producer:
        producer.create_topic(TOPIC, queues=4)
        before = held(producer)
        for number in range(MESSAGES):
            producer.send_oneway(Message(TOPIC, f"metric {number}"))

        with gevent.Timeout(30):
            while held(producer) - before < MESSAGES:
                gevent.sleep(0.1)
        print(f"{MESSAGES} sent, {held(producer) - before} stored")


if __name__ == "__main__":
    main()
