"""KapokMQ without a server: starts the stand-in of the test suite, sends through two kills of it, and checks what came.

Usage: python examples/kapokmq_demo.py    from a copy of the repository
"""

import sys
from collections import Counter
from pathlib import Path

import gevent

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the stand-in, which is not installed

from grocketmq.kapokmq import Consumer, Producer, SendOutcomeUnknown
from tests.kapokmq.server import StandIn

MESSAGES = 2000
received: Counter[str] = Counter()
unknown: list[str] = []


def send_all(producer: Producer, server: StandIn) -> None:
    for number in range(MESSAGES):
        if number in (MESSAGES // 3, 2 * MESSAGES // 3):
            server.kill()  # as kill -9 does
            gevent.spawn_later(0.3, server.start)
        text = f"message {number}"
        try:
            producer.send(text)  # while the server is away it waits
        except SendOutcomeUnknown:
            unknown.append(text)  # sent, and the server died before it answered


def main() -> None:
    # Write-ahead log on, and a clock ten times as fast: what was pushed and not acknowledged is pushed again soon.
    with StandIn(persistence=2, speed=10.0, retry_time=3) as server:
        host, port = server.address
        consumer = Consumer(host, port, "demo", "reader", "test", check_time=1.0, dedup=MESSAGES)
        consumer.on_message(lambda message: received.update([message.message_data]))
        with consumer, Producer(host, port, "demo", "writer", "test", check_time=1.0) as producer:
            send_all(producer, server)
            with gevent.Timeout(20, False):
                while len(received) < MESSAGES - len(unknown):
                    gevent.sleep(0.05)
    missing = {f"message {number}" for number in range(MESSAGES)} - received.keys() - set(unknown)
    again = sum(count - 1 for count in received.values())
    print(f"{MESSAGES} sent through 2 kills, {len(unknown)} of them unknown; {len(received)} received, {again} more than once")
    print("PASSED" if not missing else f"FAILED: {len(missing)} acknowledged messages did not come")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
