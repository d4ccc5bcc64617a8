"""Programs whose threads share a producer; what each sent goes to stdout as JSON.

Usage: python -m tests.citizen.threading_programs executor|bridge|fork
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gevent

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer, ThreadBridge
from tests.citizen.stored import sent
from tests.citizen.threading_topics import SENDS, THREADS, TOPIC

producer = Producer("threads")


def send_some(who: str) -> list[dict[str, Any]]:
    return [sent(body, producer.send(Message(TOPIC, body))) for body in (f"{who} {turn}" for turn in range(SENDS))]


def executor() -> dict[str, Any]:
    """A gevent program, whose main greenlet goes on."""
    with producer, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(send_some, f"thread {number}") for number in range(THREADS)]
        ticks = 0
        while not all(future.done() for future in futures):
            gevent.sleep(0.001)
            ticks += 1
        return {"sends": [one for future in futures for one in future.result()], "ticks": ticks}


def bridge() -> dict[str, Any]:
    """A program that knows nothing of gevent; its listener runs in the bridge's thread."""
    got: list[str] = []
    everything = threading.Event()
    consumer = PushConsumer("threads", consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(TOPIC)

    @consumer.listener
    def listen(msgs: list[Any]) -> None:
        got.extend(msg.body.decode() for msg in msgs)
        if len(set(got)) == THREADS * SENDS:
            everything.set()

    sends: list[dict[str, Any]] = []
    with ThreadBridge(producer, consumer):
        threads = [
            threading.Thread(target=lambda number=number: sends.extend(send_some(str(number)))) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        everything.wait(20)
    return {"sends": sends, "got": len(set(got))}


def fork() -> dict[str, Any]:
    """The bridge's thread is not there in the child; it is made anew."""
    with ThreadBridge(producer):
        sends = send_some("parent")
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, (json.dumps([send_some("child"), producer.client_id]) + "\n").encode())
            os._exit(0)
        with os.fdopen(reading) as told:
            child, name = json.loads(told.readline())
        os.close(writing)
        assert os.wait()[1] == 0
        assert name != producer.client_id
        return {"sends": sends + child + send_some("parent again")}


if __name__ == "__main__":
    print(json.dumps({"executor": executor, "bridge": bridge, "fork": fork}[sys.argv[1]]()))
