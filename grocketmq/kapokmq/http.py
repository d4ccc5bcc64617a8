"""One HTTP request: a form is posted, a JSON answer read.  Over h11, which wsproto brings, on this package's own streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import gevent
import h11

from grocketmq.errors import (
    AuthError,
    ConfigError,
    ConnectionLostError,
    KapokMQError,
    RemoteProtocolError,
    RequestTimeout,
)
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.config import check_key, server_address
from grocketmq.remoting.stream import ByteStream, connect, receive_some, send_all
from grocketmq.remoting.tls import TLSConfig, TLSOption, tls_connector
from grocketmq.runtime.deadline import Deadline

__all__ = ["HttpClient"]

#: The longest answer to take.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_RECEIVE_BYTES = 64 * 1024


class HttpClient:
    """Posts to one server, on a connection for each request.

    :param protocol: ``http`` or ``https``.
    :param addr: host name or address.
    :param port: its port.
    :param secret_key: goes into the header ``secretKey``.
    :param timeout: seconds for a request, all its steps together.
    :param ssl_context: for ``https``, an ``ssl.SSLContext`` or a ``TLSConfig``; None for the system's authorities.
    :raises ConfigError: one of them cannot work.
    """

    def __init__(
        self, protocol: str, addr: str, port: int, secret_key: str, timeout: float, ssl_context: TLSOption = None
    ) -> None:
        if protocol not in ("http", "https"):
            raise ConfigError(f"protocol {protocol!r} is neither 'http' nor 'https'")
        check_key(secret_key)
        if not secret_key.isascii() or not secret_key.isprintable():
            raise ConfigError("secret_key cannot stand in an HTTP header; it must be printable ASCII")
        if not (type(timeout) in (int, float) and 0 < timeout < float("inf")):
            raise ConfigError(f"timeout {timeout!r} is not a number of seconds above 0")
        self.address = server_address(addr, port)
        self._protocol = protocol
        self._secret_key = secret_key
        self._timeout = timeout
        self._tls = TLSConfig.of(ssl_context) or TLSConfig()

    def post(self, path: str, form: Mapping[str, str] | None = None, timeout: float | None = None) -> Any:
        """Post a form; blocks its greenlet for at most ``timeout`` seconds.

        :param path: such as ``/Console/Ping``.
        :param form: its fields.
        :param timeout: seconds; None for the client's own.
        :returns: the answer's JSON; None for an empty answer.
        :raises AuthError: the server refused the secret key.
        :raises KapokMQError: the server answered with an error.
        :raises RemotingError: it was not reached, or did not answer in time.
        :raises RemoteProtocolError: what it answered is not HTTP, or not JSON.
        """
        deadline = Deadline(self._timeout if timeout is None else timeout)
        where = f"{self.address}{path}"
        stream = self._open()(self.address, deadline.remaining())
        try:
            with gevent.Timeout(deadline.remaining(), RequestTimeout(f"{where}: no answer in time")):
                status, body = self._exchange(stream, path, urlencode(form or {}).encode())
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(f"{where}: the answer is no HTTP: {error}") from error
        except OSError as error:
            if isinstance(error, RequestTimeout):
                raise
            raise ConnectionLostError(f"{where}: {error}") from error
        finally:
            stream.close()
        if status != 200:
            raise KapokMQError(f"{where} answered HTTP {status}")
        return self._parse(where, body)

    def _open(self) -> Callable[[str, float], ByteStream]:
        if self._protocol == "http":
            return connect
        return tls_connector(self._tls)

    def _exchange(self, stream: ByteStream, path: str, body: bytes) -> tuple[int, bytes]:
        connection = h11.Connection(h11.CLIENT)
        headers = [
            ("Host", self.address.encode("idna").decode()),
            ("secretKey", self._secret_key),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        head = connection.send(h11.Request(method="POST", target=path, headers=headers))
        data = connection.send(h11.Data(data=body))
        connection.send(h11.EndOfMessage())
        send_all(stream, (head or b"") + (data or b""))
        status = 0
        answer = bytearray()
        buffer = memoryview(bytearray(_RECEIVE_BYTES))
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(buffer[: receive_some(stream, buffer)]))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += event.data
                if len(answer) > MAX_ANSWER_BYTES:
                    raise RemoteProtocolError(f"{self.address}{path}: an answer of over {MAX_ANSWER_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(answer)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionLostError(f"{self.address}{path}: closed before the answer was complete")

    def _parse(self, where: str, body: bytes) -> Any:
        if not body.strip():
            return None
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{where}: the answer is no JSON ({error}): {body[:60]!r}") from None
        if isinstance(answer, dict) and answer.get("code", 0) != 0:
            said = answer.get("msg") or answer.get("data")
            if said == wire.WRONG_KEY:
                raise AuthError(f"{where} refused the secret key")
            raise KapokMQError(f"{where} answered code {answer['code']!r}: {said!r:.200}")
        return answer
