"""Servers that do as the test says, and what looks at a client from inside."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import greenlet
from gevent import socket
from gevent.event import Event

from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.connection import MAX_IN_FLIGHT, Connection
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import FrameDecoder, encode_command
from tests.helpers import wait_for

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        #: All requests so far, in order.
        self.requests: list[RemotingCommand] = []
        self.ended = Event()
        self._decoder = FrameDecoder()
        self._ready: list[RemotingCommand] = []

    def __iter__(self) -> Iterator[RemotingCommand]:
        """The requests as they come, until the client ends the connection."""
        while (request := self.read()) is not None:
            yield request

    def read(self) -> RemotingCommand | None:
        """The next request, None at the end."""
        while not self._ready:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._ready = self._decoder.feed(data)
            assert self._decoder.error is None, self._decoder.error
            self.requests += self._ready
        return self._ready.pop(0)

    def answer(self, request: RemotingCommand, code: int = 0, **fields: Any) -> None:
        """Answer a request, by default with its own body."""
        fields.setdefault("body", request.body)
        self.send(RemotingCommand.response_to(request, code, **fields))

    def send(self, command: RemotingCommand | bytes) -> None:
        self.sock.sendall(command if isinstance(command, bytes) else encode_command(command))

    def close(self) -> None:
        self.sock.close()
        self.ended.set()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()


def echo(peer: Peer) -> None:
    """Answer each request with its own body."""
    for request in peer:
        if not request.is_oneway:
            peer.answer(request)


def silent(peer: Peer) -> None:
    """Read everything, answer nothing."""
    for _ in peer:
        pass


def deaf(peer: Peer) -> None:
    """Read nothing."""
    peer.ended.wait()


class Server:
    """Listens on a free loopback port; ``serve`` is called for each connection in a greenlet of its own.

    :param tls: a ``gevent.ssl.SSLContext``; then it serves TLS.
    """

    def __init__(
        self,
        serve: Callable[[Peer], None] = echo,
        host: str = "127.0.0.1",
        receive_buffer: int | None = None,
        tls: Any = None,
    ) -> None:
        self.serve = serve
        self.tls = tls
        #: What went wrong in TLS handshakes.
        self.refusals: list[Exception] = []
        #: All connections so far.
        self.peers: list[Peer] = []
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._bind: tuple[str, int] = (host, 0)
        self._receive_buffer = receive_buffer
        self._listener: socket.socket | None = None
        self._greenlets: list[gevent.Greenlet] = []

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._bind[1]

    @property
    def address(self) -> str:
        host, port = self._bind
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def requests(self) -> list[RemotingCommand]:
        """All requests of all connections."""
        return [request for peer in self.peers for request in peer.requests]

    def start(self) -> None:
        """Listen (again), always on the same port."""
        listener = socket.socket(self._family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        listener.bind(self._bind)
        listener.listen(64)
        self._bind = listener.getsockname()[:2]
        self._listener = listener
        self._greenlets.append(gevent.spawn(self._accept, listener))

    def stop(self) -> None:
        """Refuse, and end what is open."""
        gevent.killall(self._greenlets)
        self._greenlets.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for peer in self.peers:
            peer.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._greenlets.append(gevent.spawn(self._run, sock))

    def _run(self, sock: socket.socket) -> None:
        if self.tls is not None:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            try:
                sock.do_handshake()
            except OSError as error:
                sock.close()
                self.refusals.append(error)
                return
            except BaseException:
                sock.close()
                raise
        peer = Peer(sock)
        self.peers.append(peer)
        with contextlib.suppress(OSError):
            self.serve(peer)
        peer.close()


class Clients:
    """Makes clients and ends them after the test."""

    def __init__(self) -> None:
        self.made: list[tuple[RemotingClient, TaskGroup]] = []

    def __call__(self, **options: Any) -> RemotingClient:
        tasks = TaskGroup("test")
        client = RemotingClient(tasks, **options)
        self.made.append((client, tasks))
        return client

    def tasks(self, client: RemotingClient) -> TaskGroup:
        return next(tasks for one, tasks in self.made if one is client)

    def end(self) -> None:
        for client, tasks in self.made:
            client.close(0.0)
            tasks.join(0.5)
            tasks.kill()


def spawn(run: Callable[..., Any], *args: Any) -> gevent.Greenlet:
    """Run in a greenlet whose value is what ``run`` returns, or the ``Exception`` that it raises."""

    def attempt() -> Any:
        try:
            return run(*args)
        except Exception as error:
            return error

    return gevent.spawn(attempt)


def request(body: bytes | None = b"hello", code: int = 10, **fields: Any) -> RemotingCommand:
    return RemotingCommand(code, body=body, **fields)


def connection_to(client: RemotingClient, address: str) -> Connection:
    connection = client._peers[address].connection
    assert connection is not None
    return connection


def assert_at_rest(connection: Connection, permits: int = MAX_IN_FLIGHT) -> None:
    """Nobody holds anything of the connection any more."""
    wait_for(lambda: connection._permits.counter == permits, message="all permits are back")
    assert connection._pending == {}
    wait_for(connection.flushed)
    assert connection._out_bytes == 0
    assert connection._room.is_set()


class ThrowAtSwitch:
    """Throw an exception into a greenlet at the n-th switch between any two greenlets.

    The victim is thrown into at the next turn of the loop's callbacks, so wherever it waits by then. Running a scenario for
    each ``n`` up to the first in which the victim ends before its turn goes through all the points at which it waits.
    """

    def __init__(self, victim: gevent.Greenlet, n: int, error: BaseException) -> None:
        self.victim = victim
        self.left = n
        self.error = error
        self.thrown = False

    def __enter__(self) -> ThrowAtSwitch:
        self._previous = greenlet.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        greenlet.settrace(self._previous)

    def _trace(self, event: str, args: object) -> None:
        self.left -= 1
        if self.left == 0:
            # Not here: older gevents call a greenlet dead in the very switch that starts it.
            gevent.get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        if not self.victim.dead:
            self.thrown = True
            self.victim.throw(self.error)
