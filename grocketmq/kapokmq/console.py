"""The HTTP side of a KapokMQ server: what it holds, who is there, and sending without a connection of one's own.

Source: dpwgc/kapokmq, commit a8c2c0c, ``console/api.go``, ``server/producer.go``, ``router/router.go``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from grocketmq.errors import ConfigError, KapokMQError, MessageError, RemoteProtocolError
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.http import HttpClient
from grocketmq.kapokmq.message import ClientInfo, Clients, KapokMessage, MessageCounts, Node
from grocketmq.kapokmq.registry import nodes_from
from grocketmq.remoting.tls import TLSOption

__all__ = ["Console"]

T = TypeVar("T")

_TIME = "%Y-%m-%d %H:%M:%S"
_FIRST, _LAST = "1970-01-02 00:00:00", "9999-12-31 00:00:00"
#: The status that stands for every status.
_ANY_STATUS = 3


class Console:
    """Asks one server; each call is an HTTP request of its own and blocks its greenlet.

    Every call raises ``AuthError`` when the server refuses the secret key, a ``RemotingError`` when it is not reached or does
    not answer in time, ``KapokMQError`` when it answers with an error, ``RemoteProtocolError`` when its answer makes no sense.

    :param addr: host name or address of the server.
    :param port: its port.
    :param secret_key: the server's.
    :param protocol: ``http``, or ``https`` for a server behind a TLS proxy.
    :param timeout: seconds for a call.
    :param ssl_context: for ``https``, an ``ssl.SSLContext`` or a ``TLSConfig``; None for the system's authorities.
    """

    def __init__(
        self,
        addr: str,
        port: int,
        secret_key: str,
        *,
        protocol: str = "http",
        timeout: float = 5.0,
        ssl_context: TLSOption = None,
    ) -> None:
        self._http = HttpClient(protocol, addr, port, secret_key, timeout, ssl_context)

    def __repr__(self) -> str:
        return f"<kapokmq.Console of {self._http.address}>"

    def ping(self) -> None:
        """Return if the server is there and takes the key."""
        self._http.post("/Console/Ping")

    def count(self) -> MessageCounts:
        """How many messages the server holds, of all topics together."""
        found = self._data("/Console/CountMessage", dict)
        return MessageCounts(*(self._field(found, name, int) for name in MessageCounts._fields))

    def clients(self) -> Clients:
        """Who is logged in."""
        found = self._ask("/Console/GetClients")
        return Clients(self._clients(found, "producers", "Producer"), self._clients(found, "consumers", "Consumer"))

    def config(self) -> dict[str, Any]:
        """The server's settings, by the names it gives them: ``pushType``, ``checkSpeed``, ``pushRetryTime`` and so on."""
        return self._data("/Console/GetConfig", dict)

    def messages(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        status: int | None = None,
        topic: str | None = None,
    ) -> list[KapokMessage]:
        """The messages that the server holds, newest first; ``message_data`` is ``""`` in all of them.

        :param start: not older; in the server's time zone, which it does not tell.  None for no bound.
        :param end: not newer, likewise.
        :param status: -1 waiting, 0 delayed, 1 consumed; None for all.
        :param topic: None for all.
        """
        if status not in (None, -1, 0, 1):
            raise ConfigError(f"status {status!r} is not -1 (waiting), 0 (delayed), 1 (consumed) or None")
        form = {
            "startTime": _FIRST if start is None else start.strftime(_TIME),
            "endTime": _LAST if end is None else end.strftime(_TIME),
            "status": str(_ANY_STATUS if status is None else status),
        }
        if topic is not None:
            wire.check_name("topic", topic)
            form["topic"] = topic
        found = self._data("/Console/GetMessageList", list, form, empty=[])
        return [wire.message_from(one, f"{self._http.address}/Console/GetMessageList") for one in found]

    def message(self, message_code: str) -> KapokMessage:
        """A message with its text.

        :raises KapokMQError: the server has none with this code.
        """
        self._check_code(message_code)
        try:
            found = self._data("/Console/GetMessage", dict, {"messageCode": message_code})
        except KapokMQError as error:
            if type(error) is not KapokMQError:
                raise
            raise KapokMQError(f"{self._http.address} has no message {message_code!r}") from error
        return wire.message_from(found, f"{self._http.address}/Console/GetMessage")

    def delete(self, message_code: str) -> None:
        """Delete a message; one that is delayed is not delivered then.  The server does not tell whether there was one."""
        self._check_code(message_code)
        self._http.post("/Console/DelMessage", {"messageCode": message_code})

    def send(self, topic: str, data: str, delay: int = 0) -> str:
        """Send a message.

        Unlike a producer it takes no empty text, but tells the code.  For more than a few messages make a producer.

        :param topic: its topic.
        :param data: the text.
        :param delay: whole seconds before it is delivered.
        :returns: the message code.
        :raises MessageError: the text or the delay cannot be sent.
        """
        wire.check_name("topic", topic)
        wire.encode_message(data, delay)
        if not data:
            raise MessageError("the server takes no empty text over HTTP; a producer can send it")
        found = self._ask("/Producer/Send", {"messageData": data, "topic": topic, "delayTime": str(delay)})
        return self._field(found, "msg", str)

    def nodes(self) -> list[Node]:
        """The servers of its cluster, by what this one knows; empty for one that is alone."""
        return nodes_from(self._http.post("/Console/GetNodes"), f"{self._http.address}/Console/GetNodes")

    def _clients(self, answer: dict[str, Any], kind: str, prefix: str) -> list[ClientInfo]:
        found = answer.get(kind) or []
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise RemoteProtocolError(f"{self._http.address}: {kind} is no list of objects: {found!r:.60}")
        return [
            ClientInfo(
                self._field(one, f"{prefix}Id", str),
                self._field(one, "Topic", str),
                self._field(one, f"{prefix}Ip", str),
                self._field(one, "JoinTime", int),
            )
            for one in found
        ]

    def _ask(self, path: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        answer = self._http.post(path, form)
        if not isinstance(answer, dict):
            raise RemoteProtocolError(f"{self._http.address}{path}: the answer is no object but {answer!r:.60}")
        return answer

    def _data(self, path: str, kind: type[T], form: Mapping[str, str] | None = None, empty: T | None = None) -> T:
        data = self._ask(path, form).get("data")
        if data is None and empty is not None:
            return empty
        if not isinstance(data, kind):
            raise RemoteProtocolError(f"{self._http.address}{path}: data is no {kind.__name__} but {data!r:.60}")
        return data

    def _field(self, found: Mapping[str, Any], name: str, kind: type[T]) -> T:
        value = found.get(name)
        if type(value) is not kind:
            raise RemoteProtocolError(f"{self._http.address}: {name} is {value!r:.60}, not {kind.__name__}")
        return value

    def _check_code(self, message_code: str) -> None:
        if not message_code or not wire.encodable(message_code):
            raise ConfigError(f"message_code {message_code!r:.60} is no message code")
