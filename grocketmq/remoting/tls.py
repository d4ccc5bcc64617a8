"""TLS over sockets that never wait.

The standard library's TLS sockets block the event loop in a process that is not patched.  So the TLS engine stands between
two buffers here (``ssl.MemoryBIO``), and this package's own sockets carry what it makes.  Any ``SSLContext`` serves, in a
patched process and in one that is not.

* :func:`tls_connector` gives what opens :class:`TLSStream`, which a connection drives from callbacks of the event loop.
* :class:`TLSSocket` is the server's end, for greenlets.

``ssl`` is imported when it is needed and not before: a process that is patched after that import is broken.

Source: Apache RocketMQ 5.5.0, module remoting, classes ``TlsHelper``, ``TlsSystemConfig``, ``NettyRemotingServer``: the first
bytes on the same port are the TLS handshake, and frames follow as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import gevent
from gevent import socket

from grocketmq.errors import ConfigError, TLSError
from grocketmq.remoting.stream import Stream, connect_with, split_address
from grocketmq.runtime.pool import in_pool

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerContext", "TLSConfig", "TLSOption", "TLSSocket", "TLSStream", "tls_connector"]

#: How much is encrypted at once: several records, and less than the loop would notice.
ENCRYPT_BYTES = 128 * 1024
#: How much is received at once.
RECEIVE_BYTES = 64 * 1024


#: What ``tls=`` takes.
TLSOption: TypeAlias = "bool | ssl.SSLContext | TLSConfig | None"
#: An ``ssl.SSLContext`` for servers.
ServerContext: TypeAlias = "ssl.SSLContext"


@dataclass(frozen=True, kw_only=True)
class TLSConfig:
    """How to connect over TLS.

    The peer's certificate is always checked: its chain, its dates, and that it is for the host connected to.  Files are read
    when a client is started.  Who wants it otherwise makes a ``context``.

    :param ca_file: PEM file of the certificates to trust.  Default: those the system trusts.
    :param cert_file: PEM file of the client's own certificate and the chain behind it.  Default: none.
    :param key_file: PEM file of its key.  Default: the key is in ``cert_file``.
    :param key_password: what the key is encrypted with.  Default: it is not.
    :param server_name: the name that all peers' certificates must be for, in the place of the host in their address.
    :param context: an ``ssl.SSLContext`` for clients, used as it is, in the place of the files.
    :raises ConfigError: when these do not go together.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    server_name: str | None = None
    context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.context is not None and (self.ca_file or self.cert_file or self.key_file or self.key_password):
            raise ConfigError("tls has a context and files; the context must hold what the files would")
        if not self.cert_file and (self.key_file or self.key_password):
            raise ConfigError("tls has a key_file or a key_password, but no cert_file")
        if self.server_name is not None and (not self.server_name or self.server_name.startswith(".")):
            raise ConfigError(f"tls server_name {self.server_name!r} is no host name")

    @classmethod
    def of(cls, given: TLSOption) -> TLSConfig | None:
        """The settings that an option ``tls=`` stands for; never blocks.

        :param given: True for the defaults, False or None for no TLS.
        :raises ConfigError: for anything else.
        """
        if given is None or given is False:
            return None
        if isinstance(given, TLSConfig):
            return given
        if given is True:
            return cls()
        if hasattr(given, "wrap_bio"):  # not isinstance: that would import ssl
            return cls(context=given)
        raise ConfigError(f"tls is a {type(given).__name__}; it must be True, a TLSConfig or an ssl.SSLContext")

    def load(self) -> ssl.SSLContext:
        """The context, its files read in the hub's thread pool; blocks its greenlet that long.

        :raises ConfigError: naming the file that cannot be used.
        """
        if self.context is not None:
            return self.context
        import ssl

        def read() -> ssl.SSLContext:
            what = "the certificates that the system trusts" if self.ca_file is None else f"tls ca_file {self.ca_file!r}"
            try:
                context = ssl.create_default_context(cafile=self.ca_file)
                if self.cert_file is not None:
                    what = f"tls cert_file {self.cert_file!r} with key_file {self.key_file!r}"
                    # An empty password, as OpenSSL would ask the terminal for one that is missing.
                    context.load_cert_chain(self.cert_file, self.key_file, self.key_password or "")
            except (OSError, ValueError) as error:
                raise ConfigError(f"{what} cannot be used: {error}") from error
            return context

        return in_pool(read)


class _Engine:
    """The TLS protocol between two buffers, without a socket.

    :param context: its settings.
    :param server_name: for a client, the name that the certificate must be for; None for a server.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        import ssl

        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        server_side = server_name is None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name)
        self._read: Callable[[int, memoryview], int] = self._tls.read  # type: ignore[assignment]  # with a buffer it counts
        self._wants_more = ssl.SSLWantReadError
        #: With and without a farewell; frames have lengths, so a stream that was cut is noticed anyhow.
        self._ends = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self._ended = False
        #: Whether another read may give something before more is fed.
        self.has_more = True

    def handshake(self, sock: socket.socket) -> None:
        """Shake hands over a gevent socket; blocks its greenlet.

        :raises OSError: ``ssl.SSLError`` and its subclasses too.
        """
        while True:
            try:
                self._tls.do_handshake()
                return
            except self._wants_more:
                pass  # first comes what it has to say
            finally:
                if self._outgoing.pending:  # a refusal is told too
                    sock.sendall(self._outgoing.read())
            self.feed(sock.recv(RECEIVE_BYTES))

    def feed(self, received: bytes) -> None:
        """Take what came; ``b""`` says that no more will come."""
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def read_into(self, buffer: memoryview) -> int | None:
        """Decrypt as much as there is and fits.

        :returns: how many bytes; 0 at the end of the stream; None when more must be fed first.
        :raises OSError: when what came is no TLS, or tells of a refusal.
        """
        count = 0
        self.has_more = True
        try:
            while not self._ended and count < len(buffer):
                read = self._read(len(buffer) - count, buffer[count:])
                count += read
                self._ended = not read
        except self._wants_more:
            self.has_more = False
            return count or None
        except self._ends:
            self._ended = True
        return count

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """What to send for this; with it goes what reading made the engine want to say."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """What to send before the connection is closed."""
        with suppress(OSError):  # it wants the peer's farewell, or the connection is broken
            self._tls.unwrap()
        return self._outgoing.read()


class TLSStream:
    """A stream that never waits, over TLS; made by :func:`tls_connector`.

    :param stream: the connected socket; the handshake is done.
    :param engine: did the handshake.
    """

    def __init__(self, stream: Stream, engine: _Engine) -> None:
        self._stream = stream
        self._engine = engine
        self._encrypted = memoryview(b"")
        self._accepted = 0
        self.fileno = stream.fileno

    @property
    def has_more(self) -> bool:
        """Whether to read again although the socket may have nothing: something came that did not fit."""
        return self._engine.has_more

    def send(self, data: bytes | memoryview) -> int:
        """Send some of this; never blocks.

        After a ``BlockingIOError`` a part may be encrypted and half sent: the next call must bring the same bytes again, and
        may bring more behind them.

        :returns: how many bytes of it the system has taken, encrypted.
        :raises BlockingIOError: when the socket takes no more now.
        """
        if not self._accepted:
            chunk = memoryview(data)[:ENCRYPT_BYTES]
            self._encrypted = memoryview(self._engine.encrypt(chunk))
            self._accepted = len(chunk)
        while self._encrypted:
            self._encrypted = self._encrypted[self._stream.send(self._encrypted) :]
        sent, self._accepted = self._accepted, 0
        return sent

    def recv_into(self, buffer: memoryview) -> int:
        """Receive; never blocks.

        :returns: how many bytes, 0 when the peer has ended the stream.
        :raises BlockingIOError: when there is nothing now.
        """
        count = self._engine.read_into(buffer)
        if count is None:
            self._engine.feed(self._stream.recv(RECEIVE_BYTES))
            count = self._engine.read_into(buffer)
            if count is None:
                raise BlockingIOError
        return count

    def close(self) -> None:
        """Say farewell if that can be done at once, and close the socket."""
        farewell = self._engine.farewell()
        if not self._accepted:  # else it would land inside a record
            with suppress(OSError):
                self._stream.send(farewell)
        self._stream.close()

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket; the peer notices nothing."""
        self._stream.abandon()


def tls_connector(config: TLSConfig) -> Callable[[str, float], TLSStream]:
    """What opens connections over TLS; blocks while the files that the settings name are read.

    :param config: the settings.
    :returns: ``connect(address, timeout)``, which blocks its greenlet for at most ``timeout`` seconds, the handshake included,
        and raises ``ConnectError``, or ``TLSError`` when the handshake failed.
    :raises ConfigError: when a file cannot be used.
    """
    context = config.load()

    def open_stream(address: str, timeout: float) -> TLSStream:
        host = config.server_name or split_address(address)[0]

        def shake_hands(sock: socket.socket) -> TLSStream:
            try:
                engine = _Engine(context, host)
                engine.handshake(sock)
            except (OSError, ValueError) as error:  # the latter for what can be no server name
                raise TLSError(f"cannot connect to {address} over TLS: {_explain(error, host)}") from error
            return TLSStream(Stream(sock), engine)

        return connect_with(shake_hands, address, timeout, " over TLS")

    return open_stream


#: Codes of OpenSSL's certificate check -> what to do about it.
_ADVICE = {
    10: "it has expired",
    18: "it is signed by itself; if it is the right one, name it as ca_file",
    19: "its chain ends in an authority that is not trusted; if it is the right one, name it as ca_file",
    20: "its authority is not trusted; if it is the right one, name it as ca_file",
    62: "it is for another host; give the name that it is for as server_name",
    64: "it is for another host; give the name that it is for as server_name",
}


def _explain(error: Exception, host: str) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _ADVICE.get(error.verify_code, "it does not pass the check")
        return f"its certificate is refused for {host!r}: {advice} ({error.verify_message})"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "it hung up in the handshake; does it serve TLS, and does it ask for a client certificate?"
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"what it answers is no TLS ({error.reason})"
    return str(error)


class TLSSocket:
    """A server's end of a connection over TLS, for greenlets: one reads, another writes.

    :param sock: an accepted gevent socket.
    :param context: its settings, for servers.
    """

    def __init__(self, sock: socket.socket, context: ServerContext) -> None:
        self._sock = sock
        self._engine = _Engine(context, None)

    def handshake(self, timeout: float) -> None:
        """Shake hands; blocks at most ``timeout`` seconds.

        :raises OSError: when it fails, or takes longer.
        """
        with gevent.Timeout(timeout, TimeoutError("the TLS handshake takes too long")):
            self._engine.handshake(self._sock)

    def recv_into(self, buffer: memoryview, most: int) -> int:
        """Receive at most so many bytes; blocks until there are some.  0 when the peer has ended the stream."""
        while (count := self._engine.read_into(buffer[:most])) is None:
            self._engine.feed(self._sock.recv(RECEIVE_BYTES))
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of this; blocks until the system has taken it."""
        for start in range(0, len(data), ENCRYPT_BYTES):
            self._sock.sendall(self._engine.encrypt(memoryview(data)[start : start + ENCRYPT_BYTES]))

    def getpeername(self) -> tuple[str, int]:
        """The peer's host and port."""
        host, port = self._sock.getpeername()[:2]
        return host, port

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As a socket's."""
        self._sock.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """As a socket's; the peer sees the stream end without a word."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def detach(self) -> int:
        """Give the descriptor away, unclosed; the peer notices nothing."""
        descriptor: int = self._sock.detach()
        return descriptor
