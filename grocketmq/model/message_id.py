"""The two ids of a message: where it is stored, and which client sent it.

Both are upper-case hexadecimal of these bytes, H being 4 or 16:

====================  ========================================================================
offset message id     H packed address of the broker, i32 port, i64 commit log offset
unique id             H packed address of the client, u16 process id, u32 salt,
                      u32 ms since the month began, u16 counter
====================  ========================================================================

In Java the salt is the hash of a class loader.

Source: Apache RocketMQ 5.3.3, module common, classes ``MessageDecoder``, ``MessageClientIDSetter``.
"""

from __future__ import annotations

import binascii
from datetime import datetime, tzinfo
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from grocketmq.errors import RemoteProtocolError

__all__ = [
    "OffsetMessageId",
    "UniqueId",
    "UniqueIdGenerator",
    "decode_offset_msg_id",
    "decode_unique_id",
    "encode_offset_msg_id",
    "host_text",
    "unique_id_time",
]

_PORT_AND_OFFSET = Struct(">iq")
_PID_TO_COUNTER = Struct(">HIIH")
#: Both ids come in these numbers of bytes: with an IPv4 and with an IPv6 address.
_SIZES = (16, 28)
_TAIL_BYTES = 12

_DAY_MS = 24 * 3600 * 1000


def host_text(packed: bytes, port: int) -> str:
    """``host:port`` of a packed address, ``[host]:port`` for IPv6.

    :param packed: 4 or 16 bytes.
    :param port: the port.
    """
    address = ip_address(packed)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class OffsetMessageId(NamedTuple):
    """Where a message is stored.

    :param host: packed address of the broker, 4 or 16 bytes.
    :param port: the broker's port.
    :param commit_log_offset: where the message starts in its commit log, in bytes.
    """

    host: bytes
    port: int
    commit_log_offset: int

    @property
    def address(self) -> str:
        """``host:port`` of the broker."""
        return host_text(self.host, self.port)


class UniqueId(NamedTuple):
    """Which client made an id, and when.

    :param ip: packed address of the client, 4 or 16 bytes.
    :param pid: the low 16 bits of its process id.
    :param salt: what tells its generator from others in the process.
    :param millis_in_month: ms from the beginning of the month in the client's time zone.
    :param counter: counts the generator's ids, wrapping at 65536.
    """

    ip: bytes
    pid: int
    salt: int
    millis_in_month: int
    counter: int


def encode_offset_msg_id(host: bytes, port: int, commit_log_offset: int) -> str:
    """The id of a stored message; never blocks.

    :param host: packed address, 4 or 16 bytes.
    :param port: the broker's port.
    :param commit_log_offset: where the message starts in the commit log, in bytes.
    :returns: 32 characters for IPv4, 56 for IPv6.
    """
    return (host + _PORT_AND_OFFSET.pack(port, commit_log_offset)).hex().upper()


def decode_offset_msg_id(text: str) -> OffsetMessageId:
    """Read the id of a stored message; never blocks.

    :param text: 32 or 56 hexadecimal digits.
    :raises RemoteProtocolError: for any other text.
    """
    raw = _id_bytes("offset message id", text)
    return OffsetMessageId(raw[:-_TAIL_BYTES], *_PORT_AND_OFFSET.unpack(raw[-_TAIL_BYTES:]))


def decode_unique_id(text: str) -> UniqueId:
    """Read the id that a client gave its message; never blocks.

    :param text: 32 or 56 hexadecimal digits.  Any text may be a unique id on the wire; only those of Java's form can be read.
    :raises RemoteProtocolError: for any other text.
    """
    raw = _id_bytes("unique id", text)
    return UniqueId(raw[:-_TAIL_BYTES], *_PID_TO_COUNTER.unpack(raw[-_TAIL_BYTES:]))


def unique_id_time(unique_id: UniqueId, now_ms: int, zone: tzinfo | None = None) -> int:
    """About when an id was made: in this month, or in the month before if that lies in the future yet.

    :param unique_id: the id.
    :param now_ms: the clock, ms since the epoch.
    :param zone: the time zone of the client that made it; None for this machine's.
    :returns: ms since the epoch.
    """
    start = _month_start(now_ms, zone)
    if start + unique_id.millis_in_month >= now_ms:
        start = _month_start(start - _DAY_MS, zone)
    return start + unique_id.millis_in_month


class UniqueIdGenerator:
    """Makes ids that no other client makes, and never one twice.

    Ids of one turn of the counter differ by the counter.  A turn never begins in a millisecond that the turn before used, be
    the clock set back or more than 65536 ids asked for in one millisecond, so ids of different turns differ by the time.  The
    time begins anew with each month, which is why the salt moves on by one then.

    One generator serves one process: after a fork its owner makes another one, with another salt.

    :param ip: packed address of this client, 4 or 16 bytes.
    :param pid: the process id; its low 16 bits are used.
    :param salt: a random number of 32 bits.
    :param zone: the time zone whose months count; None for this machine's, as in Java.
    """

    __slots__ = ("_counter", "_head", "_ip", "_millis", "_month_end", "_month_start", "_pid", "_prefix", "_salt", "_zone")

    def __init__(self, ip: bytes, pid: int, salt: int, zone: tzinfo | None = None) -> None:
        self._ip = ip
        self._pid = pid & 0xFFFF
        self._salt = salt
        self._zone = zone
        self._counter = -1
        self._month_start = self._month_end = 0
        self._millis = -1
        self._prefix = self._head = ""

    def make(self, now_ms: int) -> str:
        """The next id; never blocks.

        :param now_ms: the clock, ms since the epoch.
        :returns: 32 upper-case hexadecimal digits, 56 with an IPv6 address.
        """
        if now_ms >= self._month_end:
            self._enter_month(now_ms)
        millis = now_ms - self._month_start
        self._counter = counter = self._counter + 1 & 0xFFFF
        if millis > self._millis or not counter:
            self._millis = millis = max(millis, self._millis + 1)
            self._head = f"{self._prefix}{millis:08X}"
        return f"{self._head}{counter:04X}"

    def _enter_month(self, now_ms: int) -> None:
        self._month_start = _month_start(now_ms, self._zone)
        self._month_end = _month_start(self._month_start + 32 * _DAY_MS, self._zone)
        self._millis = -1
        self._prefix = f"{self._ip.hex()}{self._pid:04x}{self._salt & 0xFFFFFFFF:08x}".upper()
        self._salt += 1


def _month_start(now_ms: int, zone: tzinfo | None) -> int:
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    return round(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def _id_bytes(what: str, text: str) -> bytes:
    try:
        raw = binascii.unhexlify(text)
    except ValueError:  # binascii.Error is one
        raw = b""
    if len(raw) not in _SIZES:
        raise RemoteProtocolError(f"{what} {text[:100]!r} is none of 32 or 56 hexadecimal digits")
    return raw
