"""Hooks that stamp and time messages, the message trace, and finding messages by id and by key.

Usage: python examples/message_trace.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
from contextvars import ContextVar
from time import monotonic

import gevent
from gevent.event import Event

from grocketmq import (
    ConsumeFromWhere,
    ConsumeMessageContext,
    Message,
    MessageExt,
    Producer,
    PushConsumer,
    SendMessageContext,
)

TOPIC = "example_trace"
#: What a web framework would set for each request.
current_user: ContextVar[str] = ContextVar("current_user", default="nobody")


class Audit:
    """Stamps what is sent with the user of that moment, and reports what becomes of it."""

    def before_send(self, context: SendMessageContext) -> None:
        for message in context.messages:
            message.properties["user"] = current_user.get()

    def after_send(self, context: SendMessageContext) -> None:
        how = "failed" if context.error else "stored"
        print(f"{current_user.get()}: {context.message.keys} {how} ({context.mode.value})")

    def after_consume(self, context: ConsumeMessageContext) -> None:
        for message in context.messages:
            print(f"{message.properties['user']}: {message.keys} {'consumed' if context.success else 'not consumed'}")


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    key = f"order-{monotonic()}"
    done = Event()

    def on_message(msgs: list[MessageExt]) -> None:
        if msgs[0].keys == key:
            done.set()

    consumer = PushConsumer(
        "example_trace_reader", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, hooks=[Audit()], trace=True
    )
    consumer.subscribe(TOPIC)
    consumer.register_listener(on_message)

    # With trace=True, mqadmin queryMsgTraceById shows what became of each message.
    with Producer("example_trace_producer", namesrv=namesrv, hooks=[Audit()], trace=True) as producer, consumer:
        current_user.set("ann")
        stored = producer.send(Message(TOPIC, "one order", keys=key))
        if not done.wait(timeout=30):
            sys.exit("the message was not consumed in time")
        # The index that queries use follows a moment behind.
        deadline = monotonic() + 10
        while not (found := producer.query_message(TOPIC, key)) and monotonic() < deadline:
            gevent.sleep(0.2)
        assert found[0].msg_id == stored.msg_id
        print("found by key:", producer.view_message(stored.msg_id, TOPIC).body.decode())
    print("trace records lost:", producer.trace_dropped + consumer.trace_dropped)


if __name__ == "__main__":
    main()
