"""KapokMQ's texts: the login, what a producer sends, what a consumer gets; and what may go into them.

::

    login       server   Please enter the secret key
                client   the key
                server   Secret key matching succeeded | Secret key matching error, and the first text again

    producer    client   {"MessageData":"text","DelayTime":0}
                server   ok                                  one for each message, in the order sent

    consumer    server   {"MessageCode":"32 hex digits","MessageData":"text","Topic":"t","CreateTime":1,
                          "ConsumedTime":0,"DelayTime":0,"Status":-1} and a newline
                client   the message code, which acknowledges it

Times are seconds.  Source: dpwgc/kapokmq, commit a8c2c0c, ``server/producer.go``, ``server/consumer.go``,
``model/message.go``.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import Any, Literal
from urllib.parse import quote

from grocketmq.errors import ConfigError, MessageError, RemoteProtocolError
from grocketmq.kapokmq.message import KapokMessage

__all__ = [
    "ACKNOWLEDGED",
    "LOGGED_IN",
    "PROMPT",
    "WRONG_KEY",
    "Kind",
    "check_delay",
    "check_name",
    "encodable",
    "encode_message",
    "message_from",
    "parse_push",
    "quoted",
    "target",
]

PROMPT = "Please enter the secret key"
LOGGED_IN = "Secret key matching succeeded"
WRONG_KEY = "Secret key matching error"
ACKNOWLEDGED = "ok"

Kind = Literal["producer", "consumer"]

_PATHS: dict[Kind, str] = {"producer": "/Producers/Conn", "consumer": "/Consumers/Conn"}
_MAX_INT64 = (1 << 63) - 1
_EXCERPT = 60

#: The keys of the JSON text, in the order of the message's fields, and their types.
_FIELDS: dict[str, type] = {
    "MessageCode": str,
    "MessageData": str,
    "Topic": str,
    "CreateTime": int,
    "ConsumedTime": int,
    "DelayTime": int,
    "Status": int,
}


def target(kind: Kind, topic: str, client_id: str) -> str:
    """The path of a client's connection."""
    return f"{_PATHS[kind]}/{quote(topic, safe='')}/{quote(client_id, safe='')}"


def check_name(what: str, name: str) -> None:
    """Check a topic or an id, which are parts of a path.

    :param what: ``topic``, ``producer_id`` or ``consumer_id``, for the message.
    :raises ConfigError: a server would not find the path, or nobody would get anything.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{what} is a string, not {name!r}")
    if not name or "/" in name or name in (".", ".."):
        raise ConfigError(f"{what} {name!r}: it must not be empty, '.' or '..', nor hold a '/', for it is a part of a path")
    if not encodable(name):
        raise ConfigError(f"{what} {name!r} holds a lone surrogate, which UTF-8 cannot express")


def encodable(text: str) -> bool:
    """Whether UTF-8 can express it; a lone surrogate would silently become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_delay(delay: int) -> None:
    """Check a delay.

    :raises MessageError: it is no whole number of seconds from 0 to 2**63 - 1.
    """
    if type(delay) is not int or not 0 <= delay <= _MAX_INT64:
        raise MessageError(f"delay {delay!r} is not a whole number of seconds, 0 or more")


def encode_message(data: str, delay: int) -> str:
    """The text that sends a message.

    :param data: what to send.
    :param delay: seconds.
    :raises MessageError: the server would drop the connection, or alter the text.
    """
    if not isinstance(data, str):
        raise MessageError(f"KapokMQ messages are text, not {type(data).__name__}; decode it, or use base64")
    if not encodable(data):
        raise MessageError("the text holds a lone surrogate, which UTF-8 cannot express")
    if delay != 0 or type(delay) is not int:
        check_delay(delay)
    return f'{{"MessageData":{encode_basestring(data)},"DelayTime":{delay}}}'


def parse_push(text: str) -> KapokMessage:
    """The message that the server pushed.

    :raises RemoteProtocolError: naming the field.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"push frame is no JSON ({error}): {text[:_EXCERPT]!r}") from None
    return message_from(found, "push frame")


def message_from(found: Any, where: str) -> KapokMessage:
    """A message of its JSON object; keys it does not know are left out.

    :param where: which answer or frame it came in, for the error.
    :raises RemoteProtocolError: naming the field.
    """
    if type(found) is not dict:
        raise RemoteProtocolError(f"{where}: a message is an object, not {_excerpt(found)}")
    try:
        values = [found[name] for name in _FIELDS]
    except KeyError as error:
        raise RemoteProtocolError(f"{where}: a message without {error.args[0]}: {_excerpt(found)}") from None
    for value, (name, kind) in zip(values, _FIELDS.items(), strict=True):
        if type(value) is not kind:
            raise RemoteProtocolError(f"{where}: {name} is {_excerpt(value)}, not {kind.__name__}")
    return KapokMessage(*values)


def quoted(text: str) -> str:
    """The beginning of a peer's text, for an error."""
    return repr(text[:_EXCERPT])


def _excerpt(value: object) -> str:
    return repr(value)[:_EXCERPT]
