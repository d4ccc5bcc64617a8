"""A ticker beside every kind of call: none of them keeps the event loop from turning, patched or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import pytest
from gevent import socket

from grocketmq import (
    ConsumeFromWhere,
    GRocketMQError,
    LocalFileOffsetStore,
    Message,
    MessageModel,
    Producer,
    PushConsumer,
)
from grocketmq.embedded import EmbeddedCluster

#: Seconds: what waits for I/O blocks for seconds; a busy machine, and the embedded brokers in the same process, for less.
HELD_TOO_LONG = 0.4


class Ticker:
    """The longest time for which the event loop did not turn."""

    def __enter__(self) -> Ticker:
        self.worst = 0.0
        self._last = perf_counter()
        self._timer = gevent.get_hub().loop.timer(0.005, 0.005, ref=False)
        self._timer.start(self._tick)
        return self

    def _tick(self) -> None:
        now = perf_counter()
        self.worst = max(self.worst, now - self._last)
        self._last = now

    def __exit__(self, *_: object) -> None:
        self._tick()
        self._timer.stop()
        self._timer.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("ticking")
        yield cluster


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def fails(call: Callable[[], Any]) -> None:
    with pytest.raises(GRocketMQError):
        call()


@pytest.mark.parametrize("namesrv", ["black hole", "no such name", "192.0.2.1:9876"])
def test_name_servers_that_do_not_answer(black_hole: str, namesrv: str) -> None:
    address = {"black hole": black_hole, "no such name": "no-such-host.invalid:9876"}.get(namesrv, namesrv)
    with Ticker() as ticker, Producer("ticking", namesrv=address, request_timeout=1, connect_timeout=1) as producer:
        fails(lambda: producer.send(Message("ticking", "x"), timeout=1.0))
        fails(producer.topic_list)
    assert ticker.worst < HELD_TOO_LONG


def test_large_bodies_are_packed_and_unpacked_elsewhere(cluster: EmbeddedCluster) -> None:
    got: list[int] = []
    consumer = PushConsumer("ticking", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("ticking")
    consumer.register_listener(lambda msgs: got.extend(len(msg.body) for msg in msgs))
    body = b"".join(str(number).encode() for number in range(500_000))[: 3 * 1024 * 1024]
    with Ticker() as ticker, Producer("ticking", namesrv=cluster.namesrv) as producer, consumer:
        for _ in range(3):
            producer.send(Message("ticking", body), timeout=10)
        with gevent.Timeout(20, AssertionError("not consumed")):
            while got.count(len(body)) < 3:
                gevent.sleep(0.01)
    assert ticker.worst < HELD_TOO_LONG


def test_offset_files(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    consumer = PushConsumer(
        "ticking_files",
        namesrv=cluster.namesrv,
        model=MessageModel.BROADCASTING,
        offset_store=LocalFileOffsetStore(tmp_path),
        persist_offset_interval=0.01,
    )
    consumer.subscribe("ticking")
    got: list[bytes] = []
    consumer.register_listener(lambda msgs: got.extend(msg.body for msg in msgs))
    with Ticker() as ticker, Producer("ticking", namesrv=cluster.namesrv) as producer, consumer:
        for number in range(100):
            producer.send(Message("ticking", str(number)))
        with gevent.Timeout(20, AssertionError("not consumed")):
            while len(got) < 100:
                gevent.sleep(0.01)
    assert list(tmp_path.rglob("offsets.json"))
    assert ticker.worst < HELD_TOO_LONG
