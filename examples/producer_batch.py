"""Send many small messages with few requests.

A batch is one request and is stored in one queue; ``split_batch`` cuts a list of any length into batches that a broker takes.

Usage: python examples/producer_batch.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from grocketmq import Message, Producer, split_batch

TOPIC = "example_batch"
MESSAGES = 1000
BATCH_BYTES = 64 * 1024


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    messages = [Message(TOPIC, b"%04d " % number * 100, keys=f"key-{number}") for number in range(MESSAGES)]
    stored = 0
    with Producer("example_batch_producer", namesrv=namesrv) as producer:
        for batch in split_batch(messages, BATCH_BYTES):
            result = producer.send_batch(batch)
            # The result of a batch holds the ids of all its messages, joined by commas.
            stored += len(result.msg_id.split(","))
            print(f"{len(batch)} messages are in {result.message_queue} from offset {result.queue_offset} on")
    if stored != MESSAGES:
        sys.exit(f"{stored} of {MESSAGES} messages were stored")


if __name__ == "__main__":
    main()
