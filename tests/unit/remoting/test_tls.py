"""Calls over TLS are calls; who cannot prove who he is gets none; and the loop never waits."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from grocketmq.errors import ConfigError, ConnectError, ConnectionLostError, RequestTimeout, TLSError
from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.connection import ConnectionState
from grocketmq.remoting.server import RemotingServer
from grocketmq.remoting.stream import Stream
from grocketmq.remoting.tls import ENCRYPT_BYTES, TLSConfig, TLSSocket, TLSStream, _Engine, tls_connector
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import framing
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import encode_command
from tests.certificates import Authority, serve_gevent
from tests.faults import FaultProxy
from tests.helpers import wait_for
from tests.unit.remoting.servers import (
    Clients,
    Peer,
    Server,
    ThrowAtSwitch,
    assert_at_rest,
    connection_to,
    echo,
    request,
    silent,
    spawn,
)

StartServer = Callable[..., Server]
Proxies = Callable[[tuple[str, int]], FaultProxy]

BIG = bytes(range(256)) * 16_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secure(server: StartServer, authority: Authority) -> StartServer:
    """``secure(serve)`` gives a started server with TLS, for localhost."""

    def start(serve: Callable[[Peer], None] = echo, **options: Any) -> Server:
        return server(serve, tls=serve_gevent(authority.issue()), **options)

    return start


@pytest.fixture
def client(clients: Clients, authority: Authority) -> RemotingClient:
    """Trusts the authority."""
    return clients(open_stream=tls_connector(TLSConfig(context=authority.client_context())))


def trusting(clients: Clients, **config: Any) -> RemotingClient:
    return clients(open_stream=tls_connector(TLSConfig(**config)))


# Calls


def test_a_call(client: RemotingClient, secure: StartServer) -> None:
    peer = secure()
    assert client.invoke(peer.address, request(b"hello"), 5).body == b"hello"
    client.invoke_oneway(peer.address, request(b"oneway"), 5)
    wait_for(lambda: [one.body for one in peer.requests] == [b"hello", b"oneway"])
    assert len(peer.peers) == 1


def test_big_and_small_calls_together(client: RemotingClient, secure: StartServer) -> None:
    peer = secure()
    chance = random.Random(1)
    bodies = [chance.randbytes(chance.choice([10, 1000, 30_000, 40_000, ENCRYPT_BYTES, 900_000, 3_000_000])) for _ in range(30)]
    callers = [spawn(client.invoke, peer.address, request(body), 20) for body in bodies]
    gevent.joinall(callers, timeout=30)
    assert [caller.get().body for caller in callers] == bodies
    assert sorted(one.body or b"" for one in peer.requests) == sorted(bodies)
    assert len(peer.peers) == 1
    connection = connection_to(client, peer.address)
    assert_at_rest(connection)
    wait_for(lambda: connection._stream is not None and not connection._stream.has_more, message="it waits for the socket")


def test_both_ends_are_ours(client: RemotingClient, authority: Authority) -> None:
    tasks = TaskGroup("server")

    def answer(one: RemotingCommand, channel: object) -> RemotingCommand:
        return RemotingCommand.response_to(one, 0, body=one.body)

    server = RemotingServer("127.0.0.1:0", {10: answer}, tasks, tls=authority.issue().server_context())
    server.start()
    bodies = [b"small", BIG, b"%d" % 1, BIG[1:], b"last"]
    callers = [spawn(client.invoke, server.address, request(body), 20) for body in bodies]
    gevent.joinall(callers, timeout=20)
    assert [caller.get().body for caller in callers] == bodies
    server.stop()
    tasks.kill()


def test_many_answers_in_one_piece_that_do_not_fit_at_once(
    client: RemotingClient, secure: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decrypted and did not fit into the buffer is read although the socket has no more."""
    monkeypatch.setattr(framing, "READ_BYTES", 5000)
    monkeypatch.setattr(framing, "KEEP_BYTES", 5000)
    count = 4

    def serve(peer: Peer) -> None:
        asked = [peer.read() for _ in range(count)]
        frames = [encode_command(RemotingCommand.response_to(one, 0, body=BIG[:4000])) for one in asked if one is not None]
        peer.send(b"".join(frames))
        peer.ended.wait()

    peer = secure(serve)
    callers = [spawn(client.invoke, peer.address, request(), 10) for _ in range(count)]
    gevent.joinall(callers, timeout=5)  # at 10 s a look at the deadlines would read on
    assert all(caller.get(block=False).body == BIG[:4000] for caller in callers)


def test_the_peer_speaks_first(client: RemotingClient, secure: StartServer) -> None:
    heard = Event()
    client.register_processor(40, lambda command, address: heard.set())

    def serve(peer: Peer) -> None:
        peer.send(encode_command(RemotingCommand(40)))
        echo(peer)

    peer = secure(serve)
    client.invoke(peer.address, request(), 5)
    assert heard.wait(5)


def test_records_in_pieces(client: RemotingClient, secure: StartServer, fault_proxy: Proxies) -> None:
    peer = secure()
    proxy = fault_proxy(("127.0.0.1", peer.port))
    client.invoke(proxy.addr, request(), 5)
    proxy.split(1, pause=0)
    assert client.invoke(proxy.addr, request(b"piecemeal"), 10).body == b"piecemeal"


# The stream itself


@pytest.fixture
def pair(authority: Authority) -> Iterator[tuple[TLSStream, TLSSocket]]:
    """Both ends of a connection, with little room between them."""
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    engine = _Engine(authority.client_context(), "localhost")
    server = TLSSocket(right, authority.issue().server_context())
    shaking = gevent.spawn(server.handshake, 5)
    engine.handshake(left)
    shaking.get(timeout=5)
    stream = TLSStream(Stream(left), engine)
    yield stream, server
    stream.close()
    server.close()


def test_what_was_encrypted_is_sent_once_and_whole(pair: tuple[TLSStream, TLSSocket]) -> None:
    """A send that stopped within a record goes on with it; meanwhile more may have come behind."""
    stream, server = pair
    chance = random.Random(1)
    expected, received, data, refused = bytearray(), bytearray(), b"", 0

    def read() -> None:
        buffer = memoryview(bytearray(50_000))
        while count := server.recv_into(buffer, chance.choice([100, 10_000, 50_000])):
            received.extend(buffer[:count])

    reading = gevent.spawn(read)
    while data or len(expected) < 2_000_000:
        if len(expected) < 2_000_000:
            more = chance.randbytes(chance.choice([1, 1000, 300_000]))
            data += more
            expected += more
        try:
            data = data[stream.send(data) :]
        except BlockingIOError:
            refused += 1
            gevent.sleep(0.001)
    with pytest.raises(BlockingIOError):  # the server's tickets; what is unread makes a close a reset
        stream.recv_into(memoryview(bytearray(10)))
    stream.close()
    reading.get(timeout=5)
    assert received == expected
    assert refused > 10


def test_a_small_buffer(pair: tuple[TLSStream, TLSSocket]) -> None:
    """What came and did not fit is told of, as the socket has nothing to wake the reader with."""
    stream, server = pair
    server.sendall(BIG[:30_000])
    socket.wait_read(stream.fileno(), 5)
    received = bytearray()
    buffer = memoryview(bytearray(700))
    while len(received) < 30_000:
        received += buffer[: stream.recv_into(buffer)]
        assert stream.has_more or len(received) == 30_000
    assert received == BIG[:30_000]
    with pytest.raises(BlockingIOError):
        stream.recv_into(buffer)
    assert not stream.has_more


# A peer that does not read


def test_a_peer_that_reads_late(client: RemotingClient, secure: StartServer) -> None:
    go = Event()

    def serve(peer: Peer) -> None:
        go.wait(10)
        echo(peer)

    peer = secure(serve, receive_buffer=4096)
    callers = [spawn(client.invoke, peer.address, request(BIG), 20) for _ in range(8)]
    callers += [spawn(client.invoke, peer.address, request(b"%d" % number), 20) for number in range(10)]
    gevent.sleep(0.3)
    assert not connection_to(client, peer.address).flushed(), "what the socket did not take counts as not sent"
    go.set()
    gevent.joinall(callers, timeout=20)
    assert [caller.get().body for caller in callers] == [*[BIG] * 8, *(b"%d" % number for number in range(10))]
    assert_at_rest(connection_to(client, peer.address))


def test_callers_killed_at_every_switch(clients: Clients, authority: Authority) -> None:
    """Nobody else notices, and no half record is left behind."""
    context, trusted = serve_gevent(authority.issue()), tls_connector(TLSConfig(context=authority.client_context()))

    def scenario(n: int) -> bool:
        with Server(tls=context) as server:
            client = clients(open_stream=trusted)
            victim = spawn(client.invoke, server.address, request(BIG), 20)
            with ThrowAtSwitch(victim, n, gevent.GreenletExit()) as thrower:
                others = [spawn(client.invoke, server.address, request(body), 20) for body in (b"0", BIG[1:], b"1")]
                victim.join(5)
                gevent.joinall(others, timeout=10)
            assert [other.get().body for other in others] == [b"0", BIG[1:], b"1"]
            assert client.invoke(server.address, request(b"after"), 5).body == b"after"
            assert len(server.peers) == 1
            assert_at_rest(connection_to(client, server.address))
        return thrower.thrown

    points = 0
    while points < 8 and scenario(points + 1):
        points += 1
    assert points >= 3


# The end of a connection


@pytest.mark.parametrize("end", ["close", "unwrap", "reset"])
def test_the_peer_ends_the_connection(client: RemotingClient, secure: StartServer, end: str) -> None:
    def serve(peer: Peer) -> None:
        if (one := peer.read()) is not None:
            peer.answer(one)
        peer.read()
        if end == "unwrap":
            peer.sock.unwrap()
        getattr(peer, "close" if end == "unwrap" else end)()

    peer = secure(serve)
    client.invoke(peer.address, request(), 5)
    with pytest.raises(ConnectionLostError, match=r"closed the connection|broke"):
        client.invoke(peer.address, request(), 5)
    peer.serve = echo
    assert client.invoke(peer.address, request(b"again"), 5).body == b"again"


def test_half_close(client: RemotingClient, secure: StartServer, fault_proxy: Proxies) -> None:
    peer = secure(silent)
    proxy = fault_proxy(("127.0.0.1", peer.port))
    caller = spawn(client.invoke, proxy.addr, request(), 10)
    wait_for(lambda: len(peer.requests) == 1)
    proxy.half_close("client")
    assert isinstance(caller.get(timeout=5), ConnectionLostError)
    wait_for(peer.peers[0].ended.is_set, message="the server sees the end, too")


def test_answers_before_the_end_count(client: RemotingClient, secure: StartServer) -> None:
    def serve(peer: Peer) -> None:
        asked = [peer.read() for _ in range(5)]
        peer.send(b"".join(encode_command(RemotingCommand.response_to(one, 0, body=BIG[:30_000])) for one in asked if one))
        peer.sock.unwrap()

    peer = secure(serve)
    callers = [spawn(client.invoke, peer.address, request(), 10) for _ in range(5)]
    gevent.joinall(callers, timeout=10)
    assert [caller.get().body for caller in callers] == [BIG[:30_000]] * 5


def test_a_changed_record_ends_the_connection(client: RemotingClient, secure: StartServer) -> None:
    def serve(peer: Peer) -> None:
        one = peer.read()
        assert one is not None
        raw = socket.socket(fileno=peer.sock.detach())
        raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
        raw.close()

    peer = secure(serve)
    with pytest.raises(ConnectionLostError, match="broke"):
        client.invoke(peer.address, request(), 5)


def test_the_end_is_told(clients: Clients, authority: Authority, secure: StartServer) -> None:
    """With a farewell, which Java's side logs as an error when it is missing."""
    ends: list[bytes | OSError] = []

    def serve(peer: Peer) -> None:
        one = peer.read()
        assert one is not None
        peer.answer(one)
        try:
            ends.append(peer.sock.recv(100))
        except OSError as error:
            ends.append(error)

    peer = secure(serve)
    client = trusting(clients, context=authority.client_context())
    client.invoke(peer.address, request(), 5)
    client.close(1.0)
    wait_for(lambda: ends)
    assert ends == [b""]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_says_no_farewell(client: RemotingClient, secure: StartServer) -> None:
    """It would end the parent's connection."""
    peer = secure()
    client.invoke(peer.address, request(), 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the process has threads
        pid = os.fork()
    if pid == 0:
        connection = client._peers[peer.address].connection
        os._exit(0 if connection is not None and connection.state is ConnectionState.CLOSED else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.invoke(peer.address, request(b"goes on"), 5).body == b"goes on"
    assert len(peer.peers) == 1


# Certificates


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wrong host", "for another host.*server_name"),
        ("wrong address", "for another host.*server_name"),
        ("expired", "it has expired"),
        ("unknown authority", "authority is not trusted.*ca_file"),
        ("self-signed", "signed by itself.*ca_file"),
    ],
)
def test_refused_certificates(
    client: RemotingClient, server: StartServer, authority: Authority, kind: str, words: str, tmp_path: Path
) -> None:
    issued = {
        "wrong host": lambda: authority.issue("elsewhere.example"),
        "wrong address": lambda: authority.issue("127.0.0.2"),
        "expired": lambda: authority.issue(expired=True),
        "unknown authority": lambda: Authority().issue(),
        "self-signed": lambda: Authority().issue(),
    }[kind]()
    context = serve_gevent(issued)
    if kind == "self-signed":
        cert, key = self_signed(tmp_path)
        context.load_cert_chain(cert, key)
    peer = server(tls=context)
    with pytest.raises(TLSError, match=words) as caught:
        client.invoke(f"localhost:{peer.port}" if kind == "wrong host" else peer.address, request(), 5)
    assert isinstance(caught.value, ConnectError)
    assert peer.address.partition(":")[2] in str(caught.value)
    assert not peer.requests
    wait_for(lambda: peer.refusals, message="the server is told")


def self_signed(directory: Path) -> tuple[Path, Path]:
    """An authority's own certificate, used by a server."""
    authority = Authority()
    authority.write(directory)
    key = directory / "key.pem"
    key.write_bytes(authority._authority.private_key_pem.bytes())
    return directory / "authority.pem", key


def test_the_systems_authorities_do_not_trust_ours(clients: Clients, secure: StartServer) -> None:
    with pytest.raises(TLSError, match="not trusted"):
        trusting(clients).invoke(secure().address, request(), 5)


def test_an_authority_in_a_file(clients: Clients, secure: StartServer, authority: Authority, tmp_path: Path) -> None:
    client = trusting(clients, ca_file=authority.write(tmp_path))
    assert client.invoke(secure().address, request(b"trusted"), 5).body == b"trusted"


def test_another_server_name(clients: Clients, server: StartServer, authority: Authority, tmp_path: Path) -> None:
    peer = server(tls=serve_gevent(authority.issue("brokers.example")))
    seen = []
    peer.tls.sni_callback = lambda sock, name, context: seen.append(name)
    client = trusting(clients, ca_file=authority.write(tmp_path), server_name="brokers.example")
    assert client.invoke(peer.address, request(b"named"), 5).body == b"named"
    assert seen == ["brokers.example"]


@pytest.mark.parametrize("password", [None, "secret-of-the-key"])
def test_a_client_certificate(
    clients: Clients, server: StartServer, authority: Authority, tmp_path: Path, password: str | None
) -> None:
    peer = server(tls=authority.demand(serve_gevent(authority.issue())))
    own = authority.issue("client.example").write(tmp_path, "client", password)
    ca_file = authority.write(tmp_path)
    client = trusting(clients, ca_file=ca_file, cert_file=str(own.cert), key_file=str(own.key), key_password=password)
    assert client.invoke(peer.address, request(b"known"), 5).body == b"known"
    names = [name for kind, name in peer.peers[0].sock.getpeercert()["subjectAltName"]]
    assert names == ["client.example"]
    with pytest.raises((TLSError, ConnectionLostError), match=r"(?i)certificate required|certificate_required|hung up|closed"):
        trusting(clients, ca_file=ca_file).invoke(peer.address, request(), 5)
    assert len(peer.requests) == 1


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "missing.pem"}, "ca_file 'missing.pem' cannot be used.*No such file"),
        ({"ca_file": "garbage.pem"}, "ca_file '.*garbage.pem' cannot be used"),
        ({"cert_file": "missing.pem"}, "cert_file 'missing.pem' with key_file None cannot be used"),
        ({"cert_file": "client.pem", "key_file": "client-key.pem"}, "cannot be used"),
        ({"cert_file": "client.pem", "key_file": "client-key.pem", "key_password": "a guess"}, "cannot be used"),
    ],
)
def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path, settings: dict[str, str], words: str) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    authority.issue("client.example").write(tmp_path, "client", "the password")
    given = {
        name: str(tmp_path / value) if name.endswith("file") and value != "missing.pem" else value
        for name, value in settings.items()
    }
    with pytest.raises(ConfigError, match=words) as caught:
        tls_connector(TLSConfig(**given))
    assert "a guess" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"key_file": "key.pem"},
        {"key_password": "word"},
        {"server_name": ""},
        {"server_name": ".example"},
        {"ca_file": "x", "context": 1},
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TLSConfig(**settings)


def test_the_password_is_in_no_repr() -> None:
    config = TLSConfig(cert_file="cert.pem", key_file="key.pem", key_password="tell nobody")
    assert "tell nobody" not in repr(config)
    assert config == TLSConfig(cert_file="cert.pem", key_file="key.pem", key_password="tell nobody")
    assert config != TLSConfig(cert_file="cert.pem", key_file="key.pem", key_password="another")


@pytest.mark.parametrize("given", ["yes", 1, object()])
def test_what_is_no_option(given: Any) -> None:
    with pytest.raises(ConfigError, match="tls is a"):
        TLSConfig.of(given)


def test_what_the_option_stands_for(authority: Authority) -> None:
    context = authority.client_context()
    assert TLSConfig.of(None) is TLSConfig.of(False) is None
    assert TLSConfig.of(True) == TLSConfig()
    assert TLSConfig.of(context) == TLSConfig(context=context)


# Peers that do not speak TLS


def test_a_peer_that_answers_something_else(client: RemotingClient, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    peer = server(serve)
    with pytest.raises(TLSError, match=f"{peer.address} over TLS: what it answers is no TLS"):
        client.invoke(peer.address, request(), 5)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_peer_that_hangs_up(client: RemotingClient, server: StartServer, end: str) -> None:
    peer = server(lambda peer: (peer.sock.recv(100), getattr(peer, end)()))
    with pytest.raises(TLSError, match="hung up in the handshake; does it serve TLS"):
        client.invoke(peer.address, request(), 5)


def test_a_peer_that_says_nothing(clients: Clients, server: StartServer, authority: Authority) -> None:
    peer = server(lambda peer: peer.ended.wait())
    connector = tls_connector(TLSConfig(context=authority.client_context()))
    began = perf_counter()
    with pytest.raises(ConnectError, match=r"over TLS: no answer within 0.2 s"):
        clients(open_stream=connector, connect_timeout=0.2).invoke(peer.address, request(), 5)
    assert perf_counter() - began < 3
    with pytest.raises(RequestTimeout):
        clients(open_stream=connector, connect_timeout=5).invoke(peer.address, request(), 0.1)


def test_killed_in_the_handshake(clients: Clients, server: StartServer, authority: Authority) -> None:
    """The socket is closed; the fixtures look."""
    peer = server(lambda peer: peer.ended.wait())
    client = clients(open_stream=tls_connector(TLSConfig(context=authority.client_context())))
    caller = spawn(client.invoke, peer.address, request(), 5)
    wait_for(lambda: peer.peers)
    clients.tasks(client).kill()
    assert isinstance(caller.get(timeout=5), ConnectionLostError)


def test_a_client_without_tls(clients: Clients, authority: Authority) -> None:
    """Our server is as strict as a broker that enforces TLS."""
    tasks = TaskGroup("server")
    server = RemotingServer("127.0.0.1:0", {}, tasks, tls=authority.issue().server_context())
    server.start()
    with pytest.raises(ConnectionLostError):
        clients().invoke(server.address, request(), 5)
    server.stop()
    tasks.kill()


# The loop


@pytest.fixture
def stalls() -> Iterator[list[float]]:
    """Seconds by which turns of the loop were late."""
    late: list[float] = []
    interval = 0.002
    timer = gevent.get_hub().loop.timer(interval, interval, ref=False)
    last = perf_counter()

    def tick() -> None:
        nonlocal last
        now = perf_counter()
        late.append(now - last - interval)
        last = now

    timer.start(tick)
    yield late
    timer.stop()
    timer.close()


def test_the_loop_never_waits(
    clients: Clients, server: StartServer, secure: StartServer, authority: Authority, tmp_path: Path, stalls: list[float]
) -> None:
    """Neither for a peer that says nothing, nor for one that reads slowly, nor while files are read."""
    mute, slow = server(lambda peer: peer.ended.wait()), secure(silent, receive_buffer=4096)
    waiting = [spawn(trusting(clients, ca_file=authority.write(tmp_path)).invoke, mute.address, request(), 1.5)]
    client = trusting(clients, ca_file=authority.write(tmp_path))
    waiting += [spawn(client.invoke, slow.address, request(BIG), 1.5) for _ in range(3)]
    waiting += [spawn(tls_connector, TLSConfig()) for _ in range(3)]
    gevent.joinall(waiting, timeout=10)
    assert all(isinstance(one.value, RequestTimeout | ConnectError) for one in waiting[:4])
    assert len(stalls) > 5
    # 1.5 s is what one blocking wait would take; on an idle machine the worst is some milliseconds.
    assert max(stalls) < 1.2
