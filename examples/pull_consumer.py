"""Read the messages of ``producer_sync.py`` queue by queue; the brokers keep the offsets for the next run.

Usage: python examples/pull_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from grocketmq import MessageQueue, PullConsumer, PullStatus

TOPIC = "example_orders"


def read_queue(consumer: PullConsumer, queue: MessageQueue) -> int:
    """Read what is there, and say how many messages that was."""
    offset = consumer.fetch_offset(queue)
    if offset is None:  # the group reads this queue for the first time
        offset = consumer.min_offset(queue)
    count = 0
    while True:
        result = consumer.pull(queue, "created || changed", offset)
        for msg in result.messages:
            print(f"{msg.keys}: {msg.body.decode()} ({queue.broker_name}, queue {queue.queue_id}, offset {msg.queue_offset})")
        count += len(result.messages)
        # Also where nothing matched: the broker says where to go on.
        offset = result.next_begin_offset
        consumer.update_offset(queue, offset)
        if result.status is PullStatus.NO_NEW_MSG:
            return count


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with PullConsumer("example_order_pullers", namesrv=namesrv) as consumer:
        count = sum(read_queue(consumer, queue) for queue in consumer.fetch_subscribe_queues(TOPIC))
    print(f"{count} messages read")


if __name__ == "__main__":
    main()
