"""A ticker beside every kind of call: none of them keeps the event loop from turning, patched or not."""

from __future__ import annotations

import _socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
    TLSConfig,
)
from grocketmq.client import packing
from grocketmq.consumer import local_offset_store
from grocketmq.embedded import EmbeddedCluster
from grocketmq.runtime.threads import get_ident
from tests.certificates import Authority

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


class Elsewhere:
    """Looks at functions that block or compute: in which threads they are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._threads: dict[str, set[int]] = {}

    def watch(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)
        threads = self._threads[name] = set()

        def call(*args: Any, **kwargs: Any) -> Any:
            threads.add(get_ident())
            return original(*args, **kwargs)

        self._monkeypatch.setattr(owner, name, call)

    def check(self) -> None:
        for name, threads in self._threads.items():
            assert threads, f"{name} is not called at all"
            assert get_ident() not in threads, f"{name} is called where the event loop runs"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(monkeypatch)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def full() -> Iterator[str]:
    """Answers no try to connect: as many as it lets wait are waiting."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def fails(call: Callable[[], Any]) -> None:
    with pytest.raises(GRocketMQError):
        call()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("namesrv", ["black_hole", "full"])
def test_name_servers_that_do_not_answer(request: pytest.FixtureRequest, namesrv: str, tls: bool) -> None:
    options = {"namesrv": request.getfixturevalue(namesrv), "tls": tls, "request_timeout": 0.5, "connect_timeout": 0.5}
    with Ticker() as ticker, Producer("ticking", **options) as producer:
        fails(lambda: producer.send(Message("ticking", "x"), timeout=0.5))
        fails(producer.topic_list)
    assert ticker.worst < HELD_TOO_LONG


def test_names_are_resolved_elsewhere(elsewhere: Elsewhere) -> None:
    elsewhere.watch(_socket, "getaddrinfo")
    with Ticker() as ticker, Producer("ticking", namesrv="no-such-host.invalid:9876") as producer:
        fails(producer.topic_list)
    assert ticker.worst < HELD_TOO_LONG
    elsewhere.check()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_large_bodies_are_packed_and_unpacked_elsewhere(
    cluster: EmbeddedCluster, authority: Authority, tmp_path: Path, elsewhere: Elsewhere, tls: bool
) -> None:
    """A send, a listener's message, and one that was asked for; over TLS the files with the certificates are read, too."""
    for name in ("compress", "decompress"):
        elsewhere.watch(packing, name)
    got: list[int] = []
    body = b"".join(str(number).encode() for number in range(500_000))[: 3 * 1024 * 1024]
    with ExitStack() as stack:
        options: dict[str, Any] = {"namesrv": cluster.namesrv}
        if tls:
            secure = stack.enter_context(EmbeddedCluster(tls=authority.issue().server_context()))
            secure.create_topic("ticking")
            options = {"namesrv": secure.namesrv, "tls": TLSConfig(ca_file=authority.write(tmp_path))}
            elsewhere.watch(ssl, "create_default_context")
        consumer = PushConsumer("ticking", consume_from=ConsumeFromWhere.FIRST_OFFSET, **options)
        consumer.subscribe("ticking")
        consumer.register_listener(lambda msgs: got.extend(len(msg.body) for msg in msgs))
        ticker = stack.enter_context(Ticker())
        producer = stack.enter_context(Producer("ticking", **options))
        stack.enter_context(consumer)
        sent = [producer.send(Message("ticking", body), timeout=10) for _ in range(2)]
        assert producer.view_message(sent[0].offset_msg_id).body == body
        with gevent.Timeout(20, AssertionError("not consumed")):
            while got.count(len(body)) < 2:
                gevent.sleep(0.01)
    assert ticker.worst < HELD_TOO_LONG
    elsewhere.check()


def test_offset_files(cluster: EmbeddedCluster, tmp_path: Path, elsewhere: Elsewhere) -> None:
    for name in ("_read", "_write"):
        elsewhere.watch(local_offset_store, name)
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
    elsewhere.check()
