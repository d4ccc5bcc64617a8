"""Consume the messages of ``producer_ordered.py``: those of one order come one after the other, in their order.

Usage: python examples/orderly_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
from collections import defaultdict

from gevent.event import Event

from grocketmq import ConsumeFromWhere, ConsumeOrderlyStatus, MessageExt, PushConsumer

TOPIC = "example_ordered"
ORDERS = 3
LAST = "shipped"

steps: defaultdict[str, list[str]] = defaultdict(list)
stumbled: set[str] = set()
done = Event()


def on_step(msgs: list[MessageExt]) -> ConsumeOrderlyStatus:
    """Never called twice at the same time for one queue."""
    for msg in msgs:
        order, step = msg.body.decode().split()
        if step == LAST and order not in stumbled:
            stumbled.add(order)  # its queue waits a moment, then this message comes again before any later one
            return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
        steps[order].append(step)
    if sum(found[-1] == LAST for found in steps.values()) >= ORDERS:
        done.set()
    return ConsumeOrderlyStatus.SUCCESS


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    consumer = PushConsumer(
        "example_ordered_readers", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, suspend_queue_time=0.1
    )
    consumer.subscribe(TOPIC)
    consumer.register_listener(on_step, orderly=True)
    with consumer:
        done.wait(timeout=30)
    for order, found in sorted(steps.items()):
        print(f"{order}: {', '.join(found)}")
    if not done.is_set():
        sys.exit("not every order was shipped; run producer_ordered.py first")


if __name__ == "__main__":
    main()
