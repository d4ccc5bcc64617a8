"""Ask and wait for the answer: a consumer replies to messages, and a producer waits for its replies.

Both live in one process here; in real life they are two services.

Usage: python examples/request_reply.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

import gevent

from grocketmq import ConsumeFromWhere, Message, MessageExt, Producer, PushConsumer, RequestReplyTimeout, create_reply

TOPIC = "example_requests"

PRICES = {"apple": "0.30", "pear": "0.45", "melon": "2.10"}


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    consumer = PushConsumer("example_repliers", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(TOPIC)
    with Producer("example_requesters", namesrv=namesrv) as producer:

        @consumer.listener
        def on_messages(msgs: list[MessageExt]) -> None:
            for msg in msgs:
                price = PRICES.get(msg.body.decode())
                if price is not None:  # who does not reply lets the other side run into its timeout
                    producer.send(create_reply(msg, price))

        def ask(what: str) -> str:
            try:
                return producer.request(Message(TOPIC, what), timeout=10.0).body.decode()
            except RequestReplyTimeout:
                return "no reply"

        producer.create_topic(TOPIC, queues=4)
        with consumer:
            asking = {what: gevent.spawn(ask, what) for what in PRICES}
            gevent.joinall(list(asking.values()))
    for what, answer in asking.items():
        print(f"{what}: {answer.get()}")
    if any(answer.get() != PRICES[what] for what, answer in asking.items()):
        sys.exit("not every request got its reply")


if __name__ == "__main__":
    main()
