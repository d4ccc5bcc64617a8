"""One line of the growth table in a process of its own: ``python -m bench.growth_case CASE ...``; prints it as JSON.

=======================================  ==================================================================================
case                                     what is done
=======================================  ==================================================================================
``rebalance STRATEGY QUEUES MEMBERS``    one rebalance of a member, over routes and answers that are made up
``idle NAMESRV QUEUES SECONDS``          a push consumer takes all queues of topic ``T``, then has nothing to do
``cache MESSAGES``                       messages of 1 KiB are decoded and kept, as pulls of 32 bring them
=======================================  ==================================================================================
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import gevent

from bench.meters import Holds, rss_mb
from grocketmq import PushConsumer
from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.consumer import allocate
from grocketmq.consumer.offset_store import RemoteBrokerOffsetStore
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.rebalance import Rebalance
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.model.properties import Property, encode_properties
from grocketmq.model.route import BrokerData, MessageQueue, QueueData, TopicRouteData
from grocketmq.wire.message_codec import decode_messages, encode_message

TOPIC = "T"
BROKERS = 50
ROOMS = 5
BODY_BYTES = 1024
PULL = 32
#: Rounds of a case that is done at once; the median counts.
ROUNDS = 3
#: Seconds that surely take the event loop to its sockets; a sleep of 0 may not.
_A_TURN = 1e-5


def strategies() -> dict[str, allocate.AllocateStrategy]:
    """Each strategy, set up for the brokers and members made up here."""
    queues = [MessageQueue(TOPIC, broker_name(0), number) for number in range(10)]
    return {
        "AllocateAveragely": allocate.AllocateAveragely(),
        "AllocateAveragelyByCircle": allocate.AllocateAveragelyByCircle(),
        "AllocateByConfig": allocate.AllocateByConfig(queues),
        "AllocateByMachineRoom": allocate.AllocateByMachineRoom([f"room{room}" for room in range(ROOMS)]),
        "AllocateMachineRoomNearby": allocate.AllocateMachineRoomNearby(
            allocate.AllocateAveragely(),
            lambda queue: queue.broker_name.partition("@")[0],
            lambda client_id: f"room{hash(client_id) % ROOMS}",
        ),
        "AllocateConsistentHash": allocate.AllocateConsistentHash(),
    }


def broker_name(number: int) -> str:
    """``room@name``."""
    return f"room{number % ROOMS}@broker-{number:03d}"


class MadeUp:
    """The answers of name servers and brokers; no socket is opened."""

    def __init__(self, queues: int, members: list[str]) -> None:
        names = [broker_name(number) for number in range(BROKERS)]
        each = queues // BROKERS
        self._route = TopicRouteData(
            tuple(QueueData(name, each, each, 6) for name in names),
            tuple(BrokerData(name, {0: f"127.0.0.1:{10000 + number}"}) for number, name in enumerate(names)),
        )
        self._members = members

    def topic_route(self, topic: str, timeout: float) -> TopicRouteData:
        """The route."""
        return self._route

    def consumer_ids(self, address: str, group: str) -> list[str]:
        """The group."""
        gevent.sleep(_A_TURN)
        return list(self._members)

    def query_offset(self, address: str, group: str, queue: MessageQueue) -> int:
        """An offset that is stored."""
        gevent.sleep(_A_TURN)
        return 7

    def heartbeat(self, address: str, body: bytes) -> int:
        """The broker's version."""
        return 0

    def unregister(self, *args: Any, **options: Any) -> None:
        """Nothing."""


class NoWork:
    """What a rebalance asks of those who work on queues."""

    acquire = staticmethod(lambda queue: True)
    quiesce = staticmethod(lambda queue, held: True)
    release = staticmethod(lambda queue: None)


def rebalance(strategy: str, queues: str, members: str) -> dict[str, float]:
    """One rebalance, the first."""
    ids = [f"10.0.{number // 256}.{number % 256}@{1000 + number}#{number}" for number in range(int(members))]
    instance = ClientInstance(ClientConfig(namesrv="127.0.0.1:1", client_id=ids[len(ids) // 2]))
    instance.api = MadeUp(int(queues), ids)  # type: ignore[assignment]
    subscriptions = Subscriptions()
    subscriptions.add(TOPIC, "*")
    with Holds() as holds:
        instance.refresh_route(TOPIC)
    route_ms = holds.longest_ms
    seconds, longest = [], 0.0
    for _ in range(ROUNDS):
        store = RemoteBrokerOffsetStore()
        store.open(instance, "G")
        balance = Rebalance(
            "G", instance, {}, subscriptions, strategies()[strategy], store, NoWork(), lambda queue: 7, lambda *_: None
        )
        balance.start()
        with Holds() as holds:
            began = perf_counter()
            assert balance.run()
            seconds.append(perf_counter() - began)
        longest = max(longest, holds.longest_ms)
    instance.shutdown(0.1)
    return {"ms": sorted(seconds)[ROUNDS // 2] * 1e3, "hold_ms": max(longest, route_ms)}


def idle(namesrv: str, queues: str, seconds: str) -> dict[str, float]:
    """A consumer with nothing to do."""
    with _consumer("W", "none", namesrv):  # what is done once in a process is no growth
        pass
    gc.collect()
    before = rss_mb()
    consumer = _consumer("G", TOPIC, namesrv)
    with Holds() as starting:
        began = perf_counter()
        consumer.start()
        while len(consumer._parts.held()) < int(queues):  # to have them sorted takes milliseconds, too
            gevent.sleep(0.1)
        started = perf_counter() - began
        gevent.sleep(1.0)
    gc.collect()
    with Holds() as holds:
        cpu, began = process_time(), perf_counter()
        gevent.sleep(float(seconds))
        share = (process_time() - cpu) / (perf_counter() - began)
    found = {"ms": started * 1e3, "cpu_percent": share * 100, "mb": rss_mb() - before}
    with Holds() as ending:
        consumer.shutdown()
    return {**found, "hold_ms": max(starting.longest_ms, holds.longest_ms, ending.longest_ms)}


def _consumer(group: str, topic: str, namesrv: str) -> PushConsumer:
    consumer = PushConsumer(group, namesrv=namesrv)
    consumer.subscribe(topic)
    consumer.register_listener(lambda msgs: None)
    return consumer


def cache(messages: str) -> dict[str, float]:
    """Memory of a full cache."""
    gc.collect()
    before, held = rss_mb(), ProcessQueue(0.0)
    with Holds() as holds:
        for start in range(0, int(messages), PULL):
            stored = _stored(start)
            gevent.sleep(_A_TURN)
            held.put(decode_messages(stored, broker_name="broker-a", decompress=False))
            gevent.sleep(_A_TURN)
    return {"mb": rss_mb() - before, "hold_ms": holds.longest_ms}


def _stored(start: int) -> bytes:
    """What a pull answers."""
    properties = encode_properties({Property.TAGS: "tag", Property.KEYS: "key"})
    return b"".join(
        encode_message(TOPIC, bytes(BODY_BYTES), properties, queue_offset=offset, commit_log_offset=offset * 1200)
        for offset in range(start, start + PULL)
    )


CASES: dict[str, Callable[..., dict[str, float]]] = {"rebalance": rebalance, "idle": idle, "cache": cache}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])))
