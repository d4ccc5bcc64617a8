"""KapokMQ: send to whichever servers of a cluster are up, and consume from each of them.

Usage: python examples/kapokmq_cluster.py [host:port [secret_key]]    of the Serena registry
       (default: the environment variables KAPOKMQ_REGISTRY and KAPOKMQ_KEY, else 127.0.0.1:8031 and test)
"""

import os
import sys
import uuid
from collections import Counter

from gevent.event import Event

from grocketmq.kapokmq import ClusterProducer, Consumer, KapokMessage, Node, get_nodes

TOPIC = f"example_{uuid.uuid4().hex[:8]}"  # of this run alone
MESSAGES = 200

received: Counter[str] = Counter()
complete = Event()


def consumer_of(node: Node, key: str) -> Consumer:
    """Servers share no messages, so each wants a consumer."""

    def on_message(message: KapokMessage) -> None:  # acknowledged when this returns
        received[node.name] += 1
        if received.total() >= MESSAGES:
            complete.set()

    # If it is pushed again because an acknowledgement was late, it is not handed out twice.
    return Consumer(node.addr, node.port, TOPIC, f"{node.name}-{os.getpid()}", key, on_message=on_message, dedup=10_000)


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KAPOKMQ_REGISTRY", "127.0.0.1:8031")
    key = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("KAPOKMQ_KEY", "test")
    host, port = address.rsplit(":", 1)
    consumers = [consumer_of(node, key) for node in get_nodes("http", host, int(port), key)]
    try:
        for consumer in consumers:
            consumer.start()
        with ClusterProducer(host, int(port), TOPIC, f"writer-{os.getpid()}", key, check_time=5.0) as producer:
            for number in range(MESSAGES):
                producer.send_async(f"message {number}")
            producer.flush()
            for _ in range(MESSAGES):
                producer.ack()
            print(f"{MESSAGES} messages sent to {len(producer.connected_nodes)} of {len(producer.nodes)} nodes")
        if not complete.wait(timeout=30):
            sys.exit(f"only {received.total()} messages came")
    finally:
        for consumer in consumers:
            consumer.close()
    for name, count in sorted(received.items()):
        print(f"{name}: {count} received")


if __name__ == "__main__":
    main()
