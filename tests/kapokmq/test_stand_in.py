"""The stand-in itself: what was seen of the real server, byte by byte, so that tests on it mean something."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket

from tests.helpers import wait_for
from tests.kapokmq.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, RawClient, frame
from tests.kapokmq.server import LOGGED_IN, PROMPT, WRONG_KEY, Registry, StandIn

Make = Callable[..., Any]


@pytest.fixture
def raw(server: StandIn) -> Any:
    """``raw(kind, key)`` gives a client that has sent its key."""
    clients: list[RawClient] = []

    def make(kind: str = "Producers", key: str = "test", target: str | None = None) -> RawClient:
        clients.append(RawClient(server.address, target or f"/{kind}/Conn/t/x", key))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def ask(server: StandIn, request: str) -> str:
    """The first line of the answer to an HTTP request."""
    with socket.create_connection(server.address) as sock:
        sock.sendall(request.replace("\n", "\r\n").encode())
        return sock.recv(65536).decode()


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("GET /Producers/Conn/t/x HTTP/1.1", "400"),
        ("GET /Producers/Conn/t HTTP/1.1", "404"),
        ("GET /Producers/Conn/t/ HTTP/1.1", "404"),
        ("GET /Producers/Conn/t/x/ HTTP/1.1", "301"),
        ("GET /producers/conn/t/x HTTP/1.1", "404"),
        ("GET /Producers/Conn/a%2Fb/x HTTP/1.1", "404"),
        ("POST /Producers/Conn/t/x HTTP/1.1", "404"),
        ("GET /Console/Ping HTTP/1.1", "404"),
    ],
)
def test_paths(request_line: str, answer: str, server: StandIn) -> None:
    found = ask(server, f"{request_line}\nHost: x\n\n")
    assert found.split(" ")[1] == answer
    if answer == "400":
        assert found.endswith("\r\n\r\nBad Request\n")


def test_login(raw: Make, server: StandIn) -> None:
    assert raw().answer.encode() == LOGGED_IN
    client = raw(key="wrong", target="/Consumers/Conn/t%20%3F/y")
    assert client.answer.encode() == WRONG_KEY
    for _ in range(20):  # for ever
        assert client.read().payload == PROMPT
        client.send("again")
        assert client.read().payload == WRONG_KEY
    client.read()
    client.send("test")
    assert client.read().payload == LOGGED_IN
    wait_for(lambda: [key[:2] for key in server.consumers] == [("y", "t ?")])


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ('{"MessageData":"a","DelayTime":0}\n', "a"),
        ('{"messagedata":"a","x":1,"MESSAGEDATA":"b","DelayTime":-3}', "b"),
        ('{"MessageData":null}', ""),
        ("{}", ""),
        ('{"MessageData":"\\ud800"}', "\ufffd"),
    ],
)
def test_what_a_producer_may_send(sent: str, taken: str, raw: Make, server: StandIn) -> None:
    client = raw()
    client.send(sent)
    assert client.read() == Frame(TEXT, b"ok")
    assert server.taken == [taken]


@pytest.mark.parametrize(
    "sent",
    ["", "x", "[]", '[{"MessageData":"a"}]', '{"MessageData":1}', '{"DelayTime":"1"}', '{"DelayTime":1.5}', "{}{}"],
)
def test_what_ends_a_producer(sent: str, raw: Make, server: StandIn) -> None:
    client = raw()
    client.send(sent)
    with pytest.raises((EOFError, ConnectionError)):
        client.read()  # and no close frame before it
    assert server.taken == []


def test_frames(raw: Make, server: StandIn) -> None:
    client = raw()
    client.sock.sendall(frame(PING, b"hello", mask=True))
    assert (client.read().opcode, server.silent) == (PONG, False)
    client.sock.sendall(frame(BINARY, b'{"Message', fin=False, mask=True) + frame(CONTINUATION, b'Data":"a"}', mask=True))
    assert client.read().payload == b"ok"
    client.sock.sendall(frame(TEXT, b"unmasked"))
    last = client.read()
    assert (last.opcode, last.payload) == (CLOSE, b"\x03\xeaincorrect mask flag")
    other = raw()
    other.sock.sendall(frame(CLOSE, b"\x03\xe8", mask=True))
    assert other.read().payload == b"\x03\xe8"


def test_pushes(raw: Make, server: StandIn) -> None:
    client = raw("Consumers")
    wait_for(lambda: server.consumers)
    code = server.put("t", '<&>\u2028\u8ba2"')
    escaped = r"\u003c\u0026\u003e\u2028" + '\u8ba2\\"'
    text = client.read().payload.decode()
    assert re.fullmatch(
        rf'\{{"MessageCode":"{code}","MessageData":"\\u003c\\u0026\\u003e\\u2028\u8ba2\\"","Topic":"t","CreateTime":\d{{10}},'
        r'"ConsumedTime":0,"DelayTime":0,"Status":-1\}\n',
        text,
    )
    rest = len(text.encode()) - len(escaped.encode())
    for size, pieces in ((4047, [4047]), (4247, [4082, 165]), (10_147, [10_147, 0])):
        server.put("t", "x" * (size - rest))
        frames = [client.read() for _ in pieces]
        assert [len(one.payload) for one in frames] == pieces
        assert [one.fin for one in frames] == [False] * (len(pieces) - 1) + [True]


def test_one_acknowledgement_of_anybody_settles(new_server: Make) -> None:
    server = new_server(push_type=2)
    first, second, other = (RawClient(server.address, f"/Consumers/Conn/{path}", "test") for path in ("t/a", "t/b", "other/c"))
    wait_for(lambda: len(server.consumers) == 3)
    code = server.put("t", "x")
    assert first.read().payload == second.read().payload
    other.send(code)
    wait_for(lambda: server.messages[code].Status == 1)
    other.send("junk")
    wait_for(lambda: server.acked == [code, "junk"])
    for client in (first, second, other):
        client.close()


def test_ticks(new_server: Make) -> None:
    server = new_server(speed=50.0, clean_time=20, retry_time=3)
    late = server.put("t", "nobody was there")
    never = server.put("t", "too long a delay", delay=100)
    consumer = RawClient(server.address, "/Consumers/Conn/t/x", "test")
    assert late.encode() in consumer.read().payload  # pushed again, with its age as its delay
    assert server.messages[late].DelayTime > 3
    wait_for(lambda: not server.messages, message="both are cleaned away")
    assert never not in server.messages
    consumer.close()


def test_pace_and_channel(new_server: Make) -> None:
    server = new_server(push_count=10, push_speed=0.2)
    consumer = RawClient(server.address, "/Consumers/Conn/t/x", "test")
    wait_for(lambda: server.consumers)
    for number in range(15):
        server.put("t", str(number))
    for _ in range(10):
        consumer.read()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        consumer.read()
    assert b'"10"' in consumer.read().payload
    consumer.close()


def test_the_registry(new_server: Make, registry: Registry) -> None:
    assert registry.listed() is None
    server = new_server()
    registry.join(server)
    entry = {"Name": f"mq:127.0.0.1:{server.port}", "Addr": "127.0.0.1", "Port": str(server.port)}
    assert registry.listed() == [entry]
    server.kill()
    assert registry.listed() == [entry]  # for some seconds still
    wait_for(lambda: registry.listed() is None)
    server.start()
    assert registry.listed() == [entry]
    registry.restart()
    assert registry.listed() is None
    server.kill()
    server.start()
    assert registry.listed() == [entry]
