"""Consume the messages of ``producer_sync.py`` and stop after ten.

Usage: python examples/push_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from gevent.event import Event

from grocketmq import ConsumeFromWhere, MessageExt, PushConsumer

TOPIC = "example_orders"
MESSAGES = 10

consumed: list[str] = []
enough = Event()


def on_orders(msgs: list[MessageExt]) -> None:
    """Called in one of several greenlets; an exception here has the messages delivered again later."""
    for msg in msgs:
        print(f"{msg.keys}: {msg.body.decode()} ({msg.tags}, region {msg.properties['region']})")
        consumed.append(msg.msg_id)
    if len(consumed) >= MESSAGES:
        enough.set()


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    # FIRST_OFFSET matters only when the group is new: later it goes on where it stopped.
    consumer = PushConsumer("example_order_readers", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(TOPIC, "created || changed")
    consumer.register_listener(on_orders)
    with consumer:
        enough.wait(timeout=30)
    # Leaving the block lets the listener finish and stores the offsets.
    if len(consumed) < MESSAGES:
        sys.exit(f"only {len(consumed)} messages came; run producer_sync.py first")


if __name__ == "__main__":
    main()
