"""The client's side of one WebSocket connection as bytes in and out, on wsproto; no sockets, no clock.

Nearly all that a KapokMQ server sends are short text frames, whole and final.  Those that come complete are taken out here, for
wsproto takes ten times as long over them; every other byte is wsproto's business.

Source: RFC 6455; what KapokMQ does of it: kapokmq commit a8c2c0c, which uses gorilla/websocket.
"""

from __future__ import annotations

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from grocketmq import errors

__all__ = ["MAX_MESSAGE_CHARS", "WebSocket"]

#: The longest message to take; the server has no limit, and 16 MiB went through it.
MAX_MESSAGE_CHARS = 128 * 1024 * 1024

_HEAD_END = b"\r\n\r\n"
_FINAL_TEXT = 0x81


class WebSocket:
    """Frames of one connection.  What is to be sent in answer to what came gathers in :attr:`reply`.

    :param address: ``host:port`` of the server.
    :param target: path of the request.
    """

    def __init__(self, address: str, target: str) -> None:
        #: What ended it, once something has; what came before it was good.
        self.error: errors.GRocketMQError | None = None
        #: To be sent: the request, pongs, the answer to a close frame.
        self.reply = bytearray()
        self._address = address
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        self._head = bytearray()
        self._frames = FrameProtocol(client=True, extensions=[])
        self._open = False
        self._closing = False
        self._rest = b""
        self._frame_left = 0
        self._parts: list[str] = []
        self._parts_chars = 0
        self.reply += self._handshake.send(Request(host=address, target=target))

    def text(self, text: str) -> bytes:
        """The frame of a text message."""
        return bytes(self._frames.send_data(text))

    def ping(self) -> bytes:
        """A ping frame."""
        return bytes(self._frames.ping())

    def close(self) -> bytes:
        """A close frame, the first time; :attr:`error` is set when the server has answered it."""
        if not self._open or self._closing:
            return b""
        self._closing = True
        return bytes(self._frames.close(CloseReason.NORMAL_CLOSURE))

    def received(self, data: bytes) -> list[str]:
        """Take bytes in; never blocks.

        :param data: as they came, at least one.
        :returns: the text messages that they complete.
        """
        texts: list[str] = []
        try:
            if not self._open:
                data = self._shake_hands(data)
            if self._rest:
                data, self._rest = self._rest + data, b""
            while data and self.error is None:
                if not self._frame_left:
                    data = self._take_short(data, texts) if not self._parts else data
                    self._frame_left = _frame_size(data)
                    if not self._frame_left:
                        self._rest = data
                        break
                self._frames.receive_bytes(data[: self._frame_left])
                taken = min(len(data), self._frame_left)
                self._frame_left -= taken
                data = data[taken:]
                for frame in self._frames.received_frames():
                    self._take(frame, texts)
        except RemoteProtocolError as error:
            self._break(f"{self._address} sent what is no answer to a WebSocket request: {error}", error)
        except ParseFailed as error:
            self._break(f"{self._address} sent what is no WebSocket frame: {error}", error)
            self.reply += self._frames.close(error.code)
        return texts

    def _shake_hands(self, data: bytes) -> bytes:
        """Read the answer to the request.

        :returns: the frames that came behind it.
        """
        start = len(self._head)
        self._head += data
        end = self._head.find(_HEAD_END, max(0, start - len(_HEAD_END) + 1))
        stop = len(self._head) if end < 0 else end + len(_HEAD_END)
        self._handshake.receive_data(bytes(self._head[start:stop]))
        for event in self._handshake.events():
            if isinstance(event, AcceptConnection):
                self._open = True
            elif isinstance(event, RejectConnection):
                self.error = errors.ConnectError(
                    f"{self._address} answered the WebSocket request with HTTP {event.status_code}; is a KapokMQ server there?"
                )
        return bytes(self._head[stop:])

    def _take_short(self, data: bytes, texts: list[str]) -> bytes:
        """Take the short, final text frames off the front.

        :returns: what follows them: the beginning of such a frame, or of another.
        """
        at, size = 0, len(data)
        while size - at >= 4 and data[at] == _FINAL_TEXT:
            start = at + 2
            length = data[at + 1]
            if length == 126:
                start += 2
                length = data[at + 2] << 8 | data[at + 3]
                if length < 126:
                    break  # no server may write it so
            elif length > 126:
                break  # long, or masked
            end = start + length
            if end > size:
                break
            try:
                texts.append(data[start:end].decode())
            except UnicodeDecodeError:
                break
            at = end
        return data[at:] if at else data

    def _take(self, frame: Frame, texts: list[str]) -> None:
        """What wsproto found."""
        payload = frame.payload
        if frame.opcode is Opcode.TEXT:
            assert isinstance(payload, str)
            self._parts.append(payload)
            self._parts_chars += len(payload)
            if self._parts_chars > MAX_MESSAGE_CHARS:
                raise ParseFailed(f"a message of over {MAX_MESSAGE_CHARS} characters", CloseReason.MESSAGE_TOO_BIG)
            if frame.message_finished:
                texts.append("".join(self._parts))
                self._parts.clear()
                self._parts_chars = 0
        elif frame.opcode is Opcode.PING:
            assert isinstance(payload, bytes)
            self.reply += self._frames.pong(payload)
        elif frame.opcode is Opcode.CLOSE:
            assert isinstance(payload, tuple)
            code, reason = payload
            if not self._closing:
                self.reply += self._frames.close(code)
            why = f": {reason}" if reason else ""
            self.error = errors.ConnectionLostError(f"{self._address} closed the WebSocket with code {int(code)}{why}")
        elif frame.opcode is Opcode.BINARY:
            raise ParseFailed("a binary message, where KapokMQ sends text", CloseReason.UNSUPPORTED_DATA)

    def _break(self, why: str, error: Exception) -> None:
        self.error = errors.RemoteProtocolError(why)
        self.error.__cause__ = error


def _frame_size(data: bytes) -> int:
    """How long the frame is that begins here; 0 when its length has not come yet."""
    if len(data) < 2:
        return 0
    short = data[1] & 0x7F
    width = {126: 2, 127: 8}.get(short, 0)
    if len(data) < 2 + width:
        return 0
    masked = 4 if data[1] & 0x80 else 0
    return 2 + width + masked + (int.from_bytes(data[2 : 2 + width], "big") if width else short)
