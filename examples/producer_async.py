"""Send a thousand messages without waiting for each; callbacks are told how every one of them went.

Usage: python examples/producer_async.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

import gevent

from grocketmq import Message, Producer, SendResult

TOPIC = "example_async"
MESSAGES = 1000

stored: list[str] = []
failed: list[Exception] = []


def on_success(result: SendResult) -> None:
    stored.append(result.msg_id)


def on_error(error: Exception) -> None:
    failed.append(error)


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_async_producer", namesrv=namesrv) as producer:
        # send_async waits only when too much is under way (the option "backpressure").
        results = [producer.send_async(Message(TOPIC, f"message {number}"), on_success, on_error) for number in range(MESSAGES)]
        # Callbacks are enough for most programs; the AsyncResult that each call returns can be waited for.
        gevent.wait(results, timeout=30)
    # Leaving the block shuts the producer down, which waits for callbacks too.
    print(f"{len(stored)} stored, {len(failed)} failed")
    if len(stored) != MESSAGES:
        sys.exit(f"the first failure: {failed[:1]}")


if __name__ == "__main__":
    main()
