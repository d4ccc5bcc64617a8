"""Frames encoded beforehand and a socket that counts replies: the least a client can do.

Written without the library's own wire and remoting layers, which is what it is compared with.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from struct import Struct

import gevent
from gevent import socket

from grocketmq.codes import PROTOCOL_VERSION, RequestCode, ResponseCode

__all__ = [
    "ONEWAY",
    "Connection",
    "Puller",
    "Window",
    "ask",
    "batch_frame",
    "count_messages",
    "create_topic",
    "find_broker",
    "frame",
    "max_offset_sum",
    "send_frame",
    "missing",
]

ONEWAY = 2
#: Pull flags: wait at the broker for new messages, the subscription is in the request.
SUSPEND, SUBSCRIPTION = 2, 4
PULL_MESSAGES = 32
SUSPEND_MS = 1000
TIMEOUT = 10.0
#: Seconds in which messages that were answered must show in the queues' offsets.
SETTLE_TIMEOUT = 3.0

READ_BYTES = 256 * 1024

_LENGTH = Struct(">I")
_LENGTHS = Struct(">II")
_CODE = re.compile(rb'"code":(\d+)')
_OPAQUE = re.compile(rb'"opaque":(\d+)')


def frame(code: int, fields: dict[str, str], body: bytes = b"", *, opaque: int = 0, flag: int = 0) -> bytes:
    """A request with a JSON header."""
    header = {
        "code": int(code),
        "extFields": fields,
        "flag": flag,
        "language": "PYTHON",
        "opaque": opaque,
        "serializeTypeCurrentRPC": "JSON",
        "version": PROTOCOL_VERSION,
    }
    return _framed(json.dumps(header, separators=(",", ":")).encode(), body)


def _framed(header: bytes, body: bytes) -> bytes:
    return _LENGTHS.pack(4 + len(header) + len(body), len(header)) + header + body


def _send_fields(topic: str, queue: int, properties: str, batch: bool) -> dict[str, str]:
    return {
        "a": "bench_floor",
        "b": topic,
        "c": "TBW102",
        "d": "4",
        "e": str(queue),
        "f": "0",
        "g": str(int(time.time() * 1000)),
        "h": "0",
        "i": properties,
        "j": "0",
        "k": "false",
        "m": str(batch).lower(),
    }


def _properties(number: int) -> str:
    return f"UNIQ_KEY\x01{number:032X}\x02WAIT\x01true\x02"


def send_frame(topic: str, body: bytes, number: int, queues: int, *, oneway: bool = False) -> bytes:
    """A send of one message; frames of one topic and body size have one length.

    :param number: chooses the queue, the message's unique key and the opaque.
    """
    fields = _send_fields(topic, number % queues, _properties(number), batch=False)
    flag = ONEWAY if oneway else 0
    return frame(RequestCode.SEND_MESSAGE_V2, fields, body, opaque=1_000_000 + number, flag=flag)


def batch_frame(topic: str, body: bytes, number: int, queues: int, size: int) -> bytes:
    """As :func:`send_frame`, a batch of ``size`` messages."""
    properties = [_properties(number * size + index).encode() for index in range(size)]
    packed = b"".join(
        Struct(f">iiiii{len(body)}sh").pack(22 + len(body) + len(text), 0, 0, 0, len(body), body, len(text)) + text
        for text in properties
    )
    fields = _send_fields(topic, number % queues, "WAIT\x01true\x02", batch=True)
    return frame(RequestCode.SEND_BATCH_MESSAGE, fields, packed, opaque=1_000_000 + number)


class Connection:
    """A plain gevent socket to a peer; replies are found by their lengths alone."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.socket()
        self._socket.settimeout(TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect((host, int(port)))
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0
        self.send = self._socket.sendall

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def count_replies(self) -> int:
        """Wait for at least one whole reply; how many came."""
        count = 0
        while not count:
            self._fill()
            position = 0
            while (end := self._end(position)) <= self._have:
                position = end
                count += 1
            self._drop(position)
        return count

    def replies(self) -> list[tuple[bytes, bytes]]:
        """Wait for at least one whole reply; headers and bodies of all that came."""
        self._fill()
        while self._end(0) > self._have:
            if self._have >= 4 and self._end(0) > len(self._buffer):
                self._grow(self._end(0))
            self._fill()
        position = 0
        found = []
        while (end := self._end(position)) <= self._have:
            body_at = position + 8 + (_LENGTH.unpack_from(self._buffer, position + 4)[0] & 0xFFFFFF)
            found.append((bytes(self._view[position + 8 : body_at]), bytes(self._view[body_at:end])))
            position = end
        self._drop(position)
        return found

    def _end(self, position: int) -> int:
        if self._have - position < 4:
            return self._have + 1
        return position + 4 + int(_LENGTH.unpack_from(self._buffer, position)[0])

    def _fill(self) -> None:
        received = self._socket.recv_into(self._view[self._have :])
        if not received:
            raise ConnectionError("the peer closed the connection")
        self._have += received

    def _drop(self, count: int) -> None:
        self._have -= count
        self._buffer[: self._have] = self._buffer[count : count + self._have]

    def _grow(self, size: int) -> None:
        old = self._view
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._view[: self._have] = old[: self._have]


class Window:
    """Frames of one length, encoded once and written again and again.

    :param frames: at least as many as are written at once.
    """

    def __init__(self, frames: list[bytes]) -> None:
        self._size = len(frames[0])
        assert all(len(each) == self._size for each in frames)
        self._count = len(frames)
        self._data = memoryview(b"".join(frames) * 2)
        self._next = 0

    def take(self, count: int) -> memoryview:
        """The next frames, at most as many as there are."""
        first = self._next
        self._next = (first + count) % self._count
        return self._data[first * self._size : (first + count) * self._size]


class Puller:
    """Keeps one pull under way for every queue of a topic; knows nothing of messages but their length prefix."""

    def __init__(self, job_topic: str, broker: str, queues: int) -> None:
        self.connection = Connection(broker)
        self._offsets = [0] * queues
        self._headers = [self._header(job_topic, queue) for queue in range(queues)]

    def __enter__(self) -> Puller:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.__exit__()

    def rewind(self) -> None:
        """From the first message on again."""
        self._offsets = [0] * len(self._offsets)

    def pull(self, queue: int) -> None:
        """Ask for the next messages of a queue."""
        self.connection.send(_framed(self._headers[queue] % self._offsets[queue], b""))

    def pull_all(self) -> None:
        """Ask for the next messages of every queue."""
        for queue in range(len(self._offsets)):
            self.pull(queue)

    def receive(self) -> Iterator[tuple[int, int, bytes]]:
        """What came: queue, number of messages, the messages; the caller pulls again."""
        for header, body in self.connection.replies():
            code, queue = _number(_CODE, header), _number(_OPAQUE, header)
            if code not in (ResponseCode.SUCCESS, ResponseCode.PULL_NOT_FOUND, ResponseCode.PULL_RETRY_IMMEDIATELY):
                raise ConnectionError(f"pull of queue {queue}: the broker answered {header.decode()}")
            messages = body if code == ResponseCode.SUCCESS else b""
            count = count_messages(messages)
            self._offsets[queue] += count
            yield queue, count, messages

    @staticmethod
    def _header(topic: str, queue: int) -> bytes:
        fields = {
            "consumerGroup": "bench_floor",
            "topic": topic,
            "queueId": str(queue),
            "queueOffset": "@offset@",
            "maxMsgNums": str(PULL_MESSAGES),
            "sysFlag": str(SUSPEND | SUBSCRIPTION),
            "commitOffset": "0",
            "suspendTimeoutMillis": str(SUSPEND_MS),
            "subscription": "*",
            "subVersion": "0",
            "expressionType": "TAG",
        }
        return frame(RequestCode.PULL_MESSAGE, fields, opaque=queue)[8:].replace(b"@offset@", b"%d")


def _number(name: re.Pattern[bytes], header: bytes) -> int:
    found = name.search(header)
    if found is None:
        raise ConnectionError(f"no {name.pattern!r} in the header {header!r}")
    return int(found[1])


def count_messages(body: bytes) -> int:
    """How many messages follow one another in it, a batch or stored ones: both begin with their size."""
    position = count = 0
    size = len(body)
    unpack = _LENGTH.unpack_from
    while position < size:
        position += unpack(body, position)[0]
        count += 1
    return count


def ask(address: str, code: int, fields: dict[str, str]) -> tuple[int, bytes, bytes]:
    """One request on a connection of its own: response code, header and body."""
    with Connection(address) as connection:
        connection.send(frame(code, fields))
        ((header, body),) = connection.replies()
    return json.loads(header)["code"], header, body


def find_broker(namesrv: str, topic: str) -> str:
    """Address of the first broker that has a topic, asked for up to some seconds."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        fields = {"topic": topic, "acceptStandardJsonOnly": "true"}
        code, _, body = ask(namesrv, RequestCode.GET_ROUTEINFO_BY_TOPIC, fields)
        if code == ResponseCode.SUCCESS:
            brokers = json.loads(body)["brokerDatas"]
            return str(brokers[0]["brokerAddrs"]["0"])
        if time.monotonic() > deadline:
            raise ConnectionError(f"{namesrv} has no route of {topic}: code {code}")
        gevent.sleep(0.1)


def create_topic(namesrv: str, broker: str, topic: str, queues: int) -> None:
    """Make a topic on one broker; returns when the nameserver knows it."""
    fields = {
        "topic": topic,
        "defaultTopic": "TBW102",
        "readQueueNums": str(queues),
        "writeQueueNums": str(queues),
        "perm": "6",
        "topicFilterType": "SINGLE_TAG",
        "topicSysFlag": "0",
        "order": "false",
    }
    code, header, _ = ask(broker, RequestCode.UPDATE_AND_CREATE_TOPIC, fields)
    if code != ResponseCode.SUCCESS:
        raise ConnectionError(f"{broker} did not create topic {topic}: {header.decode()}")
    find_broker(namesrv, topic)


def max_offset_sum(broker: str, topic: str, queues: int) -> int:
    """How many messages a topic's queues ever got."""
    total = 0
    for queue in range(queues):
        code, header, _ = ask(broker, RequestCode.GET_MAX_OFFSET, {"topic": topic, "queueId": str(queue)})
        if code != ResponseCode.SUCCESS:
            raise ConnectionError(f"{broker} told no offset of {topic}: {header.decode()}")
        total += int(json.loads(header)["extFields"]["offset"])
    return total


def missing(broker: str, topic: str, queues: int, before: int, messages: int) -> int:
    """How many of ``messages`` more than ``before`` a topic does not have, a short while given."""
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while (grown := max_offset_sum(broker, topic, queues) - before) < messages and time.monotonic() < deadline:
        gevent.sleep(0.05)
    return messages - grown
