"""The server side of remoting: whatever comes, it ends its own connection at most."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from hypothesis import given, settings
from hypothesis import strategies as st

from grocketmq.codes import ResponseCode, SerializeType
from grocketmq.errors import ConnectionLostError, LocalProtocolError, RemotingError, RequestTimeout
from grocketmq.remoting import server as server_module
from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.server import Channel, Handler, Refused, RemotingServer
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag
from grocketmq.wire.framing import FrameDecoder, encode_command
from tests.helpers import wait_for

ECHO, LATER, REFUSE, BREAK, PROTOCOL, SLOW, BIG = range(1, 8)


class Server:
    """A server with a handler for each kind of end, and clients for it."""

    def __init__(self, **options: SerializeType) -> None:
        self.tasks = TaskGroup("server")
        self.closed: list[Channel] = []
        self.served: list[RemotingCommand] = []
        handlers: dict[int, Handler] = {
            ECHO: self.echo,
            LATER: self.later,
            REFUSE: self.refuse,
            BREAK: self.break_down,
            PROTOCOL: self.protocol,
            SLOW: self.slow,
            BIG: lambda request, channel: RemotingCommand.response_to(request, 0, body=bytes(1 << 20)),
        }
        self.server = RemotingServer("127.0.0.1:0", handlers, self.tasks, on_closed=self.closed.append, **options)  # type: ignore[arg-type]
        self.server.start()
        self.clients = TaskGroup("clients")
        self.client = RemotingClient(self.clients)

    def stop(self) -> None:
        self.client.close(1.0)
        self.clients.kill()
        self.server.stop()
        assert not self.server.channels
        assert self.tasks.join(1.0)
        assert not self.tasks.failures

    def connect(self) -> socket.socket:
        host, port = self.server.address.split(":")
        return socket.create_connection((host, int(port)), timeout=5)

    def call(self, code: int, body: bytes | None = None, timeout: float = 5.0) -> RemotingCommand:
        return self.client.invoke(self.server.address, RemotingCommand(code, body=body), timeout)

    def echo(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        self.served.append(request)
        return RemotingCommand.response_to(request, 0, channel.address, {"code": str(request.code)}, request.body)

    def later(self, request: RemotingCommand, channel: Channel) -> None:
        self.tasks.spawn_later(0.02, "later", channel.reply, RemotingCommand.response_to(request, 0))

    def refuse(self, request: RemotingCommand, channel: Channel) -> None:
        raise Refused(ResponseCode.NO_PERMISSION, "no", {"why": "so"})

    def break_down(self, request: RemotingCommand, channel: Channel) -> None:
        raise ZeroDivisionError("a fault")

    def protocol(self, request: RemotingCommand, channel: Channel) -> None:
        raise LocalProtocolError("cannot")

    def slow(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        gevent.sleep(0.1)
        return RemotingCommand.response_to(request, 0)


@pytest.fixture
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def frame(code: int, opaque: int = 1, flag: int = 0, body: bytes | None = None) -> bytes:
    return encode_command(RemotingCommand(code, opaque, flag, body=body))


def read_until_closed(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_answers(running: Server) -> None:
    answer = running.call(ECHO, b"body")
    assert (answer.code, answer.body, answer.ext_fields) == (0, b"body", {"code": "1"})
    assert (answer.remark or "").startswith("127.0.0.1:")
    assert running.call(LATER).code == 0
    refused = running.call(REFUSE)
    assert (refused.code, refused.remark, refused.ext_fields) == (16, "no", {"why": "so"})
    assert running.call(BREAK).code == ResponseCode.SYSTEM_ERROR
    assert running.call(PROTOCOL).remark == "cannot"
    assert running.call(99).code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED


def test_answers_are_in_the_servers_own_encoding() -> None:
    server = Server(serialize_type=SerializeType.ROCKETMQ)
    with server.connect() as sock:
        sock.sendall(frame(ECHO, 77))
        data = sock.recv(65536)
    assert data[4] == SerializeType.ROCKETMQ
    assert FrameDecoder().feed(data)[0].opaque == 77
    server.stop()


def test_oneway_requests_get_no_answer(running: Server) -> None:
    with running.connect() as sock:
        for code in (ECHO, REFUSE, BREAK, 99):
            sock.sendall(frame(code, 1, RpcFlag.ONEWAY))
        sock.sendall(frame(ECHO, 2))
        assert [command.opaque for command in FrameDecoder().feed(sock.recv(65536))] == [2]


def test_a_waiting_handler_holds_up_its_own_connection_only(running: Server) -> None:
    with running.connect() as sock:
        sock.sendall(frame(SLOW, 1) + frame(ECHO, 2))
        assert running.call(ECHO).code == 0
        wait_for(lambda: len(running.served) == 2)
        decoder, answers = FrameDecoder(), []
        while len(answers) < 2:
            answers += decoder.feed(sock.recv(65536))
        assert [command.opaque for command in answers] == [1, 2]


def test_requests_in_pieces(running: Server) -> None:
    data = frame(ECHO, 5, body=b"x" * 100)
    with running.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            sock.sendall(data[at : at + 1])
            gevent.sleep(0)
        assert FrameDecoder().feed(sock.recv(65536))[0].body == b"x" * 100


def test_requests_to_the_client(running: Server) -> None:
    seen = []

    def serve(request: RemotingCommand, address: str) -> RemotingCommand:
        seen.append((request.code, request.is_oneway))
        return RemotingCommand.response_to(request, 0, body=request.body)

    running.client.register_processor(307, serve)
    running.call(ECHO)
    (channel,) = running.server.channels
    channel.send_request(RemotingCommand(307))
    assert channel.call(RemotingCommand(307, body=b"there and back"), 5.0).body == b"there and back"
    assert sorted(seen) == [(307, False), (307, True)]


def test_calls_to_a_client_that_is_silent_or_gone(running: Server) -> None:
    with running.connect():
        (channel,) = wait_for(lambda: running.server.channels)
        with pytest.raises(RequestTimeout):
            channel.call(RemotingCommand(307), 0.02)
        gevent.spawn_later(0.02, channel.close)
        with pytest.raises(ConnectionLostError):
            channel.call(RemotingCommand(307), 5.0)
        with pytest.raises(ConnectionLostError):
            channel.call(RemotingCommand(307), 5.0)
    channel.send_request(RemotingCommand(307))


def test_closed_connections_are_told(running: Server) -> None:
    with running.connect() as sock:
        sock.sendall(frame(ECHO))
        (channel,) = wait_for(lambda: running.server.channels)
        assert not channel.closed.is_set()
    wait_for(lambda: running.closed == [channel])
    assert channel.closed.is_set()
    assert "closed" in repr(channel)


BROKEN = {
    "nothing but noise": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a frame too long": struct.pack(">II", 0x7FFFFFFF, 10),
    "a length too short": struct.pack(">II", 3, 0),
    "a header beyond its frame": struct.pack(">II", 10, 100) + b"x" * 6,
    "an unknown encoding": struct.pack(">II", 6, 9 << 24 | 2) + b"{}",
    "a header that is no JSON": struct.pack(">II", 9, 5) + b"{oops",
    "a header of another shape": struct.pack(">II", 6, 2) + b"[]",
    "a code that is no number": struct.pack(">II", 4 + 14, 14) + b'{"code":"abc"}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_bytes_close_their_connection(running: Server, data: bytes) -> None:
    with running.connect() as sock:
        sock.sendall(frame(ECHO, 1) + data)
        answers = FrameDecoder().feed(read_until_closed(sock))
    assert [answer.opaque for answer in answers] in ([1], []), "what came before may be answered still"
    assert running.call(ECHO).code == 0


@settings(max_examples=60)
@given(data=st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes(data: list[bytes]) -> None:
    server = Server()
    with server.connect() as sock:
        try:
            for piece in data:
                sock.sendall(piece)
                gevent.sleep(0)
        except OSError:
            pass  # it was closed already
    assert server.call(ECHO).code == 0
    server.stop()


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), replacement=st.binary(min_size=1, max_size=4), cut=st.integers(0, 10_000))
def test_damaged_frames(at: int, replacement: bytes, cut: int) -> None:
    data = bytearray(frame(ECHO, 1, body=b"body") + frame(REFUSE, 2) + frame(99, 3))
    at %= len(data)
    data[at : at + len(replacement)] = replacement
    server = Server()
    with server.connect() as sock:
        sock.sendall(data[: len(data) - cut % len(data)])
        gevent.sleep(0.001)
    assert server.call(ECHO).code == 0
    server.stop()


def test_answers_out_of_nowhere_are_ignored(running: Server) -> None:
    with running.connect() as sock:
        sock.sendall(frame(0, 1234, RpcFlag.RESPONSE) + frame(ECHO, 2))
        assert FrameDecoder().feed(sock.recv(65536))[0].opaque == 2


def test_who_does_not_read_is_not_read_from(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PAUSE_BYTES", 4 << 20)
    with running.connect() as sock:
        for number in range(200):
            sock.sendall(frame(BIG, number))
            gevent.sleep(0)
        (channel,) = running.server.channels
        gevent.sleep(0.05)
        assert channel._out_bytes <= 5 << 20
        assert running.call(ECHO).code == 0
        decoder = FrameDecoder()
        got: list[RemotingCommand] = []
        while len(got) < 200:
            got += decoder.feed(sock.recv(1 << 20))
        assert [answer.opaque for answer in got] == list(range(200))


def test_who_never_reads_is_cut_off(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_OUT_BYTES", 20 << 20)
    with running.connect() as sock:
        (channel,) = wait_for(lambda: running.server.channels)
        for _ in range(40):
            channel.send_bytes(bytes(1 << 20))
            gevent.sleep(0)
        assert channel.closed.is_set()
        assert sock.fileno() >= 0
    wait_for(lambda: not running.server.channels)


def test_too_many_connections(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with running.connect(), running.connect():
        wait_for(lambda: len(running.server.channels) == 2)
        with running.connect() as third:
            assert read_until_closed(third) == b""
        assert len(running.server.channels) == 2


def test_a_busy_connection_lets_others_run(running: Server) -> None:
    """A client that always has more to say must not hold up the rest."""
    stop = False
    flood = frame(ECHO, 1, RpcFlag.ONEWAY) * 500

    def talk() -> None:
        with running.connect() as sock:
            while not stop:
                sock.sendall(flood)

    talker = gevent.spawn(talk)
    wait_for(lambda: len(running.served) > 5000)
    answers = [running.call(ECHO, timeout=2.0).code for _ in range(3)]
    stop = True
    talker.join(5)
    assert answers == [0] * 3


def test_stop_ends_everything_and_start_takes_the_same_port(running: Server) -> None:
    address = running.server.address
    waiting = running.client.invoke_async(address, RemotingCommand(SLOW), 5.0)
    wait_for(lambda: running.server.channels)
    running.server.stop()
    running.server.stop()
    assert not running.server.running
    with pytest.raises(RemotingError):
        waiting.get(timeout=1)
    running.server.start()
    assert running.server.address == address
    wait_for(lambda: reachable(running))


def reachable(running: Server) -> bool:
    try:
        return running.call(ECHO).code == 0
    except RemotingError:
        return False


def test_an_address_in_use(running: Server) -> None:
    second = RemotingServer(running.server.address, {}, TaskGroup("second"))
    with pytest.raises(OSError, match="in use"):
        second.start()
    second.stop()


def test_the_intercept_comes_first(running: Server) -> None:
    taken: list[int] = []

    def intercept(request: RemotingCommand, channel: Channel) -> bool:
        taken.append(request.code)
        if request.code != ECHO:
            return False
        channel.reply(RemotingCommand.response_to(request, ResponseCode.SYSTEM_BUSY))
        return True

    running.server.intercept = intercept
    assert running.call(ECHO).code == ResponseCode.SYSTEM_BUSY
    assert running.call(REFUSE).code == ResponseCode.NO_PERMISSION
    assert taken == [ECHO, REFUSE]


def test_headers_are_json_unless_told_otherwise(running: Server) -> None:
    with running.connect() as sock:
        sock.sendall(encode_command(RemotingCommand(ECHO, 9), SerializeType.ROCKETMQ))
        data = sock.recv(65536)
    (length,) = struct.unpack_from(">I", data, 4)
    assert json.loads(data[8 : 8 + length])["opaque"] == 9
