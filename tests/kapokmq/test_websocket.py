"""Frames in any pieces: what is taken out by hand must be what wsproto would have made of it."""

from __future__ import annotations

import random

import pytest

from grocketmq import errors
from tests.kapokmq.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, accept_token, frame

websocket = pytest.importorskip("grocketmq.kapokmq.websocket", reason="needs the extra kapokmq")

HEAD = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


def opened() -> tuple[object, bytes]:
    """A connection, and the server's answer to its request."""
    connection = websocket.WebSocket("127.0.0.1:1", "/x")
    key = bytes(connection.reply).decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
    connection.reply.clear()
    return connection, f"{HEAD}{accept_token(key)}\r\n\r\n".encode()


TEXTS = ["ok", "", "x" * 125, "y" * 126, "\u8ba2" * 300, "z" * 65_535, "w" * 65_536, "ok", "\U0001f680" * 1100]


def stream(texts: list[str]) -> bytes:
    """Each text whole, then in two frames with a ping between, then with an empty end."""
    data = b""
    for text in texts:
        body = text.encode()
        half = len(body) // 2
        data += frame(TEXT, body)
        data += frame(TEXT, body[:half], fin=False) + frame(PING, b"p") + frame(CONTINUATION, body[half:])
        data += frame(TEXT, body, fin=False) + frame(CONTINUATION, b"") + frame(PONG)
    return data


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100, 5000, 70_000, 10_000_000])
def test_frames_in_pieces(most: int) -> None:
    chance = random.Random(most)
    connection, head = opened()
    texts = TEXTS if most > 1000 else [text for text in TEXTS if len(text) < 1000]
    data = head + stream(texts)
    found: list[str] = []
    at = 0
    while at < len(data):
        size = chance.randint(1, most)
        found += connection.received(data[at : at + size])
        at += size
    assert connection.error is None
    assert found == [text for text in texts for _ in range(3)]
    assert len(connection.reply) == len(texts) * len(frame(PONG, b"p", mask=True))


BAD = {
    "masked": frame(TEXT, b"ok", mask=True),
    "reserved bit": bytes((0xC1, 2)) + b"ok",
    "opcode": bytes((0x83, 2)) + b"ok",
    "long form of a short length": b"\x81\x7e\x00\x02ok",
    "longest form of a short length": b"\x81\x7f" + bytes(7) + b"\x02ok",
    "text inside a fragmented text": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "continuation of nothing": frame(CONTINUATION, b"a"),
    "not UTF-8": frame(TEXT, b"\xff\xfe"),
    "UTF-8 that ends early": frame(TEXT, "\u8ba2".encode()[:2]),
    "long ping": b"\x89\x7e\x00\x80" + bytes(128),
    "binary": frame(2, b"ok"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("split", [False, True])
def test_bad_frames(fault: str, split: bool) -> None:
    connection, head = opened()
    data = head + frame(TEXT, b"good") + BAD[fault]
    pieces = [data[at : at + 1] for at in range(len(data))] if split else [data]
    found = [text for piece in pieces for text in connection.received(piece) if connection.error is None or text]
    assert found[:1] == ["good"]
    assert isinstance(connection.error, errors.RemoteProtocolError)
    assert "127.0.0.1:1 sent what is no WebSocket frame" in str(connection.error)
    assert connection.reply[0] & 15 == CLOSE


def test_a_message_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE_CHARS", 1000)
    connection, head = opened()
    connection.received(head + frame(TEXT, b"x" * 600, fin=False))
    assert connection.error is None
    connection.received(frame(CONTINUATION, b"x" * 600, fin=False))
    assert "over 1000 characters" in str(connection.error)
