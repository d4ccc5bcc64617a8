"""KapokMQ: send, receive and acknowledge on one server, and ask its console.

Usage: python examples/kapokmq_single.py [host:port [secret_key]]
       (default: the environment variables KAPOKMQ_ADDR and KAPOKMQ_KEY, else 127.0.0.1:8011 and test)
"""

import os
import sys
import uuid

from grocketmq.kapokmq import Console, Consumer, Producer

TOPIC = f"example_{uuid.uuid4().hex[:8]}"  # of this run alone
MESSAGES = 10


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KAPOKMQ_ADDR", "127.0.0.1:8011")
    key = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("KAPOKMQ_KEY", "test")
    host, port = address.rsplit(":", 1)
    # An id belongs to one client: with a second of the same id a server confuses them.
    consumer_id, producer_id = f"reader-{os.getpid()}", f"writer-{os.getpid()}"
    # The consumer first: a message that finds no consumer waits until it is pushed again, five minutes later by default.
    with (
        Consumer(host, int(port), TOPIC, consumer_id, key) as consumer,
        Producer(host, int(port), TOPIC, producer_id, key) as producer,
    ):
        producer.send("order 0")  # waits until the server has it
        for number in range(1, MESSAGES):
            producer.send_async(f"order {number}")  # does not wait
        for _ in range(1, MESSAGES):
            producer.ack(timeout=10)  # raises if one was not acknowledged
        producer.send_delay("in a second", 1)

        for message in consumer:
            print(f"{message.message_code}: {message.message_data}")
            message.ack()  # else it is pushed again
            if message.message_data == "in a second":
                break

    counts = Console(host, int(port), key).count()
    print(f"the server holds {counts.all} messages, {counts.consumed} of them consumed")


if __name__ == "__main__":
    main()
