"""A non-blocking stream of bytes to one peer.

The connection drives it from callbacks of the event loop, so ``send`` and ``recv_into`` never wait: they raise
``BlockingIOError`` when the socket is not ready.  Only the functions here wait, in the greenlet that calls them.
"""

from __future__ import annotations

import _socket
import ipaddress
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, TypeVar

import gevent
from gevent import socket

from grocketmq.errors import ConfigError, ConnectError

__all__ = [
    "ByteStream",
    "Stream",
    "connect",
    "connect_with",
    "local_ip",
    "receive_some",
    "send_all",
    "send_gathered",
    "split_address",
]

T = TypeVar("T")

#: Pieces below this size are joined into one send.
JOIN_BELOW_BYTES = 32 * 1024
#: How much is joined into one send.
JOIN_BYTES = 128 * 1024
#: What one callback may send before the loop turns; more held the hub for tens of milliseconds.
FLUSH_BYTES = 1024 * 1024

_LOCAL_IP_TIMEOUT = 3.0
_PORT_DIGITS = 5
_NOT_IN_HOSTS = frozenset(",;/@ ")


class ByteStream(Protocol):
    """What a connection drives: :class:`Stream`, or the same over TLS."""

    @property
    def has_more(self) -> bool:
        """Whether to read again although the socket may have nothing."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send some of this, how much is returned.  After a ``BlockingIOError`` the next call must bring the same bytes again,
        and may bring more behind them."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive, how much is returned; 0 at the end."""

    def fileno(self) -> int:
        """The descriptor, for the loop's watchers."""

    def close(self) -> None:
        """Close the socket."""

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket; the peer notices nothing."""


class Stream:
    """A connected socket that never waits.

    It holds the C socket class, which no monkey patch replaces: reads and writes go to the kernel and nowhere else.

    :param sock: a connected gevent socket; the stream takes its descriptor over.
    """

    #: Whether to read again although the socket may have nothing; what it has it tells.
    has_more = False

    def __init__(self, sock: socket.socket) -> None:
        family, kind, proto = sock.family, sock.type, sock.proto
        self._socket = _socket.socket(family, kind, proto, fileno=sock.detach())
        self._socket.setblocking(False)
        self.send = self._socket.send
        self.recv = self._socket.recv
        self.recv_into = self._socket.recv_into

    def fileno(self) -> int:
        """The descriptor, for the loop's watchers."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; what the kernel still holds is sent."""
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket; the peer notices nothing."""
        self._socket.close()


def send_gathered(waiting: deque[bytes | memoryview], send: Callable[[bytes | memoryview], int]) -> int:
    """Send what has gathered, as much of it as the system takes now and one callback may send; never blocks.

    A piece leaves only by the count that ``send`` returned: nothing is lost or sent twice.

    :param waiting: the pieces; what is left stays in it.
    :param send: the stream's.
    :returns: how many bytes were sent.
    """
    total = 0
    try:
        while waiting and total < FLUSH_BYTES:
            if len(waiting) > 1 and len(waiting[0]) < JOIN_BELOW_BYTES:
                _join_head(waiting)
            head = waiting[0]
            sent = send(head)
            total += sent
            if sent == len(head):
                waiting.popleft()
            else:
                waiting[0] = memoryview(head)[sent:]
    except BlockingIOError:
        pass  # what is left goes when the peer has read
    return total


def _join_head(waiting: deque[bytes | memoryview]) -> None:
    parts: list[bytes | memoryview] = []
    size = 0
    while waiting and size < JOIN_BYTES and len(waiting[0]) < JOIN_BELOW_BYTES:
        part = waiting.popleft()
        parts.append(part)
        size += len(part)
    waiting.appendleft(b"".join(parts))


def send_all(stream: ByteStream, data: bytes | memoryview) -> None:
    """Send all of it; blocks until the system has taken it."""
    left = memoryview(data)
    while left:
        try:
            left = left[stream.send(left) :]
        except BlockingIOError:
            socket.wait_write(stream.fileno())


def receive_some(stream: ByteStream, buffer: memoryview) -> int:
    """Receive into a buffer, how much is returned; blocks until something comes, or the end (0)."""
    while True:
        try:
            return stream.recv_into(buffer)
        except BlockingIOError:
            socket.wait_read(stream.fileno())


def split_address(address: str) -> tuple[str, int]:
    """Take ``host:port`` apart; never blocks.

    :param address: ``host:port``, ``[v6]:port`` or ``v6:port`` (the last colon counts).
    :raises ConfigError: when there is no port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > _PORT_DIGITS or int(port) > 65535:
        raise ConfigError(f"address {address!r} is not host:port")
    if _NOT_IN_HOSTS & set(host):
        raise ConfigError(f"address {address!r} is not one host:port; several are separated by semicolons")
    return host.strip("[]"), int(port)


def connect(address: str, timeout: float) -> Stream:
    """Connect; blocks its greenlet for at most ``timeout`` seconds, name resolution included.

    A numeric address asks no resolver, so no resolver thread is started for it.

    :param address: ``host:port``.
    :param timeout: seconds for everything.
    :raises ConnectError: naming the address and the cause.
    """
    return connect_with(Stream, address, timeout)


def connect_with(make: Callable[[socket.socket], T], address: str, timeout: float, how: str = "") -> T:
    """As :func:`connect`, with a stream of another kind.

    :param make: makes the stream of the connected gevent socket; it may block, within the same ``timeout``.
    :param how: for the message of an error, such as ``" over TLS"``.
    """
    host, port = split_address(address)
    failure: OSError | None = None
    try:
        with gevent.Timeout(timeout, _ConnectTimedOut):
            for family, target in _resolve(host, port):
                try:
                    return _connect_one(family, target, make)
                except OSError as error:
                    failure = error
    except _ConnectTimedOut:
        raise ConnectError(f"cannot connect to {address}{how}: no answer within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
        raise ConnectError(f"cannot resolve {address}: {error}") from error
    raise ConnectError(f"cannot connect to {address}{how}: {failure}") from failure


class _ConnectTimedOut(Exception):
    """Marks our own timeout, so that nobody else's is taken for it."""


def _resolve(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        return [(family, target) for family, _, _, _, target in found]
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]


def _connect_one(family: int, target: tuple[str, int], make: Callable[[socket.socket], T]) -> T:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.connect(target)
        return make(sock)
    except BaseException:
        sock.close()
        raise


def local_ip(towards: str) -> IPv4Address | IPv6Address:
    """The address of this host that faces a peer; sends nothing, and blocks only while a host name is resolved.

    :param towards: ``host:port``.
    :returns: the address, the loopback address when there is no way to the peer.
    """
    try:
        with gevent.Timeout(_LOCAL_IP_TIMEOUT, _ConnectTimedOut):
            family, target = _resolve(*split_address(towards))[0]
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0])
    except (OSError, UnicodeError, _ConnectTimedOut, IndexError):
        return ipaddress.ip_address("127.0.0.1")
