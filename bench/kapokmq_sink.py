"""A server that speaks KapokMQ and does next to nothing: it acknowledges what comes, and pushes as many messages of its own.

Prints its port, ends with its input.  The messages that wait for a topic are a number only; every push is the same bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

from bench.children import run_server
from bench.kapokmq_raw import BODY_BYTES, LOGGED_IN, PROMPT, accept, count_frames, text_frame

#: Pushes handed to the socket at once.
CHUNK = 64

_waiting: Counter[str] = Counter()
_arrived: dict[str, Event] = {}


def push_frame(topic: str) -> bytes:
    """One push, as long as a real one."""
    text = (
        f'{{"MessageCode":"{"c" * 32}","MessageData":"{"x" * BODY_BYTES}","Topic":"{topic}","CreateTime":1795248292,'
        '"ConsumedTime":0,"DelayTime":0,"Status":-1}\n'
    )
    return text_frame(text.encode())


def serve(sock: Any, _: object) -> None:
    """One client."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(65536)
    kind, _, topic, _ = head.split(b" ", 2)[1].decode()[1:].split("/")
    sock.sendall(accept(head) + text_frame(PROMPT))
    sock.recv(65536)
    sock.sendall(text_frame(LOGGED_IN))
    if kind == "Producers":
        take(sock, topic)
    else:
        push(sock, topic)


def take(sock: Any, topic: str) -> None:
    """Acknowledge what came, as many at once as came at once."""
    ok = text_frame(b"ok")
    data = b""
    while chunk := sock.recv(256 * 1024):
        count, data = count_frames(data + chunk)
        sock.sendall(ok * count)
        _waiting[topic] += count
        _arrived.setdefault(topic, Event()).set()


def push(sock: Any, topic: str) -> None:
    """Push what waits, and throw away the acknowledgements."""
    frame = push_frame(topic)
    arrived = _arrived.setdefault(topic, Event())
    sock.setblocking(True)
    reader = gevent.spawn(discard, sock)
    while not reader.dead:
        arrived.wait(1.0)
        arrived.clear()
        while _waiting[topic] and not reader.dead:
            count = min(CHUNK, _waiting[topic])
            _waiting[topic] -= count
            sock.sendall(frame * count)


def discard(sock: Any) -> None:
    """Read until the client ends."""
    while sock.recv(256 * 1024):
        pass


if __name__ == "__main__":
    run_server(serve)
