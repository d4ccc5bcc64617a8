"""The same frames from the other side: a server of requests, for the embedded cluster.

Each connection has two greenlets.  The reader decodes what came and serves each request on the spot, so a handler that waits
holds up its own connection only.  The writer joins all answers that gathered and sends them at once.  A peer that asks but does
not read is not read from any more while ``PAUSE_BYTES`` wait for it, and is cut off at ``MAX_OUT_BYTES``.

Whatever bytes come, they end their own connection at most.
"""

from __future__ import annotations

import _socket
import itertools
import logging
import struct
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address

import gevent
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.server import StreamServer

from grocketmq.codes import ResponseCode, SerializeType
from grocketmq.errors import ConnectionLostError, GRocketMQError, RemoteProtocolError, RequestTimeout
from grocketmq.remoting.stream import split_address
from grocketmq.remoting.tls import ServerContext, TLSSocket
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag
from grocketmq.wire.framing import MAX_FRAME_BYTES, FrameDecoder, encode_command

__all__ = ["Channel", "Handler", "Line", "Refused", "RemotingServer"]

log = logging.getLogger(__name__)

#: One read takes no more, so that one connection's burst does not hold the others up.
READ_BYTES = 32 * 1024
#: How much is joined into one send.
JOIN_BYTES = 256 * 1024
#: While more waits to be sent to a peer, nothing is read from it.
PAUSE_BYTES = 8 * 1024 * 1024
#: A peer for which more waits to be sent has stopped reading; it holds long polls, or it would have been paused before.
MAX_OUT_BYTES = 64 * 1024 * 1024
#: More connections than clients of a test or a demo have; beyond them a new one is closed at once.
MAX_CONNECTIONS = 4096
#: Seconds for connections to end by themselves when the server stops; then they are cut off.
STOP_TIMEOUT = 1.0
#: Seconds for a client's part of the TLS handshake.
HANDSHAKE_TIMEOUT = 5.0

_BACKLOG = 1024
_MAX_OPAQUE = (1 << 31) - 1
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Refused(Exception):
    """Raised by a handler: the request is answered with this code.

    :param code: the response code.
    :param remark: the answer's remark.
    :param ext_fields: the answer's fields.
    """

    def __init__(self, code: int, remark: str | None = None, ext_fields: dict[str, str | None] | None = None) -> None:
        super().__init__(code, remark)
        self.code = code
        self.remark = remark
        self.ext_fields = ext_fields


class Channel:
    """One client's connection, as handlers see it.

    :param server: whose connection it is.
    :param sock: the connected socket.
    """

    def __init__(self, server: RemotingServer, sock: socket.socket | TLSSocket) -> None:
        host, port = sock.getpeername()[:2]
        #: ``host:port`` of the client.
        self.address = f"{host}:{port}"
        #: The client's packed address and its port, as stored messages hold it.
        self.peer = (ip_address(host.partition("%")[0]).packed, port)
        #: Set when the connection has ended.
        self.closed = Event()
        self._server = server
        self._sock = sock
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._ending = False
        self._wake = Event()
        self._room = Event()
        self._calls: dict[int, AsyncResult] = {}
        self._alterations: dict[int, Callable[[bytes], bytes]] = {}
        self._next_opaque = itertools.count(1).__next__

    def __repr__(self) -> str:
        return f"<Channel of {self.address}{', closed' if self.closed.is_set() else ''}>"

    def reply(self, answer: RemotingCommand) -> None:
        """Queue an answer for sending; never blocks, and does nothing when the client has gone."""
        data = encode_command(answer, self._server.serialize_type)
        if self._alterations and answer.flag & RpcFlag.RESPONSE:
            change = self._alterations.pop(answer.opaque, None)
            data = data if change is None else change(data)
        self.send_bytes(data)

    def alter_answer(self, opaque: int, change: Callable[[bytes], bytes]) -> None:
        """Have the answer to a request changed on its way, whenever it comes; never blocks.

        :param change: makes other bytes of the whole frame.
        """
        self._alterations[opaque] = change

    def send_request(self, request: RemotingCommand) -> None:
        """Queue a oneway request to the client; never blocks, and does nothing when the client has gone."""
        request.flag |= RpcFlag.ONEWAY
        request.opaque = self._next_opaque() & _MAX_OPAQUE
        self.reply(request)

    def call(self, request: RemotingCommand, timeout: float) -> RemotingCommand:
        """Send a request to the client and wait for its answer; blocks at most ``timeout`` seconds.

        Not for a handler of a request from the same client: the answer would wait behind it.

        :param timeout: seconds.
        :raises RequestTimeout: no answer in time.
        :raises ConnectionLostError: the client has gone.
        """
        opaque = request.opaque = self._next_opaque() & _MAX_OPAQUE
        result = self._calls[opaque] = AsyncResult()
        try:
            if self.closed.is_set():
                raise ConnectionLostError(f"{self.address} has gone")
            self.reply(request)
            with gevent.Timeout(timeout, RequestTimeout(f"{self.address}: no answer within {timeout:g} s")):
                answer: RemotingCommand = result.get()
                return answer
        finally:
            del self._calls[opaque]

    def send_bytes(self, data: bytes) -> None:
        """Queue bytes as they are, a whole frame unless a broken one is wanted; never blocks."""
        if self.closed.is_set():
            return
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > MAX_OUT_BYTES:
            log.warning("%s does not read: %d bytes wait for it; its connection is closed", self.address, self._out_bytes)
            self.close()
        elif not self._wake.is_set():
            self._wake.set()

    def half_close(self) -> None:
        """Send the end of the stream once all is sent that waits, and go on reading; never blocks."""
        self._ending = True
        self._wake.set()

    def reset(self) -> None:
        """End the connection by a reset, as when the machine is gone; never blocks."""
        if not self.closed.is_set():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()

    def close(self) -> None:
        """End the connection; what waits to be sent is lost.  Never blocks."""
        if not self.closed.is_set():
            self.closed.set()
            self._out.clear()
            self._wake.set()
            self._room.set()
            self._sock.close()
            for result in self._calls.values():
                result.set_exception(ConnectionLostError(f"{self.address} has gone"))

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket; the parent's goes on."""
        self.closed.set()
        self._out.clear()
        _socket.close(self._sock.detach())

    # -- its greenlets -------------------------------------------------------------------------------------------------------

    def read(self, max_frame_bytes: int) -> None:
        """Serve the client until either side ends the connection."""
        decoder = FrameDecoder(max_frame_bytes)
        dispatch, flowing, gate = self._server.dispatch, self._server.line.flowing, self._server.gate
        assert gate is not None
        while not self.closed.is_set():
            space = decoder.space()
            count = self._sock.recv_into(space, min(len(space), READ_BYTES))
            if not count:
                return
            if not flowing.is_set():
                flowing.wait()
            for command in decoder.received(count):
                if not command.flag & RpcFlag.RESPONSE:
                    dispatch(command, self)
                    if self._out_bytes > PAUSE_BYTES:
                        self._wait_for_room()
                elif (result := self._calls.get(command.opaque)) is not None:
                    result.set(command)
            if decoder.error is not None:
                raise decoder.error
            gate.pass_through()  # a socket that always has more would never let others run

    def _wait_for_room(self) -> None:
        while self._out_bytes > PAUSE_BYTES and not self.closed.is_set():
            self._room.clear()
            self._room.wait()

    def write(self) -> None:
        """Send what gathers until the connection ends."""
        try:
            while not self.closed.is_set():
                self._wake.wait()
                self._wake.clear()
                while self._out:
                    data = self._take()
                    self._server.line.send(self._sock, data)
                    self._out_bytes -= len(data)
                    if self._out_bytes <= PAUSE_BYTES and not self._room.is_set():
                        self._room.set()
                if self._ending and not self.closed.is_set():
                    self._sock.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            self.close()

    def _take(self) -> bytes:
        out = self._out
        size = count = 0
        for part in out:
            size += len(part)
            count += 1
            if size >= JOIN_BYTES:
                break
        data = out[0] if count == 1 else b"".join(out[:count])
        del out[:count]
        return data


class Line:
    """What lies between a server and its clients: whether bytes flow, and in which pieces.  For tests."""

    def __init__(self) -> None:
        #: Cleared: nothing is read nor sent, and nothing is closed.
        self.flowing = Event()
        self.flowing.set()
        self._piece_bytes: int | None = None
        self._pause = 0.0

    def split(self, piece_bytes: int | None, pause: float) -> None:
        """Send pieces of at most so many bytes, each a write of its own, ``pause`` seconds apart; None for no such bound."""
        self._piece_bytes = piece_bytes
        self._pause = pause

    def send(self, sock: socket.socket, data: bytes) -> None:
        """Send on a connection; blocks while nothing flows, and until the system has taken all."""
        if not self.flowing.is_set():
            self.flowing.wait()
        if self._piece_bytes is None:
            sock.sendall(data)
            return
        size = self._piece_bytes
        for start in range(0, len(data), size):
            self.flowing.wait()
            sock.sendall(data[start : start + size])
            gevent.sleep(self._pause)


#: Serves one request: its answer, or None for none now (a oneway request, or ``channel.reply`` comes later).  It runs in the
#: connection's reader: while it waits, that connection's further requests wait too.
Handler = Callable[[RemotingCommand, Channel], RemotingCommand | None]


class RemotingServer:
    """Serves requests on one address.

    :param address: ``host:port`` to listen on; port 0 lets the system choose.
    :param handlers: request code -> handler; a code without one is answered with "not supported".
    :param tasks: owns all its greenlets.
    :param on_closed: told of each connection that has ended; must not block.
    :param serialize_type: the header encoding of all it sends; a real broker uses JSON whatever the client does.
    :param max_frame_bytes: the longest frame to accept.
    :param tls: serve TLS only, with this context for servers; None for no TLS.
    """

    def __init__(
        self,
        address: str,
        handlers: Mapping[int, Handler],
        tasks: TaskGroup,
        *,
        on_closed: Callable[[Channel], None] = lambda channel: None,
        serialize_type: SerializeType = SerializeType.JSON,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        tls: ServerContext | None = None,
    ) -> None:
        self.serialize_type = serialize_type
        #: Looks at each request first; True when it has taken the request over.  None for the fast way.
        self.intercept: Callable[[RemotingCommand, Channel], bool] | None = None
        #: For tests: makes its connections bad.
        self.line = Line()
        #: Given a function that sends an answer; True when it keeps the answer for later, and tells then whether what the
        #: request changed could be kept.  None for no such wait.
        self.hold_back: Callable[[Callable[[bool], object]], bool] | None = None
        self.channels: set[Channel] = set()
        self._address = split_address(address)
        #: Request code -> handler.
        self.handlers = handlers
        self._tasks = tasks
        self._on_closed = on_closed
        self._max_frame_bytes = max_frame_bytes
        self._tls = tls
        self._server: StreamServer | None = None
        #: What its readers may take of a turn of the event loop; there while it runs.
        self.gate: FairGate | None = None

    @property
    def address(self) -> str:
        """``host:port``, with the port that it got once it was started; it keeps the port when it is started again."""
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def use_port(self, port: int) -> None:
        """Listen on this port from the next start on; 0 lets the system choose."""
        self._address = (self._address[0], port)

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def start(self) -> None:
        """Listen; blocks only as long as the system takes to bind.

        :raises OSError: when the address cannot be listened on.
        """
        listener = _listen(*self._address)
        self._address = (self._address[0], listener.getsockname()[1])
        self.gate = FairGate()
        self._server = StreamServer(listener, self._serve, spawn=self._spawn)
        self._server.start()
        drop_in_child(self)

    def stop(self) -> None:
        """Close the listener and all connections; blocks until their greenlets have ended."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop()
        self.line.flowing.set()
        for channel in list(self.channels):
            channel.close()
        with gevent.Timeout(STOP_TIMEOUT, False):
            while self.channels:
                gevent.sleep(0.001)
        if self.gate is not None:
            self.gate.close()

    def abandon(self) -> None:
        """In a forked child: the parent serves; close this process's copies of its sockets."""
        server, self._server = self._server, None
        if server is not None:
            server.stop_accepting()
            _socket.close(server.socket.detach())
        for channel in self.channels:
            channel.abandon()
        self.channels.clear()

    def dispatch(self, request: RemotingCommand, channel: Channel) -> None:
        """Serve a request that came in; blocks as long as its handler does."""
        if self.intercept is None or not self.intercept(request, channel):
            self.serve(request, channel)

    def serve(self, request: RemotingCommand, channel: Channel) -> None:
        """Have a request's handler answer it; blocks as long as the handler does."""
        handler = self.handlers.get(request.code)
        answer: RemotingCommand | None
        try:
            if handler is None:
                raise Refused(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, f" request type {request.code} not supported")
            answer = handler(request, channel)
            if answer is not None and not request.flag & RpcFlag.ONEWAY:
                if self.hold_back is None or not self.hold_back(partial(_reply, request, channel, answer)):
                    channel.reply(answer)
            return
        except Refused as refused:
            answer = RemotingCommand.response_to(request, refused.code, refused.remark, refused.ext_fields)
        except GRocketMQError as error:
            log.info("request %d from %s cannot be served: %s", request.code, channel.address, error)
            answer = RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, str(error))
        except Exception as error:
            log.exception("serving request %d from %s failed", request.code, channel.address)
            answer = RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, repr(error))
        if not request.flag & RpcFlag.ONEWAY:
            channel.reply(answer)

    def _spawn(self, run: Callable[..., object], *args: object) -> None:
        self._tasks.spawn("connection", run, *args)

    def _serve(self, sock: socket.socket, address: object) -> None:
        """What the greenlet of a new connection runs: the reader, with the writer beside it."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel = Channel(self, sock if self._tls is None else _shake_hands(sock, self._tls))
        except OSError as error:  # it has gone again, or does not speak TLS
            log.debug("%s: no connection with %s: %s", self.address, address, error)
            return
        if len(self.channels) >= MAX_CONNECTIONS or self._server is None:
            log.warning("%s: the connection of %s is closed, %d are open", self.address, address, len(self.channels))
            return
        self.channels.add(channel)
        self._tasks.spawn(f"writer to {channel.address}", channel.write)
        try:
            channel.read(self._max_frame_bytes)
        except RemoteProtocolError as error:
            log.info("%s sent what is no frame, its connection is closed: %s", channel.address, error)
        except OSError as error:
            log.debug("connection of %s broke: %s", channel.address, error)
        finally:
            channel.close()
            self.channels.discard(channel)
            self._on_closed(channel)


def _shake_hands(sock: socket.socket, context: ServerContext) -> TLSSocket:
    secure = TLSSocket(sock, context)
    secure.handshake(HANDSHAKE_TIMEOUT)
    return secure


def _reply(request: RemotingCommand, channel: Channel, answer: RemotingCommand, kept: bool) -> None:
    """Send an answer that was held back."""
    if not kept:
        answer = RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, "it could not be written to disk")
    channel.reply(answer)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
        raise
    return listener
