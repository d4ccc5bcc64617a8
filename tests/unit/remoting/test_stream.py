"""Addresses are taken apart, and a stream never waits."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import ConfigError, ConnectError
from grocketmq.remoting import stream as module
from grocketmq.remoting.stream import Stream, connect, local_ip, split_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9876", ("127.0.0.1", 9876)),
        ("broker-a.example:1", ("broker-a.example", 1)),
        ("[::1]:10911", ("::1", 10911)),
        ("::1:10911", ("::1", 10911)),
        ("host:0", ("host", 0)),
        ("host:65535", ("host", 65535)),
    ],
)
def test_address(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "host", ":1", "host:", "host:x", "host:-1", "host:65536", "host:1.5", "host: 1", "host:²", "host:" + "9" * 5000],
)
def test_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port"):
        split_address(address)


@pytest.mark.parametrize("address", ["a:1,b:2", "a:1;b:2", "http://a:80", "user@a:80", "a b:80", " a:80"])
def test_more_than_an_address(address: str) -> None:
    with pytest.raises(ConfigError, match="not one host:port; several are separated by semicolons"):
        split_address(address)


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ConfigError:
        return
    assert host is not None
    assert 0 <= port <= 65535


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener


def test_a_stream_never_waits(listener: socket.socket) -> None:
    stream = connect(f"127.0.0.1:{listener.getsockname()[1]}", 5)
    peer, _ = listener.accept()
    assert stream.fileno() >= 0
    with pytest.raises(BlockingIOError):
        stream.recv_into(bytearray(10))
    with pytest.raises(BlockingIOError):
        while True:
            stream.send(bytes(1_000_000))
    peer.send(b"hello")
    buffer = bytearray(10)
    with gevent.Timeout(5):
        while True:
            try:
                count = stream.recv_into(buffer)
                break
            except BlockingIOError:
                gevent.sleep(0.001)
    assert buffer[:count] == b"hello"
    stream.close()
    peer.close()


def test_a_failed_connect_leaves_no_socket() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    for _ in range(3):
        with pytest.raises(ConnectError, match="refused"):
            connect(f"127.0.0.1:{port}", 5)


@pytest.mark.parametrize("error", [gevent.GreenletExit, gevent.Timeout()])
def test_thrown_out_while_connecting(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda sock, target: gevent.sleep(60))

    def run() -> None:
        with pytest.raises((gevent.GreenletExit, gevent.Timeout)):
            connect("192.0.2.1:1", 30)

    greenlet = gevent.spawn(run)
    gevent.sleep(0)
    greenlet.kill(error, timeout=5)
    assert greenlet.successful()


def test_somebody_elses_timeout_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda sock, target: gevent.sleep(60))
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.02) as theirs:
        connect("192.0.2.1:1", 30)
    assert caught.value is theirs


def test_local_ip() -> None:
    assert local_ip("127.0.0.1:9876").is_loopback
    assert isinstance(local_ip("localhost:9876"), ipaddress.IPv4Address | ipaddress.IPv6Address)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "no"), UnicodeError("no")])
def test_local_ip_without_a_way(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def resolve(host: str, port: int) -> None:
        raise error

    monkeypatch.setattr(module, "_resolve", resolve)
    assert local_ip("somewhere.invalid:1") == ipaddress.ip_address("127.0.0.1")


def test_a_stream_holds_the_socket_of_the_kernel() -> None:
    """Not one that a monkey patch may have replaced."""
    left, right = socket.socketpair()
    stream = Stream(left)
    assert type(stream._socket).__module__ == "_socket"
    assert left.fileno() == -1
    stream.close()
    right.close()
