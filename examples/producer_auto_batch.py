"""Two hundred greenlets send small messages; those of the same moment travel together, and each gets its own answer.

Usage: python examples/producer_auto_batch.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

import gevent

from grocketmq import AutoBatch, Message, Producer, SendResult

TOPIC = "example_auto_batch"
SENDERS = 200


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    requests = 0

    class CountRequests:
        """A hook that sees every request and its answer."""

        def before_request(self, address: str, request: object) -> None:
            pass

        def after_response(self, address: str, request: object, response: object) -> None:
            nonlocal requests
            requests += 1

    # A message waits at most 20 ms for others to the same topic; a batch of 32 KiB goes at once.
    bound = AutoBatch(max_delay=0.02, max_bytes=32 * 1024)
    with Producer("example_auto_batch_producer", namesrv=namesrv, auto_batch=bound, hooks=[CountRequests()]) as producer:
        producer.send(Message(TOPIC, "the first one finds the route"))
        before = requests
        senders = [gevent.spawn(producer.send, Message(TOPIC, f"message {number}")) for number in range(SENDERS)]
        gevent.joinall(senders, timeout=30, raise_error=True)
        results: list[SendResult] = [sender.value for sender in senders]
        places = {(result.message_queue, result.queue_offset) for result in results}
        print(
            f"{len(places)} messages in {len(places)} places, sent with {'few' if requests - before < 50 else 'many'} requests"
        )


if __name__ == "__main__":
    main()
