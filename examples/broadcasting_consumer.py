"""Send price changes that every member of a group gets; each keeps its offsets in a file of its own.

Usage: python examples/broadcasting_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
import tempfile
from collections import Counter

from gevent.event import Event

from grocketmq import LocalFileOffsetStore, Message, MessageExt, MessageModel, Producer, PushConsumer

TOPIC = "example_prices"
MEMBERS = ("till-1", "till-2")
CHANGES = 5

received: Counter[str] = Counter()
enough = Event()


def member(name: str, directory: str, namesrv: str | None) -> PushConsumer:
    consumer = PushConsumer(
        "example_tills",
        namesrv=namesrv,
        model=MessageModel.BROADCASTING,
        instance_name=name,  # two members of one group in one process need two names, and keep their files apart by them
        offset_store=LocalFileOffsetStore(directory),  # default: .rocketmq_offsets in the home directory
    )

    @consumer.listener
    def on_prices(msgs: list[MessageExt]) -> None:
        received[name] += len(msgs)
        if all(received[each] >= CHANGES for each in MEMBERS):
            enough.set()

    consumer.subscribe(TOPIC)
    return consumer


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_head_office", namesrv=namesrv) as producer, tempfile.TemporaryDirectory() as directory:
        producer.create_topic(TOPIC, queues=4)  # members begin at the end of the queues that are there
        with member(MEMBERS[0], directory, namesrv), member(MEMBERS[1], directory, namesrv):
            for number in range(CHANGES):
                producer.send(Message(TOPIC, f"price {number}"))
            enough.wait(timeout=30)
    for name in MEMBERS:
        print(f"{name}: {received[name]} changes")
    if not enough.is_set():
        sys.exit("some member did not get every change")


if __name__ == "__main__":
    main()
