"""A TCP proxy with faults: put it between a client and its server, then break the link between them."""

import contextlib
import struct
from typing import Literal

import gevent
from gevent import socket
from gevent.event import Event

Address = tuple[str, int]
#: An end of a proxied connection: the one that connected, or the target.
Side = Literal["client", "target"]

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CHUNK_BYTES = 65536


class FaultProxy:
    """Forward TCP connections from a free loopback port to ``target``, as badly as told.

    The faults apply to open and to later connections until they are undone. None of the methods blocks for
    longer than a turn of the loop.

    ``received["client"]`` and ``received["target"]`` count the bytes that came from that side and
    ``forwarded[...]`` those passed on *to* it; ``connections`` counts all connections so far, ``links`` holds
    the open ones.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address = ("127.0.0.1", 0)
        self.connections = 0
        self.links: list[Link] = []
        self.received: dict[Side, int] = {"client": 0, "target": 0}
        self.forwarded: dict[Side, int] = {"client": 0, "target": 0}
        self.piece_bytes: int | None = None
        self.piece_pause = 0.0
        self.delay_seconds = 0.0
        self.budget: dict[Side, int | None] = {"client": None, "target": None}
        self.flowing = Event()
        self.flowing.set()
        self._listener: socket.socket | None = None
        self._acceptor: gevent.Greenlet | None = None

    def __repr__(self) -> str:
        return f"<FaultProxy {self.address} -> {self.target}, {len(self.links)} open>"

    def __enter__(self) -> "FaultProxy":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def addr(self) -> str:
        """The address as ``host:port``."""
        return f"{self.address[0]}:{self.address[1]}"

    def start(self) -> None:
        self.accept()

    def stop(self) -> None:
        """Refuse, and reset what is open."""
        self.refuse()
        self.cut()

    def accept(self) -> None:
        """Take connections (again), always on the same port."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(128)
        self.address = listener.getsockname()
        self._listener = listener
        self._acceptor = gevent.spawn(self._accept_loop, listener)

    def refuse(self) -> None:
        """Refuse new connections, as a host does where nobody listens; open ones go on."""
        if self._acceptor is not None:
            self._acceptor.kill()
        if self._listener is not None:
            self._listener.close()
        self._acceptor = self._listener = None

    def cut(self) -> None:
        """Reset all open connections (RST) on both sides; bytes under way are lost."""
        for link in list(self.links):
            link.reset()

    def half_close(self, side: Side) -> None:
        """Send an end of stream (FIN) to ``side``; bytes from there are still forwarded, those to it lost."""
        for link in list(self.links):
            link.half_close(side)

    def stall(self) -> None:
        """Forward nothing more, but keep everything open; the senders' buffers fill up."""
        self.flowing.clear()

    def resume(self) -> None:
        """Undo :meth:`stall`; the bytes held back arrive now."""
        self.flowing.set()

    def split(self, piece_bytes: int | None, pause: float = 0.001) -> None:
        """Forward pieces of at most ``piece_bytes``, ``pause`` seconds apart, so that the reader sees each;
        ``None`` undoes it."""
        self.piece_bytes = piece_bytes
        self.piece_pause = pause

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for ``seconds``; 0 undoes it. Chunks wait one after the other."""
        self.delay_seconds = seconds

    def drop_after(self, n: int | None, to: Side) -> None:
        """Forward ``n`` more bytes to ``to`` and silently drop what follows; ``None`` undoes it."""
        self.budget[to] = n

    def _accept_loop(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            self.connections += 1
            self.links.append(Link(self, client))


class Link:
    """One proxied connection: two sockets, and a greenlet for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self.proxy = proxy
        target = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sockets: dict[Side, socket.socket] = {"client": client, "target": target}
        self.ended: set[Side] = set()
        # A greenlet of its own: a slow or refusing target must not hold up the next client.
        self.tasks = [gevent.spawn(self.run)]

    def run(self) -> None:
        """Connect to the target and forward until both directions have ended, or one is broken."""
        try:
            self.sockets["target"].connect(self.proxy.target)
            for sock in self.sockets.values():
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.abort()
            return
        pumps = [
            gevent.spawn(self.pump, "client", "target"),
            gevent.spawn(self.pump, "target", "client"),
        ]
        self.tasks += pumps
        gevent.joinall(pumps)
        self.close()

    def pump(self, source: Side, to: Side) -> None:
        try:
            while data := self.sockets[source].recv(CHUNK_BYTES):
                self.proxy.received[source] += len(data)
                if self.proxy.delay_seconds:
                    gevent.sleep(self.proxy.delay_seconds)
                self.forward(data, to)
            self.proxy.flowing.wait()
            self.half_close(to)
        except OSError:
            self.abort()

    def forward(self, data: bytes, to: Side) -> None:
        proxy = self.proxy
        while data:
            proxy.flowing.wait()
            piece = data[: proxy.piece_bytes]
            data = data[len(piece) :]
            budget = proxy.budget[to]
            if budget is not None:
                piece = piece[:budget]
                proxy.budget[to] = budget - len(piece)
            if piece and to not in self.ended:
                self.sockets[to].sendall(piece)
                proxy.forwarded[to] += len(piece)
            if proxy.piece_bytes is not None:
                gevent.sleep(proxy.piece_pause)

    def half_close(self, side: Side) -> None:
        self.ended.add(side)
        with contextlib.suppress(OSError):  # it is gone already
            self.sockets[side].shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        gevent.killall(self.tasks)
        self.abort()

    def abort(self) -> None:
        for sock in self.sockets.values():
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        gevent.killall([task for task in self.tasks if task is not gevent.getcurrent()])
        for sock in self.sockets.values():
            sock.close()
        if self in self.proxy.links:
            self.proxy.links.remove(self)
