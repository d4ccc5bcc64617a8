"""What happens when a broker does not keep up: senders wait, and nothing grows without bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import gevent
import pytest
from gevent.event import Event

from grocketmq import Backpressure, Message, Producer, SendError, TooManyRequestsError
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.producer.oneway import LARGEST_WINDOW, PROBE_EVERY
from grocketmq.remoting.connection import MAX_OUT_BYTES
from tests.helpers import wait_for

KIB = 1024
#: What the two ends of a connection on loopback may keep in the kernel.
KERNEL_BYTES = 16 * KIB * KIB


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("T", queues=1)
        yield cluster


@pytest.fixture
def thaw(cluster: EmbeddedCluster) -> Iterator[Event]:
    """A broker that reads nothing behind the first send, until this is set."""
    thaw = Event()

    def freeze(taken: object) -> None:
        thaw.wait()
        taken.serve()  # type: ignore[attr-defined]

    cluster.control(RequestCode.SEND_MESSAGE_V2, freeze, times=None)
    yield thaw
    thaw.set()


def stored(producer: Producer) -> int:
    return sum(producer.max_offset(queue) for queue in producer.fetch_publish_queues("T"))


@pytest.mark.parametrize(("size", "most"), [(10, LARGEST_WINDOW * PROBE_EVERY + PROBE_EVERY), (256 * KIB, None)])
def test_oneway_sends_wait_and_then_fail(cluster: EmbeddedCluster, thaw: Event, size: int, most: int | None) -> None:
    """Small messages meet the bound by count, large ones that by bytes; what was let in is not lost."""
    accepted = 0
    options = {"send_timeout": 0.3, "compress_above": 1 << 30}
    with Producer("senders", namesrv=cluster.namesrv, **options) as producer:  # type: ignore[arg-type]
        with pytest.raises(TooManyRequestsError):
            for _ in range(100_000):
                began = monotonic()
                producer.send_oneway(Message("T", bytes(size)))
                accepted += 1
        assert 0.25 < monotonic() - began < 2
        assert accepted <= (most or (MAX_OUT_BYTES + KERNEL_BYTES) / size)
        thaw.set()
        wait_for(lambda: stored(producer) >= accepted, timeout=10)
        producer.send_oneway(Message("T", b"again"))
        wait_for(lambda: stored(producer) >= accepted + 1)


@pytest.mark.parametrize(
    ("bound", "fit"), [(Backpressure(max_messages=7), 7), (Backpressure(max_bytes=10_000), 10), (Backpressure(5, 3000), 3)]
)
def test_async_sends_wait_and_then_fail(cluster: EmbeddedCluster, thaw: Event, bound: Backpressure, fit: int) -> None:
    with Producer("senders", namesrv=cluster.namesrv, backpressure=bound, send_timeout=5.0) as producer:
        pending = [producer.send_async(Message("T", bytes(1000))) for _ in range(fit)]
        began = monotonic()
        with pytest.raises(TooManyRequestsError, match=f"{fit} messages of {fit * 1000} bytes are under way"):
            producer.send_async(Message("T", bytes(1000)), timeout=0.2)
        assert 0.15 < monotonic() - began < 2
        waiting = gevent.spawn(producer.send_async, Message("T", bytes(1000)))
        gevent.sleep(0.05)
        assert not waiting.ready()
        thaw.set()
        assert len({one.get(timeout=5).queue_offset for one in [*pending, waiting.get(timeout=5)]}) == fit + 1


def test_a_broker_that_is_away_lets_nothing_pile_up(cluster: EmbeddedCluster) -> None:
    with Producer("senders", namesrv=cluster.namesrv, send_timeout=0.3, backpressure=Backpressure(max_messages=5)) as producer:
        producer.send(Message("T", b"x"))
        cluster.stop_broker("broker-a")
        pending = []
        for _ in range(30):
            with suppress(TooManyRequestsError):
                pending.append(producer.send_async(Message("T", b"x")))
            assert sum(not one.ready() for one in pending) <= 5
        wait_for(lambda: all(one.ready() for one in pending))
        cluster.start_broker("broker-a")

        def arrives() -> bool:
            with suppress(SendError):
                return producer.send(Message("T", b"x")) is not None
            return False

        wait_for(arrives)
