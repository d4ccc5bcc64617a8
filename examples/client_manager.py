"""A producer and a consumer looked after by one ``MQClientManager``; the consumer acknowledges a part of a batch.

The listener takes up to eight messages at a time.  Message 5 fails the first time, so it acknowledges those before it, by
``ack_index``; message 5 and what follows it in the batch are delivered again.

Usage: python examples/client_manager.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
import uuid

from gevent.event import Event

from grocketmq import (
    ConsumeContext,
    ConsumeFromWhere,
    ConsumeResult,
    ConsumeStatus,
    Message,
    MessageExt,
    MQClientManager,
    Producer,
    PushConsumer,
)

TOPIC = "example_payments"
PAYMENTS = 8
#: Tells this run's messages from those of earlier runs.
RUN = uuid.uuid4().hex

booked: set[int] = set()
delivered_again: set[int] = set()
all_booked = Event()


def book(msg: MessageExt) -> None:
    number = int(msg.body)
    if number == 5 and msg.reconsume_times == 0:
        raise ConnectionError("the ledger does not answer")
    booked.add(number)
    if msg.reconsume_times:
        delivered_again.add(number)
    if len(booked) == PAYMENTS:
        all_booked.set()


def on_payments(msgs: list[MessageExt], context: ConsumeContext) -> ConsumeResult:
    context.delay_level_when_next_consume = 1  # one second; 0 would be 10 s, then 30 s, then a minute ...
    for index, msg in enumerate(msgs):
        try:
            if msg.properties.get("run") == RUN:
                book(msg)
        except ConnectionError as error:
            print(f"payment {int(msg.body)}: {error}; it and {len(msgs) - index - 1} others come again")
            return ConsumeResult(ConsumeStatus.SUCCESS, ack_index=index - 1)
    return ConsumeResult(ConsumeStatus.SUCCESS)


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    producer = Producer("example_payment_senders", namesrv=namesrv)
    consumer = PushConsumer(
        "example_payment_readers",
        namesrv=namesrv,
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
        consume_batch_size=PAYMENTS,
    )
    consumer.subscribe(TOPIC)
    consumer.register_listener(on_payments)

    manager = MQClientManager(namesrv=namesrv)
    manager.register_producer(producer)
    manager.register_consumer(consumer)
    with manager:  # start() and shutdown() of all its clients
        payments = [Message(TOPIC, str(number), properties={"run": RUN}) for number in range(PAYMENTS)]
        producer.send_batch(payments)
        all_booked.wait(timeout=40)
    print(f"booked {sorted(booked)}; delivered again {sorted(delivered_again)}")
    if len(booked) < PAYMENTS or 5 not in delivered_again:
        sys.exit("some payment is missing")


if __name__ == "__main__":
    main()
