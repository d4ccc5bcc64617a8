"""One HTTP GET, for address servers, on this package's own streams.

The standard library reads the answer; ``http.client`` is imported when it is needed, as it imports ``ssl``.
"""

from __future__ import annotations

import io
from urllib.parse import urlsplit

import gevent

from grocketmq.errors import ConfigError, ConnectionLostError, RemoteProtocolError, RequestTimeout
from grocketmq.remoting.stream import ByteStream, connect, receive_some, send_all, split_address
from grocketmq.remoting.tls import TLSConfig, tls_connector
from grocketmq.runtime.deadline import Deadline

__all__ = ["check_url", "http_get"]

#: The longest body to take.
MAX_BODY_BYTES = 1024 * 1024

_PORTS = {"http": 80, "https": 443}


def check_url(url: str) -> None:
    """Make sure that :func:`http_get` can take it; never blocks.

    :raises ConfigError: saying what is wrong with it.
    """
    _address(url)


def http_get(url: str, timeout: float, tls: TLSConfig | None = None) -> str:
    """Get a text; blocks its greenlet for at most ``timeout`` seconds.

    Redirections are not followed.

    :param url: ``http://`` or ``https://``.
    :param timeout: seconds for everything.
    :param tls: how ``https`` checks certificates; None for the system's authorities.
    :returns: the body of the answer.
    :raises ConfigError: the URL cannot be used.
    :raises RemotingError: there was no answer, or none in time.
    :raises RemoteProtocolError: the answer is no HTTP, not a success, too long, or no UTF-8.
    """
    address, target = _address(url)
    deadline = Deadline(timeout)
    opened = tls_connector(tls or TLSConfig()) if url.startswith("https:") else connect
    stream = opened(address, deadline.remaining())
    try:
        with gevent.Timeout(deadline.remaining(), RequestTimeout(f"{url}: no answer within {timeout:g} s")):
            request = f"GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain, */*\r\nConnection: close\r\n\r\n"
            send_all(stream, request.encode("ascii"))
            return _receive(stream, url)
    except OSError as error:
        if isinstance(error, RequestTimeout):
            raise
        raise ConnectionLostError(f"{url}: the connection broke: {error}") from error
    finally:
        stream.close()


def _address(url: str) -> tuple[str, str]:
    """``host:port`` and what to ask for there."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise ConfigError(f"{url!r} is no http:// or https:// URL with a valid port") from None
    if not parts.hostname or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{url!r} is no URL of plain characters with a host and without a user")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    split_address(f"{host}:{port}")
    return f"{host}:{port}", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _receive(stream: ByteStream, url: str) -> str:
    import http.client

    try:
        answer = http.client.HTTPResponse(_Readable(stream))  # type: ignore[arg-type]  # makefile is all it asks for
        answer.begin()
        if answer.status != http.client.OK:
            raise RemoteProtocolError(f"{url} answered HTTP {answer.status} {answer.reason}")
        body = answer.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise RemoteProtocolError(f"{url} answered over {MAX_BODY_BYTES} bytes")
        if answer.length:  # what of the body has not come
            raise RemoteProtocolError(f"{url}: the answer is cut short")
        return body.decode("utf-8")
    except (http.client.HTTPException, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"{url}: the answer cannot be read: {error!r}") from error


class _Readable(io.RawIOBase):
    """A stream as a file that waits."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> io.BufferedReader:
        """What the standard library asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return receive_some(self._stream, memoryview(buffer))
