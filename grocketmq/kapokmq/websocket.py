"""The client's side of one WebSocket connection as bytes in and out, on wsproto; no sockets, no clock.

Source: RFC 6455; what KapokMQ does of it: kapokmq commit a8c2c0c, which uses gorilla/websocket.
"""

from __future__ import annotations

from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from grocketmq import errors

__all__ = ["MAX_MESSAGE_CHARS", "WebSocket"]

#: The longest message to take; the server has no limit, and 16 MiB went through it.
MAX_MESSAGE_CHARS = 128 * 1024 * 1024
_PROTOCOL_ERROR = CloseReason.PROTOCOL_ERROR


class WebSocket:
    """Frames of one connection.  What is to be sent in answer to what came gathers in :attr:`reply`.

    :param address: ``host:port`` of the server.
    :param target: path of the request.
    """

    def __init__(self, address: str, target: str) -> None:
        #: Whether the server has agreed to speak WebSocket.
        self.open = False
        #: What ended it, once something has; what came before it was good.
        self.error: errors.GRocketMQError | None = None
        #: To be sent: the request, pongs, the answer to a close frame.
        self.reply = bytearray()
        self._address = address
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        self._frames: Connection | None = None
        self._parts: list[str] = []
        self._parts_chars = 0
        self._closing = False
        self.reply += self._handshake.send(Request(host=address, target=target))

    def text(self, text: str) -> bytes:
        """The frame of a text message."""
        assert self._frames is not None
        return self._frames.send(TextMessage(data=text))

    def ping(self) -> bytes:
        """A ping frame."""
        assert self._frames is not None
        return self._frames.send(Ping())

    def close(self) -> bytes:
        """A close frame; :attr:`error` is set when the server has answered it."""
        if self._frames is None or self._closing or self.error is not None:
            return b""
        self._closing = True
        return self._frames.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE))

    def received(self, data: bytes) -> list[str]:
        """Take bytes in; never blocks.

        :param data: as they came, at least one.
        :returns: the text messages that they complete.
        """
        texts: list[str] = []
        try:
            if self._frames is None:
                self._handshake.receive_data(data)
                for event in self._handshake.events():
                    self._handshaken(event)
            else:
                self._frames.receive_data(data)
            if self._frames is not None:
                for event in self._frames.events():
                    if type(event) is TextMessage and event.message_finished and not self._parts:
                        texts.append(event.data)
                    else:
                        self._take(event, texts)
        except RemoteProtocolError as error:
            self._break(f"{self._address} sent what is no WebSocket {'frame' if self._frames else 'answer'}: {error}", error)
        except LocalProtocolError:
            self._break(f"{self._address} sent more after its close frame")
        return texts

    def _handshaken(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self.open = True
            self._frames = self._handshake.connection
        elif isinstance(event, RejectConnection):
            self.error = errors.ConnectError(
                f"{self._address} answered the WebSocket request with HTTP {event.status_code}; is a KapokMQ server there?"
            )

    def _take(self, event: Event, texts: list[str]) -> None:
        """An event that is no whole text message."""
        assert self._frames is not None
        if isinstance(event, TextMessage):
            self._parts.append(event.data)
            self._parts_chars += len(event.data)
            if self._parts_chars > MAX_MESSAGE_CHARS:
                raise RemoteProtocolError(f"a message of over {MAX_MESSAGE_CHARS} characters")
            if event.message_finished:
                texts.append("".join(self._parts))
                self._parts.clear()
                self._parts_chars = 0
        elif isinstance(event, Ping):
            self.reply += self._frames.send(event.response())
        elif isinstance(event, CloseConnection):
            if self._frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                # Not a close frame: wsproto's way to tell of a bad one.
                raise RemoteProtocolError(str(event.reason), event)
            if not self._closing:
                self.reply += self._frames.send(event.response())
            reason = f": {event.reason}" if event.reason else ""
            self.error = errors.ConnectionLostError(f"{self._address} closed the WebSocket with code {int(event.code)}{reason}")
        elif isinstance(event, BytesMessage):
            raise RemoteProtocolError("a binary message, where KapokMQ sends text")
        else:
            assert isinstance(event, Pong)

    def _break(self, why: str, error: RemoteProtocolError | None = None) -> None:
        if self.error is None:
            self.error = errors.RemoteProtocolError(why)
            self.error.__cause__ = error
            if self._frames is not None and not self._closing:
                self._closing = True
                code = error.event_hint.code if error and isinstance(error.event_hint, CloseConnection) else _PROTOCOL_ERROR
                self.reply += self._frames.send(CloseConnection(code=code))
