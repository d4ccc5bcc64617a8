"""Send messages that are delivered later: after a delay level, after any time, at a point in time; and take one back.

Every broker knows delay levels.  ``delay`` and ``deliver_at`` need brokers of release 5.0 or later, and taking back needs
``recallMessageEnable`` in their configuration.

Usage: python examples/producer_delay.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
import time
from datetime import datetime, timedelta, timezone

from gevent.event import Event

from grocketmq import ConsumeFromWhere, GRocketMQError, Message, MessageExt, Producer, PushConsumer

TOPIC = "example_delay"

arrived: dict[str, float] = {}
complete = Event()


def on_messages(msgs: list[MessageExt]) -> None:
    for msg in msgs:
        arrived[msg.body.decode()] = time.time()
    if len(arrived) >= 3:
        complete.set()


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_delay_producer", namesrv=namesrv) as producer:
        began = time.time()
        producer.send(Message(TOPIC, "by level", delay_level=1))  # 1 s, unless the broker is configured otherwise
        producer.send(Message(TOPIC, "after a delay", delay=2.5))
        producer.send(Message(TOPIC, "at a time", deliver_at=datetime.now(timezone.utc) + timedelta(seconds=3)))
        regretted = producer.send(Message(TOPIC, "never", delay=3600))
        try:
            assert regretted.recall_handle is not None
            print("taken back:", producer.recall(TOPIC, regretted.recall_handle))
        except GRocketMQError as error:
            print("not taken back:", error)

        consumer = PushConsumer("example_delay_readers", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
        consumer.subscribe(TOPIC)
        consumer.register_listener(on_messages)
        with consumer:
            complete.wait(timeout=30)
    for body, when in sorted(arrived.items(), key=lambda item: item[1]):
        print(f"{body}: after {when - began:.1f} s")
    if len(arrived) < 3:
        sys.exit("not all messages came")


if __name__ == "__main__":
    main()
