"""WebSocket frames by hand, so that a fault of the library's framing is not hidden by the same code at the other end."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "BadFrame", "Frame", "Frames", "accept_token", "frame"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class BadFrame(Exception):
    """What came is no frame that this end may get; the text is the reason of the close frame."""


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = False) -> bytes:
    """The bytes of one frame.

    :param mask: as a client must.
    """
    size = len(payload)
    first = opcode | (0x80 if fin else 0)
    masked = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, size | masked))
    elif size < 1 << 16:
        head = bytes((first, 126 | masked)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 127 | masked)) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + xor(payload, key)


def xor(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


class Frames:
    """Takes a stream apart.

    :param masked: whether frames must be masked, as a client's are; else they must not.
    """

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete."""
        self._data += data
        held = bytes(self._data)
        at = 0
        try:
            while (found := self._parse(held, at)) is not None:
                one, at = found
                yield one
        finally:
            del self._data[:at]

    def _parse(self, data: bytes, at: int) -> tuple[Frame, int] | None:
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, size, position = first & 15, second & 0x7F, at + 2
        if bool(second & 0x80) is not self._masked:
            raise BadFrame("incorrect mask flag")
        if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise BadFrame(f"bad opcode {opcode}")
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < position + width:
                return None
            size = int.from_bytes(data[position : position + width], "big")
            position += width
        key_size = 4 if self._masked else 0
        end = position + key_size + size
        if len(data) < end:
            return None
        payload = data[position + key_size : end]
        if self._masked:
            payload = xor(payload, data[position : position + 4])
        return Frame(opcode, payload, bool(first & 0x80)), end


def accept_token(key: str) -> str:
    """What a server answers to ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def upgrade_request(host: str, target: str) -> bytes:
    """A client's first bytes."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class RawClient:
    """A client as small as can be: a gevent socket, logged in.  The floor of the benchmark, and an outsider in tests."""

    def __init__(self, address: tuple[str, int], target: str, key: str) -> None:
        from gevent import socket

        self.sock: Any = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(upgrade_request(f"{address[0]}:{address[1]}", target))
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(65536)
        self.head, _, rest = head.partition(b"\r\n\r\n")
        self.frames = Frames(masked=False)
        self.ready: list[Frame] = list(self.frames.feed(rest))
        if key is not None and self.read().payload.startswith(b"Please"):
            self.send(key)
            self.answer = self.read().payload.decode()

    def send(self, text: str) -> None:
        self.sock.sendall(frame(TEXT, text.encode(), mask=True))

    def read(self) -> Frame:
        """The next frame; EOFError at the end."""
        while not self.ready:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.ready = list(self.frames.feed(data))
        return self.ready.pop(0)

    def close(self) -> None:
        self.sock.close()
