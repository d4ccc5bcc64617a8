"""Calls over one connection: each gets its own answer or error, whoever else leaves or fails."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from grocketmq.codes import LanguageCode, SerializeType
from grocketmq.errors import (
    ClientStateError,
    ConnectError,
    ConnectionLostError,
    GoAwayError,
    LocalProtocolError,
    RequestTimeout,
    TooManyRequestsError,
)
from grocketmq.remoting import connection as module
from grocketmq.wire.acl import Credentials, sign, signed_content
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import encode_command
from tests.helpers import wait_for
from tests.unit.remoting.servers import (
    Clients,
    Peer,
    Server,
    assert_at_rest,
    connection_to,
    deaf,
    echo,
    request,
    silent,
    spawn,
)

StartServer = Callable[..., Server]
GO_AWAY = 1500


@pytest.fixture
def _fast_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCAN_INTERVAL", 0.01)


# Answers


def test_call(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    answer = client.invoke(peer.address, request(b"x", ext_fields={"a": "1"}, remark="hello"), 5)
    assert (answer.code, answer.body, answer.is_response) == (0, b"x", True)
    [got] = peer.requests
    assert (got.code, got.body, got.ext_fields, got.remark, got.flag) == (10, b"x", {"a": "1"}, "hello", 0)
    assert got.language is LanguageCode.PYTHON
    assert client.addresses() == [peer.address]
    assert_at_rest(connection_to(client, peer.address))


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_header_encoding_of_requests(clients: Clients, server: StartServer, serialize_type: SerializeType) -> None:
    """Whatever it writes, it reads both."""
    first_bytes: list[bytes] = []

    def serve(peer: Peer) -> None:
        first_bytes.append(peer.sock.recv(5, 2))  # MSG_PEEK
        other = SerializeType.JSON if serialize_type is SerializeType.ROCKETMQ else SerializeType.ROCKETMQ
        for one in peer:
            peer.send(encode_command(RemotingCommand.response_to(one, 0, body=b"ok"), other))

    peer = server(serve)
    client = clients(serialize_type=serialize_type)
    assert client.invoke(peer.address, request(), 5).body == b"ok"
    assert first_bytes[0][4] == serialize_type


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_calls_answered_in_any_order(clients: Clients, server: StartServer, seed: int) -> None:
    count, chance = 200, random.Random(seed)

    def serve(peer: Peer) -> None:
        waiting = [peer.read() for _ in range(count)]
        chance.shuffle(waiting)
        for one in waiting:
            assert one is not None
            peer.answer(one)
            if chance.random() < 0.1:
                gevent.sleep(0)
        peer.ended.wait()

    client, peer = clients(), server(serve)
    callers = [spawn(client.invoke, peer.address, request(b"%d" % number), 10) for number in range(count)]
    gevent.joinall(callers, timeout=20)
    assert [caller.get().body for caller in callers] == [b"%d" % number for number in range(count)]
    assert len(peer.peers) == 1
    assert_at_rest(connection_to(client, peer.address))


def test_big_and_small_calls_together(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    chance = random.Random(1)
    bodies = [chance.randbytes(chance.choice([10, 1000, 30_000, 40_000, 900_000, 3_000_000])) for _ in range(30)]
    callers = [spawn(client.invoke, peer.address, request(body), 20) for body in bodies]
    gevent.joinall(callers, timeout=30)
    assert [caller.get().body for caller in callers] == bodies
    assert sorted(one.body or b"" for one in peer.requests) == sorted(bodies)
    assert_at_rest(connection_to(client, peer.address))


def test_an_answer_in_pieces(clients: Clients, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        for one in peer:
            frame = encode_command(RemotingCommand.response_to(one, 0, body=b"piecemeal"))
            for at in range(len(frame)):
                peer.send(frame[at : at + 1])
                gevent.sleep(0)

    client, peer = clients(), server(serve)
    assert client.invoke(peer.address, request(), 10).body == b"piecemeal"


def test_unknown_answers_are_dropped(clients: Clients, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        for one in peer:
            for opaque in (one.opaque + 1, -1, 0, one.opaque, one.opaque):
                peer.send(RemotingCommand(0, opaque, flag=1, body=b"%d" % opaque))

    client, peer = clients(), server(serve)
    for _ in range(3):
        answer = client.invoke(peer.address, request(), 5)
        assert answer.body == b"%d" % answer.opaque
    assert len(peer.peers) == 1


# Leaving early


@pytest.mark.usefixtures("_fast_scan")
def test_timeout_and_the_late_answer(clients: Clients, server: StartServer) -> None:
    go = Event()

    def serve(peer: Peer) -> None:
        first = peer.read()
        assert first is not None
        go.wait(10)
        peer.answer(first, body=b"late")
        echo(peer)

    client, peer = clients(), server(serve)
    began = time.monotonic()
    with pytest.raises(RequestTimeout, match=rf"{peer.address}: no answer within 0\.\d+ s"):
        client.invoke(peer.address, request(), 0.2)
    assert 0.15 < time.monotonic() - began < 3
    assert client.in_flight() == 0
    go.set()
    assert client.invoke(peer.address, request(b"next"), 5).body == b"next"
    assert len(peer.peers) == 1
    assert_at_rest(connection_to(client, peer.address))


@pytest.mark.parametrize("serve", [echo, silent])
def test_a_request_that_a_held_loop_sent_late_has_a_moment_for_its_answer(
    clients: Clients, server: StartServer, serve: Callable[[Peer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an event loop that is held from when a request is queued until its time is over, then it is not given up as it is
    sent: a message would be sent a second time for that."""
    monkeypatch.setattr(module, "SCAN_INTERVAL", 0.1)
    client, peer = clients(), server(serve)
    client.invoke_oneway(peer.address, request(), 5)
    gevent.spawn(get_original("time", "sleep"), 0.25)  # it runs before the callback that sends
    if serve is echo:
        assert client.invoke(peer.address, request(b"x"), 0.05).body == b"x"
    else:
        with pytest.raises(RequestTimeout, match=r"no answer within 0\.[3-9]"):
            client.invoke(peer.address, request(b"x"), 0.05)


@pytest.mark.usefixtures("_fast_scan")
def test_only_who_is_late_times_out(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(silent)
    callers = {wait: spawn(client.invoke, peer.address, request(), wait) for wait in (0.05, 0.2, 5.0)}
    callers[0.2].join(3)
    assert [isinstance(caller.value, RequestTimeout) for caller in callers.values()] == [True, True, False]
    assert client.in_flight() == 1
    [long] = [one for one in peer.requests if one.opaque in connection_to(client, peer.address)._pending]
    peer.peers[0].answer(long, body=b"at last")
    assert callers[5.0].get(timeout=3).body == b"at last"


@pytest.mark.usefixtures("_fast_scan")
def test_deadline_counts_for_connecting_too(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grocketmq.remoting.client.connect", lambda address, timeout: gevent.sleep(60))
    client = clients()
    with pytest.raises(RequestTimeout, match="not connected in time"):
        client.invoke("127.0.0.1:1", request(), 0.05)
    with pytest.raises(RequestTimeout):
        client.invoke("127.0.0.1:1", request(), 0.0)


def test_gevent_timeout_from_outside(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(silent)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        client.invoke(peer.address, request(), 30)
    assert client.in_flight() == 0
    peer.peers[0].answer(peer.requests[0], body=b"late")
    peer.peers[0].send(b"")
    caller = spawn(client.invoke, peer.address, request(b"next"), 5)
    wait_for(lambda: len(peer.requests) == 2)
    peer.peers[0].answer(peer.requests[1])
    assert caller.get(timeout=5).body == b"next"
    assert_at_rest(connection_to(client, peer.address))


def test_a_caller_that_fails_after_its_answer_harms_nobody(
    clients: Clients, server: StartServer, greenlet_errors: list[str]
) -> None:
    """Callers are woken one after the other by one callback; the first one's error stays with it."""
    count = 10

    def serve(peer: Peer) -> None:
        waiting = [peer.read() for _ in range(count)]
        peer.send(b"".join(encode_command(RemotingCommand.response_to(one, 0, body=one.body)) for one in waiting if one))
        echo(peer)

    def call(number: int) -> bytes | None:
        body = client.invoke(peer.address, request(b"%d" % number), 5).body
        if number % 2 == 0:
            raise ValueError("on purpose")
        return body

    client, peer = clients(), server(serve)
    callers = [gevent.spawn(call, number) for number in range(count)]
    gevent.joinall(callers, timeout=5)
    assert [caller.value for caller in callers] == [b"%d" % n if n % 2 else None for n in range(count)]
    assert len(greenlet_errors) == count // 2
    greenlet_errors.clear()
    assert client.invoke(peer.address, request(b"next"), 5).body == b"next"
    assert len(peer.peers) == 1
    assert_at_rest(connection_to(client, peer.address))


def test_a_caller_that_kills_another_when_both_have_their_answers(clients: Clients, server: StartServer) -> None:
    def serve(peer: Peer) -> None:
        waiting = [peer.read() for _ in range(2)]
        peer.send(b"".join(encode_command(RemotingCommand.response_to(one, 0, body=one.body)) for one in waiting if one))
        echo(peer)

    ends: list[str] = []

    def first() -> None:
        client.invoke(peer.address, request(b"1"), 5)
        callers[1].kill()
        ends.append("first")

    def second() -> None:
        try:
            client.invoke(peer.address, request(b"2"), 5)
            gevent.sleep(10)
        finally:
            ends.append("second")

    client, peer = clients(), server(serve)
    callers = [gevent.spawn(first), gevent.spawn(second)]
    gevent.joinall(callers, timeout=5)
    assert ends == ["second", "first"]
    assert client.invoke(peer.address, request(b"next"), 5).body == b"next"
    assert_at_rest(connection_to(client, peer.address))


# Bounds


def test_calls_in_flight_are_bounded(clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 4)
    client, peer = clients(), server(silent)
    callers = [spawn(client.invoke, peer.address, request(b"%d" % number), 10) for number in range(10)]
    wait_for(lambda: len(peer.requests) == 4)
    gevent.sleep(0.02)
    assert (len(peer.requests), client.in_flight()) == (4, 4)
    with pytest.raises(TooManyRequestsError, match="4 calls are in flight"):
        client.invoke(peer.address, request(b"too many"), 0.03)
    for answered in range(10):
        wait_for(lambda answered=answered: len(peer.requests) > answered)
        assert client.in_flight() <= 4
        peer.peers[0].answer(peer.requests[answered])
    gevent.joinall(callers, timeout=5)
    assert [caller.get().body for caller in callers] == [b"%d" % number for number in range(10)]
    assert_at_rest(connection_to(client, peer.address), permits=4)


def test_a_call_that_waits_in_line_fails_with_the_connection(
    clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    client, peer = clients(), server(silent)
    callers = [spawn(client.invoke, peer.address, request(), 30) for _ in range(6)]
    wait_for(lambda: len(peer.requests) == 2)
    peer.peers[0].close()
    gevent.joinall(callers, timeout=5)
    assert all(isinstance(caller.value, ConnectionLostError) for caller in callers)


BODY = bytes(512 * 1024)


def test_a_peer_that_never_reads(clients: Clients, server: StartServer) -> None:
    """It costs bounded memory, its callers time out, and other peers notice nothing."""
    client, stuck, fine = clients(), server(deaf, receive_buffer=65536), server()
    callers = [spawn(client.invoke, stuck.address, request(BODY), 1.0) for _ in range(60)]
    wait_for(lambda: stuck.address in client.addresses())
    connection = connection_to(client, stuck.address)
    wait_for(lambda: not connection._room.is_set())
    posts = [spawn(client.invoke_oneway, stuck.address, request(BODY), 0.3) for _ in range(5)]
    for number in range(20):
        assert client.invoke(fine.address, request(b"%d" % number), 5).body == b"%d" % number
        assert connection._out_bytes <= module.MAX_OUT_BYTES + len(BODY) + 1000
    gevent.joinall([*callers, *posts], timeout=20)
    kinds = {type(caller.value) for caller in callers}
    assert kinds <= {RequestTimeout, TooManyRequestsError, ConnectionLostError}
    assert RequestTimeout in kinds
    assert TooManyRequestsError in kinds
    assert {type(post.value) for post in posts} <= {TooManyRequestsError, ConnectionLostError}


def test_who_waits_for_room_goes_on_before_all_is_sent(
    clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for ever where others always bring more."""
    monkeypatch.setattr(module, "MAX_OUT_BYTES", 8_000_000)
    monkeypatch.setattr(module, "ROOM_BYTES", 4_000_000)
    client, peer = clients(), server(deaf, receive_buffer=65536)
    while not client.addresses() or connection_to(client, peer.address)._out_bytes <= module.MAX_OUT_BYTES:
        client.invoke_oneway(peer.address, request(BODY), 1)
        gevent.sleep(0)
    connection = connection_to(client, peer.address)
    waiting = spawn(client.invoke_oneway, peer.address, request(b"waits"), 20)
    gevent.sleep(0.01)
    assert not waiting.ready()
    while not waiting.ready():
        peer.peers[0].sock.recv(65536)
        gevent.sleep(0)
    waiting.get()
    assert connection._out_bytes > 1_000_000, "much waited to be sent still"


@pytest.mark.usefixtures("_fast_scan")
def test_a_call_that_waits_for_room_is_sent_when_there_is_some(
    clients: Clients, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OUT_BYTES", 1_000_000)
    go = Event()

    def serve(peer: Peer) -> None:
        go.wait(10)
        echo(peer)

    client, peer = clients(), server(serve, receive_buffer=65536)
    callers = [spawn(client.invoke, peer.address, request(BODY), 20) for _ in range(40)]
    wait_for(lambda: client.addresses() and connection_to(client, peer.address)._out_bytes > 1_000_000)
    go.set()
    gevent.joinall(callers, timeout=20)
    assert all(caller.get().body == BODY for caller in callers)
    assert_at_rest(connection_to(client, peer.address))


# Oneway and asynchronous


def test_oneway_keeps_the_order(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    bodies = [b"%d" % number * (1 if number % 50 else 50_000) for number in range(500)]
    for body in bodies:
        client.invoke_oneway(peer.address, request(body), 5)
    client.invoke(peer.address, request(b"end"), 10)
    assert [one.body for one in peer.requests] == [*bodies, b"end"]
    assert [one.is_oneway for one in peer.requests] == [True] * 500 + [False]


def test_async_call(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    results = [client.invoke_async(peer.address, request(b"%d" % number), 5) for number in range(5)]
    assert [result.get(timeout=5).body for result in results] == [b"%d" % number for number in range(5)]


@pytest.mark.usefixtures("_fast_scan")
def test_async_call_that_fails(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(silent)
    result = client.invoke_async(peer.address, request(), 0.05)
    with pytest.raises(RequestTimeout):
        result.get(timeout=5)
    broken = client.invoke_async(peer.address, request(remark="\ud800"), 5)
    with pytest.raises(LocalProtocolError, match="not Unicode"):
        broken.get(timeout=5)


@pytest.mark.parametrize("started", [False, True])
def test_async_call_cut_off_by_the_end_of_all_tasks(clients: Clients, server: StartServer, started: bool) -> None:
    client, peer = clients(), server(silent)
    result = client.invoke_async(peer.address, request(), 30)
    if started:
        wait_for(lambda: peer.requests)
    clients.tasks(client).kill()
    with pytest.raises((ClientStateError, ConnectionLostError)):
        result.get(timeout=2)


# GO_AWAY


def go_away_first(times: int) -> Callable[[Peer], None]:
    """Send the requests of the first connections away."""
    left = [times]

    def serve(peer: Peer) -> None:
        mine = left[0] > 0
        left[0] -= 1
        for one in peer:
            if mine and one.body != b"keep":
                peer.answer(one, GO_AWAY, remark="please go")
            elif not mine:
                peer.answer(one)

    return serve


def test_go_away_once(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(go_away_first(1))
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    assert len(peer.peers) == 2
    wait_for(peer.peers[0].ended.is_set)
    assert client.invoke(peer.address, request(b"y"), 5).body == b"y"
    assert len(peer.peers) == 2
    assert [one.opaque for one in peer.peers[0].requests] != [one.opaque for one in peer.peers[1].requests]


def test_go_away_twice(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(go_away_first(2))
    with pytest.raises(GoAwayError, match=r"1500 \(GO_AWAY\): please go"):
        client.invoke(peer.address, request(), 5)
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"


def test_go_away_leaves_time_for_calls_in_flight_and_for_what_is_queued(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(go_away_first(1))
    kept = spawn(client.invoke, peer.address, request(b"keep"), 10)
    wait_for(lambda: peer.requests)
    old = peer.peers[0]
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    gevent.sleep(0.02)
    assert not old.ended.is_set()
    old.answer(old.requests[0], body=b"kept")
    assert kept.get(timeout=5).body == b"kept"
    wait_for(old.ended.is_set)
    assert client.addresses() == [peer.address]


def test_what_is_queued_is_sent_before_a_connection_leaves(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(echo)
    client.invoke(peer.address, request(b"open"), 5)
    connection = connection_to(client, peer.address)
    for _ in range(20):
        client.invoke_oneway(peer.address, request(BODY), 5)
    client._retire(connection)
    assert not connection.flushed()
    wait_for(peer.peers[0].ended.is_set)
    assert [len(one.body or b"") for one in peer.requests[1:]] == [len(BODY)] * 20


# Hooks and signatures


class Hook:
    """Notes what it saw, adds a field, and fails if told so."""

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name = name
        self.fails = fails
        self.seen: list[tuple[str, str, bytes | None]] = []

    def before_request(self, address: str, request: RemotingCommand) -> None:
        self.seen.append(("before", address, request.body))
        if self.fails:
            raise ValueError("on purpose")
        request.ext_fields = {**(request.ext_fields or {}), self.name: "x"}

    def after_response(self, address: str, request: RemotingCommand, response: RemotingCommand | None) -> None:
        self.seen.append(("after", address, None if response is None else response.body))
        if self.fails:
            raise ValueError("on purpose")


def test_hooks(clients: Clients, server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    one, bad, two = Hook("one"), Hook("bad", fails=True), Hook("two")
    client, peer = clients(hooks=[one, bad, two]), server()
    address = peer.address
    assert client.invoke(address, request(b"call"), 5).body == b"call"
    client.invoke_oneway(address, request(b"oneway"), 5)
    wait_for(lambda: len(peer.requests) == 2)
    expected = [
        ("before", address, b"call"),
        ("after", address, b"call"),
        ("before", address, b"oneway"),
        ("after", address, None),
    ]
    assert one.seen == bad.seen == two.seen == expected
    assert [list(got.ext_fields or {}) for got in peer.requests] == [["one", "two"]] * 2
    assert caplog.text.count("ValueError: on purpose") == 4


def test_hooks_are_told_of_connections(clients: Clients, server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, bool, type | None]] = []

    class Watching(Hook):
        def after_connect(self, address: str, seconds: float, error: Exception | None) -> None:
            seen.append((address, 0 < seconds < 5, None if error is None else type(error)))
            if self.fails:
                raise ValueError("on purpose")

    client, peer = clients(hooks=[Watching("bad", fails=True), Watching("good")]), server()
    client.invoke(peer.address, request(b"x"), 5)
    client.invoke(peer.address, request(b"y"), 5)
    gone = server()
    gone.stop()
    with pytest.raises(ConnectError):
        client.invoke(gone.address, request(b"z"), 5)
    assert seen == [(peer.address, True, None)] * 2 + [(gone.address, True, ConnectError)] * 2
    assert caplog.text.count("failed after connecting") == 2


def test_a_hook_may_look_at_connections_alone(clients: Clients, server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    """And a ``gevent.Timeout`` that it lets through in the connection's greenlet is no caller's: the connection stays."""
    seen: list[str] = []

    def late(address: str, seconds: float, error: Exception | None) -> None:
        raise gevent.Timeout()  # without seconds, so there is no timer to close

    hooks = [SimpleNamespace(after_connect=late), SimpleNamespace(after_connect=lambda address, *_: seen.append(address))]
    client, peer = clients(hooks=hooks), server()
    assert client.invoke(peer.address, request(b"x"), 5).body == b"x"
    client.invoke_oneway(peer.address, request(b"y"), 5)
    assert seen == [peer.address]
    assert caplog.text.count("failed after connecting") == 1


def test_requests_are_signed_last_and_anew(clients: Clients, server: StartServer) -> None:
    credentials = Credentials("key", "secret", "token")
    client = clients(hooks=[Hook("hook")], credentials=credentials)
    peer = server(go_away_first(1))
    client.invoke(peer.address, request(b"x", ext_fields={"topic": "主题"}), 5)
    client.invoke_oneway(peer.address, request(b"y"), 5)
    wait_for(lambda: len(peer.requests) == 3)
    for got in peer.requests:
        ext = got.ext_fields or {}
        assert (ext["AccessKey"], ext["SecurityToken"], ext["hook"]) == ("key", "token", "x")
        assert ext["Signature"] == sign(signed_content(ext, got.body), "secret")


# Requests from the peer


def ask(server: Server, command: RemotingCommand) -> None:
    """Have the peer send a request."""
    server.peers[0].send(command)


def answers(server: Server) -> list[RemotingCommand]:
    return [one for one in server.requests if one.is_response]


def listening(peer: Peer) -> None:
    """Answer requests, and take answers."""
    for one in peer:
        if not one.is_response and not one.is_oneway:
            peer.answer(one)


def test_requests_from_the_peer(clients: Clients, server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    client, peer = clients(), server(listening)
    seen: list[tuple[bytes | None, str]] = []

    def process(one: RemotingCommand, address: str) -> RemotingCommand | None:
        seen.append((one.body, address))
        if one.body == b"fail":
            raise ValueError("on purpose")
        return None if one.body == b"nothing" else RemotingCommand.response_to(one, 0, body=b"done")

    client.register_processor(40, process)
    client.invoke(peer.address, request(), 5)
    for opaque, (code, flag, body) in enumerate(
        [
            (40, 0, b"do"),
            (40, 2, b"oneway"),
            (40, 0, b"nothing"),
            (40, 0, b"fail"),
            (40, 2, b"fail"),
            (41, 0, b""),
            (41, 2, b""),
        ]
    ):
        ask(peer, RemotingCommand(code, opaque, flag, body=body))
    wait_for(lambda: len(answers(peer)) == 3)
    gevent.sleep(0.02)
    assert seen == [(body, peer.address) for body in (b"do", b"oneway", b"nothing", b"fail", b"fail")]
    assert sorted((one.opaque, one.code) for one in answers(peer)) == [(0, 0), (3, 1), (5, 3)]
    assert {one.opaque: one.body for one in answers(peer)}[0] == b"done"
    assert "on purpose" in caplog.text
    assert client.invoke(peer.address, request(b"next"), 5).body == b"next"


def test_a_processor_that_blocks_holds_nobody_up(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server(listening)
    leave = Event()

    def process(one: RemotingCommand, address: str) -> RemotingCommand:
        inner = client.invoke(address, request(b"from a processor"), 5)
        leave.wait(10)
        return RemotingCommand.response_to(one, 0, body=inner.body)

    client.register_processor(40, process)
    client.invoke(peer.address, request(), 5)
    for opaque in range(20):
        ask(peer, RemotingCommand(40, opaque))
    for number in range(20):
        assert client.invoke(peer.address, request(b"%d" % number), 5).body == b"%d" % number
    wait_for(lambda: sum(one.body == b"from a processor" for one in peer.requests) == 20)
    assert answers(peer) == []
    leave.set()
    wait_for(lambda: len(answers(peer)) == 20)
    assert {one.body for one in answers(peer)} == {b"from a processor"}


def test_a_request_and_its_own_answer_may_share_an_opaque(clients: Clients, server: StartServer) -> None:
    """Both sides count for themselves."""
    client = clients()

    def serve(peer: Peer) -> None:
        for one in peer:
            if not one.is_response:
                peer.send(RemotingCommand(40, one.opaque, body=b"a request"))
                peer.answer(one)

    client.register_processor(40, lambda one, address: RemotingCommand.response_to(one, 0, body=one.body))
    peer = server(serve)
    assert client.invoke(peer.address, request(b"mine"), 5).body == b"mine"
    wait_for(lambda: [one.body for one in answers(peer)] == [b"a request"])


def test_an_answer_that_came_while_the_loop_was_busy_is_not_late(clients: Clients, server: StartServer) -> None:
    """Given an answer that lies in the socket while something burns CPU beyond the deadline, then the call succeeds."""

    def answer_and_burn(peer: Peer) -> None:
        for got in peer:
            peer.answer(got)
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                pass

    client, peer = clients(), server(answer_and_burn)
    assert client.invoke(peer.address, request(), 0.2).code == 0
    assert_at_rest(connection_to(client, peer.address))


def test_a_call_in_two_halves(clients: Clients, server: StartServer) -> None:
    """Requests go out in the order they were queued, whoever waits for which answer."""
    client, peer = clients(), server()
    halves = [client.invoke_later(peer.address, request(b"%d" % number), 5) for number in range(5)]
    assert [answer().body for answer, _ in reversed(halves)] == [b"4", b"3", b"2", b"1", b"0"]
    assert [got.body for got in peer.requests] == [b"0", b"1", b"2", b"3", b"4"]
    assert_at_rest(connection_to(client, peer.address))


def test_the_second_half_of_a_call_may_be_given_up(clients: Clients, server: StartServer) -> None:
    client, peer = clients(), server()
    answer, _ = client.invoke_later(peer.address, request(b"kept"), 5)
    _, give_up = client.invoke_later(peer.address, request(b"given up"), 5)
    give_up()
    assert answer().body == b"kept"
    assert_at_rest(connection_to(client, peer.address))


def ticks_between_ends(call: Callable[[], object]) -> int:
    """How often the event loop came to a timer of 1 ms while 400 callers, who each take their time after it, ended a call."""
    ticks: list[float] = []
    ended: list[float] = []
    timer = gevent.get_hub().loop.timer(0.001, 0.001)

    def caller() -> None:
        call()
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        ended.append(time.perf_counter())

    callers = [gevent.spawn(caller) for _ in range(400)]
    timer.start(lambda: ticks.append(time.perf_counter()))
    gevent.joinall(callers, timeout=10, raise_error=True)
    timer.stop()
    timer.close()
    assert len(ended) == 400
    return len([tick for tick in ticks if ended[0] < tick < ended[-1]])


def test_many_answers_at_once_do_not_hold_the_event_loop(clients: Clients, server: StartServer) -> None:
    """Given answers that come together and a connection that ends right after, when callers take their time, then sockets and
    timers are looked at between them, and each caller has its answer."""

    def answer_all(peer: Peer) -> None:
        requests = list(itertools.islice(peer, 400))
        peer.sock.sendall(b"".join(encode_command(RemotingCommand.response_to(one, 0)) for one in requests))
        peer.close()

    client, peer = clients(), server(answer_all)
    assert ticks_between_ends(lambda: client.invoke(peer.address, RemotingCommand(1), 10.0)) >= 5


@pytest.mark.parametrize(("ends", "error"), [(False, RequestTimeout), (True, ConnectionLostError)], ids=["late", "lost"])
def test_many_calls_that_fail_at_once_do_not_hold_the_event_loop(
    clients: Clients, server: StartServer, ends: bool, error: type[Exception]
) -> None:
    """The same when there is no answer, or no connection any more."""

    def answer_none(peer: Peer) -> None:
        requests = list(itertools.islice(peer, 400))
        if ends:
            peer.close()
        else:
            gevent.sleep(60)
        assert len(requests) == 400

    client, peer = clients(), server(answer_none)

    def call() -> None:
        with pytest.raises(error):
            client.invoke(peer.address, RemotingCommand(1), 10.0 if ends else 0.2)

    assert ticks_between_ends(call) >= 5
