"""Send the steps of several orders so that the steps of one order stay in order.

Messages with the same sharding key go to the same queue, and a queue keeps the order in which it was written.

Usage: python examples/producer_ordered.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from grocketmq import Message, MessageQueue, Producer

TOPIC = "example_ordered"
STEPS = ("created", "paid", "packed", "shipped")


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    queues: dict[str, set[MessageQueue]] = {}
    with Producer("example_ordered_producer", namesrv=namesrv) as producer:
        # A topic that a broker creates by itself gets more queues while it spreads to other brokers, and a key moves when
        # the number of queues changes.  So a topic whose order matters is created beforehand.
        producer.create_topic(TOPIC, queues=4)
        for step in STEPS:
            for order in ("order-1", "order-2", "order-3"):
                result = producer.send_orderly(Message(TOPIC, f"{order} {step}", tags=step), order)
                queues.setdefault(order, set()).add(result.message_queue)
    for order, used in queues.items():
        print(f"{order}: {', '.join(map(str, used))}")
        if len(used) != 1:
            sys.exit(f"the steps of {order} are in {len(used)} queues")


if __name__ == "__main__":
    main()
