"""A program that forks while a send is under way, in a selector or in a local transaction; what became of it goes to stdout as
JSON.

Usage: python -m tests.citizen.forked_send send|oneway|auto_batch|transaction
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent
from gevent.event import Event

from grocketmq import LocalTransactionState, Message, MessageQueue, TransactionProducer
from tests.citizen.forking import forked


def main(how: str) -> None:
    topic = f"forked-{how}"
    entered, go_on = Event(), Event()

    def wait() -> None:
        entered.set()
        go_on.wait(20)

    def wait_before(queues: list[MessageQueue], msg: Message, arg: object) -> MessageQueue:
        wait()
        return queues[0]

    def wait_in(msg: Message, arg: object) -> LocalTransactionState:
        wait()
        return LocalTransactionState.COMMIT

    producer = TransactionProducer(
        "forked-sends",
        execute=wait_in,
        check=lambda msg: LocalTransactionState.UNKNOWN,
        auto_batch=how == "auto_batch",
        send_timeout=20.0,
    )
    producer.start()

    def under_way() -> str:
        msg = Message(topic, "of both")
        try:
            if how == "transaction":
                producer.send_in_transaction(msg)
            else:
                send = producer.send_oneway if how == "oneway" else producer.send
                send(msg, selector=wait_before)
            return "sent"
        except Exception as error:
            return type(error).__name__

    job = gevent.spawn(under_way)
    entered.wait(10)

    def child() -> dict[str, Any]:
        producer.send(Message(topic, "of the child"))
        go_on.set()
        copy = job.get(timeout=10)
        began, told = time.monotonic(), producer.debug_dump()
        producer.shutdown(5)
        return {"copy": copy, "under_way": told["sends_under_way"], "shutdown": time.monotonic() - began}

    told = forked(child)
    go_on.set()
    told["parent"] = job.get(timeout=10)
    producer.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
