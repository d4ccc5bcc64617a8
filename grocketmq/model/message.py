"""What users send and what listeners get.

Source: Apache RocketMQ 5.3.3, module common, classes ``Message``, ``MessageExt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from struct import Struct, calcsize
from typing import NamedTuple

from grocketmq.errors import MessageError
from grocketmq.model.message_id import encode_offset_msg_id, host_text
from grocketmq.model.properties import RESERVED_NAMES, Property, check_property_text, decode_properties
from grocketmq.model.route import MessageQueue

__all__ = ["DELAY_PROPERTIES", "MAX_DELAY_LEVEL", "TIMER_PROPERTIES", "Message", "MessageExt", "Origin", "check_flag"]

#: Brokers know 18 delay levels unless they are configured otherwise.
MAX_DELAY_LEVEL = 18

_KEY_SEPARATOR = " "
#: Some thousands of years: what keeps milliseconds within the 64 bits that brokers read them into.
_MOST_SECONDS = 1e12


def check_flag(flag: object) -> None:
    """Refuse a flag that does not fit its field; never blocks.

    :param flag: what a message is to have.
    :raises MessageError: when it is no integer of 32 bits.
    """
    if isinstance(flag, bool) or not isinstance(flag, int) or not -(1 << 31) <= flag < 1 << 31:
        raise MessageError(f"flag {flag!r:.80} is not an integer of 32 bits")


class Message:
    """A message to send.

    :param topic: where it goes; checked when it is sent.
    :param body: the payload; a ``str`` is encoded as UTF-8 here, once.
    :param tags: one tag, which consumers may filter by.
    :param keys: one key or several, by which operators can find the message; a key holds no space.
    :param properties: own properties, name to value; neither may be empty, and the protocol's names are refused.
    :param sharding_key: remembered in the message for :meth:`Producer.send_orderly`.
    :param delay_level: 1 to 18 for delivery after that level's delay (1 s to 2 h by default); 0 for at once.
    :param delay: seconds until delivery; needs a 5.x broker.
    :param deliver_at: when to deliver: seconds since the epoch or an aware ``datetime``; needs a 5.x broker.
    :param flag: a signed 32-bit number that travels with the message and means what its users agree on.
    :param wait_store_ok: whether the broker is to wait for its flush and its replica, where it is configured to have them.
    :raises MessageError: for a wrong type, a reserved or empty property, or more than one way of delay.
    """

    __slots__ = ("_properties", "body", "flag", "topic")

    _properties: dict[str, str] | None

    def __init__(
        self,
        topic: str,
        body: bytes | str,
        *,
        tags: str | None = None,
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        sharding_key: str | None = None,
        delay_level: int = 0,
        delay: float | None = None,
        deliver_at: float | datetime | None = None,
        flag: int = 0,
        wait_store_ok: bool = True,
    ) -> None:
        if not isinstance(topic, str):
            raise MessageError(f"topic must be a str, not {type(topic).__name__}")
        self.topic = topic
        self.body = body if isinstance(body, bytes) else _body_bytes(body)
        if flag:
            check_flag(flag)
        self.flag = flag
        self._properties = {Property.WAIT_STORE_MSG_OK: "true" if wait_store_ok else "false"}
        if tags:
            self.tags = tags
        if keys:
            self.keys = keys if isinstance(keys, str) else _join_keys(keys)
        if sharding_key:
            self.sharding_key = sharding_key
        if delay_level or delay is not None or deliver_at is not None:
            self._set_delay(delay_level, delay, deliver_at)
        if properties:
            if not isinstance(properties, Mapping):
                raise MessageError(f"properties must be a mapping of names to values, not {type(properties).__name__}")
            for name, value in properties.items():
                self.put_property(name, value)

    @property
    def properties(self) -> dict[str, str]:
        """All properties, those of the protocol too; what is written here travels."""
        assert self._properties is not None
        return self._properties

    def put_property(self, name: str, value: str) -> None:
        """Set a property of one's own; never blocks.

        :param name: not blank, none of the protocol's names, without control characters.
        :param value: not blank, without control characters other than tab and line ends.
        :raises MessageError: when the name or the value is none of that, or not encodable as UTF-8.
        """
        check_property_text("the name of a property", name)
        check_property_text(f"property {name!r}", value, layout=True)
        if name in RESERVED_NAMES:
            raise MessageError(f"property name {name!r} belongs to the protocol; use the matching argument of Message")
        if not name.strip() or not value.strip():
            raise MessageError(f"property {name!r}: neither its name nor its value may be empty or blank")
        self.properties[name] = value

    def _put(self, what: str, name: str, value: object) -> None:
        check_property_text(what, value)
        self.properties[name] = value  # type: ignore[assignment]

    @property
    def tags(self) -> str | None:
        """The tag, None without one.  What is set must be a ``str`` without control characters, else ``MessageError``."""
        return self.properties.get(Property.TAGS)

    @tags.setter
    def tags(self, tags: str) -> None:
        self._put("the tag", Property.TAGS, tags)

    @property
    def keys(self) -> str | None:
        """All keys, separated by spaces; None without any.  Set as :attr:`tags`: one text takes the place of all keys."""
        return self.properties.get(Property.KEYS)

    @keys.setter
    def keys(self, keys: str) -> None:
        self._put("a key", Property.KEYS, keys)

    @property
    def sharding_key(self) -> str | None:
        """The key that decides the queue of an ordered send; None without one.  Set as :attr:`tags`."""
        return self.properties.get(Property.SHARDING_KEY)

    @sharding_key.setter
    def sharding_key(self, sharding_key: str) -> None:
        self._put("the sharding key", Property.SHARDING_KEY, sharding_key)

    @property
    def transaction_id(self) -> str | None:
        """The id of the transaction it is sent in, which is the id its sender gives it; None before it is sent."""
        return self.properties.get(Property.UNIQ_KEY)

    @property
    def delay_level(self) -> int:
        """The delay level, 0 without one.  What is set is not checked; the argument of :class:`Message` is."""
        return int(self.properties.get(Property.DELAY_TIME_LEVEL, "0"))

    @delay_level.setter
    def delay_level(self, level: int) -> None:
        self.properties[Property.DELAY_TIME_LEVEL] = str(level)

    @property
    def wait_store_ok(self) -> bool:
        """Whether the broker is asked to wait for flush and replica."""
        return self.properties.get(Property.WAIT_STORE_MSG_OK, "true") == "true"

    @property
    def is_delayed(self) -> bool:
        """Whether any way of delay is set."""
        return bool(DELAY_PROPERTIES & self.properties.keys())

    def _set_delay(self, level: int, delay: float | None, deliver_at: float | datetime | None) -> None:
        if bool(level) + (delay is not None) + (deliver_at is not None) > 1:
            raise MessageError("choose one of delay_level, delay and deliver_at: a broker would drop the others")
        if level not in range(MAX_DELAY_LEVEL + 1):
            raise MessageError(f"delay_level {level!r} is no whole number within 0..{MAX_DELAY_LEVEL}")
        if level:
            self.delay_level = int(level)
        if delay is not None:
            self.properties[Property.TIMER_DELAY_MS] = str(_milliseconds("delay", delay))
        if deliver_at is not None:
            self.properties[Property.TIMER_DELIVER_MS] = str(_epoch_ms(deliver_at))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic} tags={self.tags} keys={self.keys} body={len(self.body)} bytes>"


#: The properties that name a point in time for the delivery.
TIMER_PROPERTIES = frozenset({Property.TIMER_DELAY_MS, Property.TIMER_DELAY_SEC, Property.TIMER_DELIVER_MS})
#: The properties that delay a message.
DELAY_PROPERTIES = TIMER_PROPERTIES | {Property.DELAY_TIME_LEVEL}


def _join_keys(keys: Iterable[object]) -> str:
    if not isinstance(keys, Iterable):
        raise MessageError(f"keys must be a str or an iterable of such, not {type(keys).__name__}")
    pieces = []
    for key in keys:
        if not isinstance(key, str) or not key or _KEY_SEPARATOR in key:
            raise MessageError(f"key {key!r:.80} is not a str without spaces")
        pieces.append(key)
    return _KEY_SEPARATOR.join(pieces)


def _body_bytes(body: object) -> bytes:
    if isinstance(body, str):
        try:
            return body.encode("utf-8")
        except UnicodeEncodeError as error:
            raise MessageError(f"body is not encodable as UTF-8: {error}") from error
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    raise MessageError(f"body must be bytes or str, not {type(body).__name__}")


def _epoch_ms(moment: float | datetime) -> int:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise MessageError("deliver_at is a naive datetime; give it a time zone")
        moment = moment.timestamp()
    return _milliseconds("deliver_at", moment)


def _milliseconds(name: str, seconds: object) -> int:
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= _MOST_SECONDS:
        raise MessageError(f"{name} is {seconds!r}; it must be a number of seconds (not milliseconds), not negative")
    return round(seconds * 1000)


class Origin(NamedTuple):
    """When and where a message was sent and stored.

    :param born_timestamp: when it was sent, ms since the epoch.
    :param born_host: ``(packed address of 4 or 16 bytes, port)`` of the sender.
    :param store_timestamp: when it was stored, ms since the epoch.
    :param store_host: ``(packed address, port)`` of the broker.
    """

    born_timestamp: int
    born_host: tuple[bytes, int]
    store_timestamp: int
    store_host: tuple[bytes, int]


#: The same as brokers store it, with IPv4 addresses.
_ORIGIN = Struct(">q4siq4si")
_STORE_TIMESTAMP = Struct(">q")
_STORE_TIMESTAMP_AT = calcsize(">q4si")


class MessageExt(Message):
    """A message as a broker stored it: what consumers and queries get.

    Its properties and its origin are read from what the broker stored when they are first looked at.

    :param topic: the topic, or a retry message's original topic.
    :param body: the payload, decompressed.
    :param properties: name to value.
    :param broker_name: the broker it was read from.
    :param queue_id: the queue of that broker.
    :param queue_offset: its place in the queue.
    :param commit_log_offset: its place in the broker's commit log.
    :param sys_flag: bits of ``grocketmq.wire.flags.MessageSysFlag``.
    :param flag: the sender's own number.
    :param born_timestamp: when it was sent, ms since the epoch.
    :param born_host: ``(packed address of 4 or 16 bytes, port)`` of the sender.
    :param store_timestamp: when it was stored, ms since the epoch.
    :param store_host: ``(packed address, port)`` of the broker.
    :param store_size: bytes it takes in the commit log.
    :param body_crc: CRC-32 of the stored body; the client does not check it.
    :param reconsume_times: how often it was sent back before.
    :param prepared_transaction_offset: of a half message.
    """

    __slots__ = (
        "_origin",
        "_overlay",
        "_properties_bytes",
        "body_crc",
        "broker_name",
        "commit_log_offset",
        "prepared_transaction_offset",
        "queue_id",
        "queue_offset",
        "reconsume_times",
        "store_size",
        "sys_flag",
    )

    def __init__(
        self,
        topic: str,
        body: bytes,
        *,
        properties: Mapping[str, str] | None = None,
        broker_name: str = "",
        queue_id: int = 0,
        queue_offset: int = 0,
        commit_log_offset: int = 0,
        sys_flag: int = 0,
        flag: int = 0,
        born_timestamp: int = 0,
        born_host: tuple[bytes, int] = (b"\x00" * 4, 0),
        store_timestamp: int = 0,
        store_host: tuple[bytes, int] = (b"\x00" * 4, 0),
        store_size: int = 0,
        body_crc: int = 0,
        reconsume_times: int = 0,
        prepared_transaction_offset: int = 0,
    ) -> None:
        self.topic = topic
        self.body = body
        self.flag = flag
        self._properties = dict(properties or {})
        self._properties_bytes = b""
        self._overlay: Mapping[str, str] | None = None
        self.broker_name = broker_name
        self.queue_id = queue_id
        self.queue_offset = queue_offset
        self.commit_log_offset = commit_log_offset
        self.sys_flag = sys_flag
        self._origin: Origin | bytes = Origin(born_timestamp, born_host, store_timestamp, store_host)
        self.store_size = store_size
        self.body_crc = body_crc
        self.reconsume_times = reconsume_times
        self.prepared_transaction_offset = prepared_transaction_offset

    @property
    def properties(self) -> dict[str, str]:
        """All properties, decoded at the first look."""
        if self._properties is None:
            self._properties = decode_properties(self._properties_bytes.decode("utf-8", "replace"))
            if self._overlay:
                self._properties.update(self._overlay)
        return self._properties

    @property
    def msg_id(self) -> str:
        """The id the sender gave it; its offset id if it has none."""
        return self.properties.get(Property.UNIQ_KEY) or self.offset_msg_id

    @property
    def offset_msg_id(self) -> str:
        """The id that says where it is stored: broker address and commit log offset, in hexadecimal."""
        host, port = self.origin.store_host
        return encode_offset_msg_id(host, port, self.commit_log_offset)

    @property
    def origin(self) -> Origin:
        """When and where it was sent and stored."""
        if isinstance(self._origin, bytes):
            born_at, born_ip, born_port, stored_at, store_ip, store_port = _ORIGIN.unpack(self._origin)
            self._origin = Origin(born_at, (born_ip, born_port), stored_at, (store_ip, store_port))
        return self._origin

    @property
    def born_timestamp(self) -> int:
        """When it was sent, ms since the epoch."""
        return self.origin.born_timestamp

    @property
    def store_timestamp(self) -> int:
        """When it was stored, ms since the epoch."""
        if isinstance(self._origin, bytes):  # metrics ask for this alone
            return int(_STORE_TIMESTAMP.unpack_from(self._origin, _STORE_TIMESTAMP_AT)[0])
        return self._origin.store_timestamp

    @property
    def message_queue(self) -> MessageQueue:
        """The queue it was read from."""
        return MessageQueue(self.topic, self.broker_name, self.queue_id)

    @property
    def born_host(self) -> str:
        """``host:port`` of the sender."""
        return host_text(*self.origin.born_host)

    @property
    def store_host(self) -> str:
        """``host:port`` of the broker that stored it."""
        return host_text(*self.origin.store_host)

    def __repr__(self) -> str:
        place = f"{self.broker_name}/{self.queue_id}@{self.queue_offset}"
        return f"<MessageExt {self.topic} {place} id={self.msg_id} body={len(self.body)} bytes>"
