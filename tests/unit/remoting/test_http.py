"""One GET, whatever the server does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import gevent
import pytest

from grocketmq.errors import ConfigError, ConnectError, ConnectionLostError, RemoteProtocolError, RequestTimeout, TLSError
from grocketmq.remoting import http as module
from grocketmq.remoting.http import check_url, http_get
from grocketmq.remoting.tls import TLSConfig
from tests.certificates import Authority, serve_gevent
from tests.unit.remoting.servers import Peer, Server

StartServer = Callable[..., Server]


def answering(answer: bytes, asked: list[bytes] | None = None) -> Callable[[Peer], None]:
    def serve(peer: Peer) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.sock.recv(1000)
        if asked is not None:
            asked.append(head)
        for at in range(0, len(answer), 7):
            peer.send(answer[at : at + 7])
            gevent.sleep(0)

    return serve


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na:1;b:2\r\n", "a:1;b:2\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na:1\r\n4\r\n;b:2\r\n0\r\n\r\n", "a:1;b:2"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
    ],
)
def test_get(server: StartServer, answer: bytes, text: str) -> None:
    asked: list[bytes] = []
    peer = server(answering(answer, asked))
    assert http_get(f"http://{peer.address}/rocketmq/nsaddr-unit?nofix=1", 5) == text
    assert asked[0].startswith(b"GET /rocketmq/nsaddr-unit?nofix=1 HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered HTTP 404 Not Found"),
        (b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", "answered HTTP 302"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be read"),
        (b"", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(2000), "over 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "cannot be read"),
    ],
)
def test_bad_answers(server: StartServer, monkeypatch: pytest.MonkeyPatch, answer: bytes, words: str) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 1000)
    peer = server(answering(answer))
    with pytest.raises(RemoteProtocolError, match=words):
        http_get(f"http://{peer.address}/", 5)


def test_no_answer_in_time(server: StartServer) -> None:
    peer = server(lambda peer: peer.ended.wait())
    began = perf_counter()
    with pytest.raises(RequestTimeout, match=r"no answer within 0.1 s"):
        http_get(f"http://{peer.address}/", 0.1)
    assert perf_counter() - began < 3


def test_a_reset(server: StartServer) -> None:
    peer = server(lambda peer: (peer.sock.recv(1000), peer.reset()))
    with pytest.raises((ConnectionLostError, RemoteProtocolError)):
        http_get(f"http://{peer.address}/", 5)


def test_nobody_there() -> None:
    with pytest.raises(ConnectError):
        http_get("http://127.0.0.1:1/", 5)


def test_https(server: StartServer, tmp_path: Path) -> None:
    authority = Authority()
    peer = server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na:1"), tls=serve_gevent(authority.issue()))
    assert http_get(f"https://{peer.address}/", 5, TLSConfig(ca_file=authority.write(tmp_path))) == "a:1"
    with pytest.raises(TLSError):
        http_get(f"https://{peer.address}/", 5)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "http://",
        "http://host:port/",
        "http://host:99999/",
        "http://user:word@host/",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://höst/",
    ],
)
def test_no_url(url: str) -> None:
    with pytest.raises(ConfigError):
        check_url(url)
