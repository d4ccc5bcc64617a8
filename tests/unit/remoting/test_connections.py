"""How connections begin and end, and what their end means to those who use them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from grocketmq.errors import (
    ClientStateError,
    ConnectError,
    ConnectionLostError,
    ForkError,
    RemoteProtocolError,
    RequestTimeout,
)
from grocketmq.remoting import connection as module
from grocketmq.remoting.connection import ConnectionState
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import encode_command
from tests.helpers import wait_for
from tests.meta.source import ROOT
from tests.unit.remoting.servers import (
    Clients,
    Peer,
    Server,
    assert_at_rest,
    connection_to,
    echo,
    request,
    silent,
    spawn,
)

StartServer = Callable[..., Server]
CONNECT = "grocketmq.remoting.client.connect"


@pytest.fixture
def _fast_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCAN_INTERVAL", 0.01)


@pytest.fixture
def free_address() -> str:
    """Where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


# Ends


@pytest.mark.parametrize(("end", "words"), [("close", "closed the connection"), ("reset", "broke: .*reset")])
def test_the_peer_ends_the_connection(clients: Clients, server: StartServer, end: str, words: str) -> None:
    client, peer = clients(), server(silent)
    callers = [spawn(client.invoke, peer.address, request(), 30) for _ in range(10)]
    wait_for(lambda: len(peer.requests) == 10)
    connection = connection_to(client, peer.address)
    getattr(peer.peers[0], end)()
    gevent.joinall(callers, timeout=3)
    errors = [caller.value for caller in callers]
    assert {type(error) for error in errors} == {ConnectionLostError}
    assert len(set(map(id, errors))) == 10, "each has an error of its own, as tracebacks grow"
    for error in errors:
        assert error.retriable
        assert peer.address in str(error)
        with pytest.raises(ConnectionLostError, match=words):
            raise error
    assert connection.state is ConnectionState.CLOSED
    assert_at_rest(connection)
    assert client.in_flight() == 0
    with pytest.raises(ConnectionLostError, match=words):
        connection.post(b"", Deadline(1))


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length of zero": b"\0\0\0\0\0\0\0\0",
    "a huge length": b"\xff\xff\xff\xff\0\0\0\0",
    "a header that is no JSON": b"\0\0\0\x09\0\0\0\x05hello",
    "a header of unknown encoding": b"\0\0\0\x06\x07\0\0\x02{}",
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("answered", [False, True])
def test_garbage_from_the_peer(clients: Clients, server: StartServer, name: str, answered: bool) -> None:
    """It ends the connection with its cause; answers before it count."""

    def serve(peer: Peer) -> None:
        both = [peer.read() for _ in range(2)]
        if len(mixed.peers) > 1:
            return echo(peer)
        good = encode_command(RemotingCommand.response_to(both[0], 0, body=b"good")) if answered and both[0] else b""
        peer.send(good + GARBAGE[name])
        peer.ended.wait(5)
        return None

    client, mixed = clients(), server(serve)
    callers = [spawn(client.invoke, mixed.address, request(), 30) for _ in range(2)]
    gevent.sleep(0)
    connection = connection_to(client, mixed.address)
    gevent.joinall(callers, timeout=3)
    if answered:
        assert callers[0].value.body == b"good"
    else:
        assert isinstance(callers[0].value, ConnectionLostError)
    error = callers[1].value
    assert isinstance(error, ConnectionLostError)
    assert isinstance(error.__cause__, RemoteProtocolError)
    assert "frame" in str(error)
    assert connection.cause is error.__cause__


def test_half_a_frame_and_then_the_end(clients: Clients, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        one = peer.read()
        assert one is not None
        peer.send(encode_command(RemotingCommand.response_to(one, 0, body=b"x" * 1000))[:-1])

    client, peer = clients(), server(serve)
    with pytest.raises(ConnectionLostError, match="closed the connection"):
        client.invoke(peer.address, request(), 30)


def test_half_a_frame_and_the_rest_later(clients: Clients, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        for one in peer:
            frame = encode_command(RemotingCommand.response_to(one, 0, body=b"x" * 300_000))
            peer.send(frame[:100_000])
            gevent.sleep(0.02)
            peer.send(frame[100_000:])

    client, peer = clients(), server(serve)
    for _ in range(2):
        assert client.invoke(peer.address, request(), 5).body == b"x" * 300_000


def test_a_frame_over_the_limit(clients: Clients, server: StartServer) -> None:
    client, peer = clients(max_frame_bytes=10_000), server()
    assert len(client.invoke(peer.address, request(bytes(9000)), 5).body or b"") == 9000
    with pytest.raises(ConnectionLostError, match="limit of 10000 bytes"):
        client.invoke(peer.address, request(bytes(10_000)), 5)


def test_a_fault_in_our_own_code_ends_the_connection(
    clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it the connection would be deaf: gevent stops a watcher whose callback raised."""
    client, peer = clients(), server()
    client.invoke(peer.address, request(), 5)
    connection = connection_to(client, peer.address)
    monkeypatch.setattr(connection._decoder, "received", lambda count: 1 / 0)
    with pytest.raises(ConnectionLostError, match="ZeroDivisionError"):
        client.invoke(peer.address, request(), 5)
    assert "a fault in serving" in caplog.text
    assert client.invoke(peer.address, request(b"again"), 5).body == b"again"


# Silence


@pytest.mark.usefixtures("_fast_scan")
def test_a_peer_that_accepts_but_never_answers(clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short calls that time out one after the other tell as much as a long one."""
    monkeypatch.setattr(module, "SILENCE_MEANS_DEAD", 1.0)
    client, peer = clients(), server(silent)
    long = spawn(client.invoke, peer.address, request(), 30)
    wait_for(lambda: peer.requests)
    connection = connection_to(client, peer.address)
    began = time.monotonic()
    timeouts = 0
    while connection.state is ConnectionState.OPEN:
        with pytest.raises((RequestTimeout, ConnectionLostError)):
            client.invoke(peer.address, request(), 0.05)
        timeouts += 1
        assert time.monotonic() - began < 5
    assert timeouts >= 3
    long.join(2)
    assert isinstance(long.value, ConnectionLostError)
    assert "silent" in str(long.value)


@pytest.mark.usefixtures("_fast_scan")
def test_a_slow_peer_that_says_something_is_alive(
    clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_MEANS_DEAD", 0.1)

    def serve(peer: Peer) -> None:
        while not peer.ended.is_set():
            peer.send(RemotingCommand(0, -1, flag=1))
            gevent.sleep(0.01)

    client, peer = clients(), server(serve)
    for _ in range(5):
        with pytest.raises(RequestTimeout):
            client.invoke(peer.address, request(), 0.05)
    with pytest.raises(RequestTimeout):
        client.invoke(peer.address, request(), 0.2)
    assert connection_to(client, peer.address).state is ConnectionState.OPEN
    assert len(peer.peers) == 1


@pytest.mark.usefixtures("_fast_scan")
def test_a_connection_at_rest_is_not_suspected(clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the silence after a call that counts, not that before."""
    monkeypatch.setattr(module, "SILENCE_MEANS_DEAD", 0.2)
    go = Event()

    def serve(peer: Peer) -> None:
        for one in peer:
            if one.body != b"slow" or go.wait(0.1) is None:
                peer.answer(one)

    client, peer = clients(), server(serve)
    client.invoke(peer.address, request(), 5)
    gevent.sleep(0.3)
    with pytest.raises(RequestTimeout):
        client.invoke(peer.address, request(b"slow"), 0.03)
    assert connection_to(client, peer.address).state is ConnectionState.OPEN
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    assert len(peer.peers) == 1


# Connecting


def test_refused(clients: Clients, free_address: str) -> None:
    client = clients()
    with pytest.raises(ConnectError, match=rf"cannot connect to {free_address}: .*refused") as caught:
        client.invoke(free_address, request(), 5)
    assert isinstance(caught.value.__cause__, ConnectError)
    assert caught.value.retriable
    with pytest.raises(ConnectError, match=rf"cannot connect to {free_address}: .* \(the next try may be in 0\.\d+ s\)"):
        client.invoke(free_address, request(), 5)
    assert client.addresses() == []


def test_all_who_wait_for_a_connection_learn_that_there_is_none(clients: Clients, free_address: str) -> None:
    client = clients()
    callers = [spawn(client.invoke, free_address, request(), 30) for _ in range(20)]
    posts = [spawn(client.invoke_oneway, free_address, request(), 30) for _ in range(5)]
    gevent.joinall([*callers, *posts], timeout=5)
    assert {type(one.value) for one in [*callers, *posts]} == {ConnectError}


def test_blackholed(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda sock, target: gevent.sleep(60))
    client = clients(connect_timeout=0.1)
    began = time.monotonic()
    with pytest.raises(ConnectError, match=r"cannot connect to 192\.0\.2\.1:10911: no answer within 0\.1 s"):
        client.invoke("192.0.2.1:10911", request(), 30)
    assert time.monotonic() - began < 3


def test_a_caller_gives_up_before_the_connection_is_made(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    caller = gevent.spawn(client.invoke, peer.address, request(), 5)
    gevent.sleep(0)
    caller.kill()
    wait_for(lambda: client.addresses() == [peer.address])
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    assert len(peer.peers) == 1


def test_tries_to_connect_are_spaced(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    def refuse(address: str, timeout: float) -> None:
        tries.append(time.monotonic())
        raise ConnectError("refused")

    monkeypatch.setattr(CONNECT, refuse)
    client = clients()
    while len(tries) < 4:
        with pytest.raises(ConnectError):
            client.invoke("127.0.0.1:1", request(), 5)
        gevent.sleep(0.001)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    shortest = [0.7 * one for one in (0.05, 0.1, 0.2)]
    assert all(pause >= least for pause, least in zip(pauses, shortest, strict=True)), pauses


def test_a_peer_that_accepts_and_hangs_up_is_left_alone_too(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(lambda peer: None)
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        with pytest.raises((ConnectionLostError, ConnectError)):
            client.invoke(peer.address, request(), 1)
        gevent.sleep(0.001)
    assert 2 <= len(peer.peers) <= 8


def test_back_at_once_after_a_restart(clients: Clients, server: StartServer) -> None:
    """A peer that was well is called again at once; one that is away is tried again and again."""
    client, peer = clients(), server()
    assert client.invoke(peer.address, request(b"1"), 5).body == b"1"
    peer.peers[0].close()
    wait_for(lambda: client.addresses() == [])
    assert client.invoke(peer.address, request(b"2"), 5).body == b"2"
    peer.stop()
    with pytest.raises((ConnectError, ConnectionLostError)):
        client.invoke(peer.address, request(), 5)
    for _ in range(3):
        with pytest.raises(ConnectError):
            client.invoke(peer.address, request(), 5)
    peer.start()

    def answered() -> bool:
        try:
            return client.invoke(peer.address, request(b"3"), 5).body == b"3"
        except ConnectError:
            return False

    wait_for(answered)


def test_calls_while_the_peer_restarts_end_each(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    outcomes: list[str] = []

    def call_on() -> None:
        for number in range(40):
            try:
                body = b"%d" % number
                assert client.invoke(peer.address, request(body), 5).body == body
                outcomes.append("answered")
            except (ConnectError, ConnectionLostError):
                outcomes.append("failed")
            gevent.sleep(0.002)

    callers = [gevent.spawn(call_on) for _ in range(5)]
    for _ in range(3):
        gevent.sleep(0.02)
        peer.stop()
        gevent.sleep(0.005)
        peer.start()
    gevent.joinall(callers, timeout=20, raise_error=True)
    assert len(outcomes) == 200
    assert "answered" in outcomes


# Addresses


def test_a_host_name(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    address = f"localhost:{peer.port}"
    assert client.invoke(address, request(b"x"), 5).body == b"x"
    assert client.addresses() == [address]


def test_a_numeric_address_asks_no_resolver(clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = server()

    def resolve(*args: object) -> None:
        raise AssertionError("resolver asked")

    monkeypatch.setattr(type(gevent.get_hub().resolver), "getaddrinfo", resolve)
    assert clients().invoke(peer.address, request(b"x"), 5).body == b"x"


def test_ipv6(clients: Clients, server: StartServer) -> None:
    try:
        peer = server(host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback")
    client = clients()
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    assert client.invoke(f"::1:{peer.port}", request(b"y"), 5).body == b"y"


def test_a_name_that_is_unknown(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*args: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ConnectError, match=r"cannot resolve nowhere\.invalid:9876: .*not known"):
        clients().invoke("nowhere.invalid:9876", request(), 5)


def test_a_name_that_cannot_be_one(clients: Clients, greenlet_errors: list[str]) -> None:
    with pytest.raises(ConnectError, match="cannot resolve"):
        clients().invoke("x" * 70 + ".example:9876", request(), 5)
    greenlet_errors.clear()  # gevent's resolver threads print what they hand on


def test_the_next_address_of_a_name(clients: Clients, server: StartServer, free_address: str, monkeypatch: Any) -> None:
    peer = server()
    targets = [("127.0.0.1", int(free_address.partition(":")[2])), ("127.0.0.1", peer.port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: found)
    assert clients().invoke("name:1", request(b"x"), 5).body == b"x"


# Closing


def test_close_fails_who_waits(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(silent)
    callers = [spawn(client.invoke, peer.address, request(), 30) for _ in range(5)]
    wait_for(lambda: len(peer.requests) == 5)
    client.close(5)
    gevent.joinall(callers, timeout=2)
    for caller in callers:
        assert isinstance(caller.value, ConnectionLostError)
        assert "closed by this client" in str(caller.value)
    for call in (client.invoke, client.invoke_oneway):
        with pytest.raises(ClientStateError, match="shut down"):
            call(peer.address, request(), 5)
    with pytest.raises(ClientStateError, match="shut down"):
        client.invoke_async(peer.address, request(), 5).get(timeout=2)
    wait_for(peer.peers[0].ended.is_set)
    client.close(5)


def test_close_sends_what_is_queued(clients: Clients, server: StartServer) -> None:
    go = Event()

    def serve(peer: Peer) -> None:
        go.wait(10)
        silent(peer)

    client, peer = clients(), server(serve, receive_buffer=65536)
    bodies = [b"%d" % number * 200_000 for number in range(20)]
    for body in bodies:
        client.invoke_oneway(peer.address, request(body), 5)
    connection = connection_to(client, peer.address)
    gevent.sleep(0.02)
    assert not connection.flushed()
    closer = gevent.spawn(client.close, 10)
    gevent.sleep(0.01)
    assert not closer.ready()
    go.set()
    closer.get(timeout=10)
    wait_for(peer.peers[0].ended.is_set)
    assert [one.body for one in peer.requests] == bodies


def test_close_does_not_wait_for_ever(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(lambda peer: peer.ended.wait(), receive_buffer=65536)
    for _ in range(12):
        client.invoke_oneway(peer.address, request(bytes(500_000)), 5)
    began = time.monotonic()
    client.close(0.1)
    assert time.monotonic() - began < 3


def test_close_that_is_broken_off_closes_all_the_same(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(lambda peer: peer.ended.wait(), receive_buffer=65536)
    for _ in range(12):
        client.invoke_oneway(peer.address, request(bytes(500_000)), 5)
    connection = connection_to(client, peer.address)
    with gevent.Timeout(0.05, False):
        client.close(10)
    assert connection.state is ConnectionState.CLOSED
    assert client.addresses() == []


def test_close_while_connecting(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONNECT, lambda address, timeout: gevent.sleep(60))
    client = clients()
    callers = [spawn(client.invoke, "127.0.0.1:1", request(), 30) for _ in range(3)]
    gevent.sleep(0.01)
    client.close(0)
    gevent.joinall(callers, timeout=2)
    assert all(isinstance(caller.value, ConnectionLostError) for caller in callers)


def test_all_tasks_killed_before_the_connection_began(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    caller = spawn(client.invoke, peer.address, request(), 30)
    spawn(clients.tasks(client).kill)
    caller.join(2)
    assert isinstance(caller.value, ConnectionLostError | ConnectError)


def test_forget(clients: Clients, server: StartServer) -> None:
    client, one, two = clients(), server(), server(silent)
    client.invoke(one.address, request(), 5)
    waiting = spawn(client.invoke, two.address, request(), 30)
    wait_for(lambda: two.requests)
    client.forget(two.address)
    client.forget("127.0.0.1:1")
    waiting.join(2)
    assert isinstance(waiting.value, ConnectionLostError)
    assert client.addresses() == [one.address]
    assert client.invoke(one.address, request(b"x"), 5).body == b"x"
    again = spawn(client.invoke, two.address, request(), 30)
    wait_for(lambda: len(two.peers) == 2)
    client.forget(two.address)
    again.join(2)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of descriptors")
@pytest.mark.parametrize("way", ["forget", "peer closes", "refused", "client closes"])
def test_nothing_is_left_after_many_connections(clients: Clients, server: StartServer, way: str, free_address: str) -> None:
    peer = server(silent)
    loop = gevent.get_hub().loop
    client = clients()

    def cycle() -> None:
        nonlocal client
        address = free_address if way == "refused" else peer.address
        caller = spawn(client.invoke, address, request(), 30)
        if way == "refused":
            assert isinstance(caller.get(timeout=5), ConnectError)
            client._peers.clear()
            return
        wait_for(lambda: client.in_flight() == 1 or caller.ready())
        if way == "forget":
            client.forget(address)
        elif way == "client closes":
            client.close(0)
        else:
            wait_for(lambda: peer.peers)
            peer.peers[-1].close()
        assert isinstance(caller.get(timeout=5), ConnectionLostError)
        wait_for(lambda: len(clients.tasks(client)) == 0)
        if way == "client closes":
            clients.made.clear()
            client = clients()
        client._peers.clear()
        for one in peer.peers:
            one.ended.wait(5)
        peer.peers.clear()

    cycle()
    before = len(os.listdir("/proc/self/fd")), loop.activecnt
    for _ in range(200):
        cycle()
    wait_for(lambda: (len(os.listdir("/proc/self/fd")), loop.activecnt) <= before)
    assert len(clients.tasks(client)) == 0


# Threads and forks


@pytest.mark.parametrize("connected", [False, True])
def test_another_thread(clients: Clients, server: StartServer, connected: bool) -> None:
    client, peer = clients(), server()
    if connected:
        client.invoke(peer.address, request(), 5)
    errors: list[BaseException] = []

    def use() -> None:
        for call in (client.invoke, client.invoke_oneway):
            try:
                call(peer.address, request(), 5)
            except ClientStateError as error:
                errors.append(error)

    gevent.get_hub().threadpool.apply(use)  # a thread of the system's, in a patched process too
    assert len(errors) == 2
    assert all("own thread" in str(error) for error in errors)
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    assert len(peer.peers) == 1


FORK = """
import os
from time import monotonic
import gevent
from grocketmq.errors import ForkError
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.tasks import TaskGroup
from tests.unit.remoting.servers import Server, request

tasks = TaskGroup("fork")
client = RemotingClient(tasks)
with Server() as server:
    assert client.invoke(server.address, request(b"1"), 5).body == b"1"
    pid = os.fork()
    if pid == 0:
        caught = 0
        for call in (client.invoke, client.invoke_oneway):
            try:
                call(server.address, request(b"child"), 5)
            except ForkError:
                caught += 1
        os._exit(40 + caught)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    began = monotonic()
    assert client.invoke(server.address, request(b"2"), 25).body == b"2"
    assert monotonic() - began < 10, "the parent's loop does not see its socket any more, only the look at deadlines does"
    assert [one.body for one in server.requests] == [b"1", b"2"]
    client.close(1)
    tasks.kill()
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child(clients: Clients) -> None:
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("42\n", "")
    assert issubclass(ForkError, ClientStateError)
