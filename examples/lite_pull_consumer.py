"""Poll the messages of ``producer_sync.py`` and commit by hand what was processed; stop after ten.

Usage: python examples/lite_pull_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
import time

from grocketmq import ConsumeFromWhere, LitePullConsumer, MessageQueue

TOPIC = "example_orders"
MESSAGES = 10


def on_rebalance(topic: str, queues: list[MessageQueue], mine: list[MessageQueue]) -> None:
    print(f"{len(mine)} of {len(queues)} queues of {topic} are read here")


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    consumer = LitePullConsumer(
        "example_order_pollers",
        namesrv=namesrv,
        auto_commit=False,
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
        on_rebalance=on_rebalance,
    )
    consumer.subscribe(TOPIC, "created || changed")
    processed = 0
    limit = time.monotonic() + 30
    with consumer:
        while processed < MESSAGES and time.monotonic() < limit:
            for msg in consumer.poll(timeout=1):
                print(f"{msg.keys}: {msg.body.decode()}")
                processed += 1
            # All that polls have handed out is processed: after a crash the group goes on behind it.
            consumer.commit()
    if processed < MESSAGES:
        sys.exit(f"only {processed} messages came; run producer_sync.py first")


if __name__ == "__main__":
    main()
