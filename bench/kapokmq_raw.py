"""KapokMQ's frames by hand, for the floor and the sink: no checks, and nothing that is not needed here."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from gevent import socket

__all__ = ["BODY_BYTES", "LOGGED_IN", "PROMPT", "RawClient", "accept", "count_frames", "masked_frame", "text_frame"]

BODY_BYTES = 100
PROMPT = b"Please enter the secret key"
LOGGED_IN = b"Secret key matching succeeded"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def text_frame(payload: bytes) -> bytes:
    """A server's frame."""
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + payload


def masked_frame(payload: bytes) -> bytes:
    """A client's frame, with a key of its own as the protocol wants."""
    size = len(payload)
    key = os.urandom(4)
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + key + masked


def count_frames(data: bytes) -> tuple[int, bytes]:
    """How many masked frames are complete, and what is left."""
    at = count = 0
    size_of_all = len(data)
    while size_of_all - at >= 2:
        size = data[at + 1] & 0x7F
        end = at + 6 + size
        if size == 126:
            end = at + 8 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > size_of_all:
            break
        count += 1
        at = end
    return count, data[at:]


def accept(head: bytes) -> bytes:
    """The answer to a client's first bytes."""
    key = next(line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    token = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    return b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + token + b"\r\n\r\n"


class RawClient:
    """A gevent socket that is logged in.

    :param address: ``host:port``.
    :param kind: ``Producers`` or ``Consumers``.
    """

    def __init__(self, address: str, kind: str, topic: str, client_id: str, key: str) -> None:
        host, port = address.rsplit(":", 1)
        self.sock: Any = socket.create_connection((host, int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(
            f"GET /{kind}/Conn/{topic}/{client_id} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._await(PROMPT)
        self.sock.sendall(masked_frame(key.encode()))
        self._await(LOGGED_IN)

    def _await(self, text: bytes) -> None:
        data = b""
        while not data.endswith(text):
            chunk = self.sock.recv(65536)
            if not chunk:
                raise ConnectionError(f"no {text!r} but {data!r}")
            data += chunk
