"""Send ten messages, one after the other, and wait for the broker's answer to each.

Usage: python examples/producer_sync.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from grocketmq import Message, Producer, SendStatus

TOPIC = "example_orders"


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_sync_producer", namesrv=namesrv) as producer:
        for number in range(10):
            message = Message(
                TOPIC,
                f"order {number}",
                tags="created",
                keys=f"order-{number}",
                properties={"region": "eu"},
            )
            result = producer.send(message)
            # Every status means stored; the others than SEND_OK tell of a late flush or replica.
            assert result.status is SendStatus.SEND_OK, result
            print(f"{result.msg_id} is in {result.message_queue} at offset {result.queue_offset}")


if __name__ == "__main__":
    main()
