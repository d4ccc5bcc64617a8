"""A caller may be thrown out at any point: nobody else notices, and no half frame is left behind.

Each scenario runs once for every switch between greenlets that happens in it, and at that one the victim is thrown out.
"""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from grocketmq.errors import RemotingError
from grocketmq.remoting import connection as module
from grocketmq.remoting.client import RemotingClient
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
    spawn,
)

BIG = bytes(range(256)) * 8000  # more than a flush may send at once
SMALL = b"small"
#: More switches than any of the scenarios has.
MANY = 1000

Scenario = Callable[[Clients, int, BaseException], bool]


class Ours(Exception):
    """Of the kind that a caller's own code throws around."""


def call(client: RemotingClient, server: Server, body: bytes) -> gevent.Greenlet:
    def run() -> bytes | None:
        return client.invoke(server.address, request(body), 20).body

    return spawn(run)


def ended(victim: gevent.Greenlet) -> None:
    victim.join(5)
    assert victim.dead
    assert isinstance(victim.value, bytes | Ours | gevent.GreenletExit | None), victim.value


def check(
    client: RemotingClient, server: Server, others: list[gevent.Greenlet], sent: set[bytes], connections: int = 1
) -> None:
    """The others have their answers, only whole messages were received, and all goes on over the same connection."""
    gevent.joinall(others, timeout=10)
    for other in others:
        assert other.get() in sent
    assert client.invoke(server.address, request(b"after"), 5).body == b"after"
    assert len(server.peers) == connections
    assert {one.body for one in server.requests} <= {*sent, b"after"}
    assert client.in_flight() == 0
    assert_at_rest(connection_to(client, server.address), module.MAX_IN_FLIGHT)


def while_connecting(clients: Clients, n: int, error: BaseException) -> bool:
    with Server() as server:
        client = clients()
        victim = call(client, server, SMALL)
        with ThrowAtSwitch(victim, n, error) as thrower:
            others = [call(client, server, b"%d" % number) for number in range(3)]
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {SMALL, b"0", b"1", b"2"})
    return thrower.thrown


def among_others(clients: Clients, n: int, error: BaseException) -> bool:
    with Server() as server:
        client = clients()
        client.invoke(server.address, request(SMALL), 5)
        others = [call(client, server, b"0"), call(client, server, BIG[1:])]
        victim = call(client, server, BIG)
        others += [call(client, server, BIG[2:]), call(client, server, b"1")]
        with ThrowAtSwitch(victim, n, error) as thrower:
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {SMALL, b"0", b"1", BIG, BIG[1:], BIG[2:]})
    return thrower.thrown


def serve_when(go: Event) -> Callable[[Peer], None]:
    def serve(peer: Peer) -> None:
        go.wait(10)
        echo(peer)

    return serve


def in_line_for_a_permit(clients: Clients, n: int, error: BaseException) -> bool:
    go = Event()
    with Server(serve_when(go)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_IN_FLIGHT", 2)
        client = clients()
        others = [call(client, server, b"%d" % number) for number in range(2)]
        wait_for(lambda: client.in_flight() == 2)
        victim = call(client, server, SMALL)
        others.append(call(client, server, b"2"))
        with ThrowAtSwitch(victim, n, error) as thrower:
            gevent.sleep(0)
            go.set()
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {SMALL, b"0", b"1", b"2"})
    return thrower.thrown


def in_line_for_room(clients: Clients, n: int, error: BaseException) -> bool:
    go = Event()
    with Server(serve_when(go), receive_buffer=65_536) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_OUT_BYTES", 1000)
        patch.setattr(module, "ROOM_BYTES", 500)
        client = clients()
        others = []
        while not others or not connection_to(client, server.address)._out_bytes:
            others.append(call(client, server, BIG))
            wait_for(lambda: client.in_flight() == len(others))
            gevent.sleep(0.001)
        victim = call(client, server, SMALL)
        others.append(call(client, server, b"last"))
        with ThrowAtSwitch(victim, n, error) as thrower:
            gevent.sleep(0)
            go.set()
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {BIG, SMALL, b"last"})
    return thrower.thrown


def in_a_oneway(clients: Clients, n: int, error: BaseException) -> bool:
    with Server() as server:
        client = clients()

        def post() -> None:
            for number in range(3):
                client.invoke_oneway(server.address, request(b"%d" % number), 5)
                gevent.sleep(0)

        victim = spawn(post)
        others = [call(client, server, b"other")]
        with ThrowAtSwitch(victim, n, error) as thrower:
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {b"0", b"1", b"2", b"other"})
    return thrower.thrown


def sent_away(clients: Clients, n: int, error: BaseException) -> bool:
    def serve(peer: Peer) -> None:
        for one in peer:
            peer.answer(one, 1500 if peer is server.peers[0] else 0)

    with Server(serve) as server:
        client = clients()
        victim = call(client, server, SMALL)
        others = [call(client, server, b"other")]
        with ThrowAtSwitch(victim, n, error) as thrower:
            ended(victim)
            gevent.joinall(others, timeout=5)
        check(client, server, others, {SMALL, b"other"}, connections=2)
        wait_for(server.peers[0].ended.is_set)
        assert not client._retired
    return thrower.thrown


SCENARIOS: list[Scenario] = [while_connecting, among_others, in_line_for_a_permit, in_line_for_room, in_a_oneway, sent_away]


@pytest.mark.parametrize("error", [gevent.GreenletExit(), gevent.Timeout(), Ours()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_thrown_out_at_every_switch(
    clients: Clients, scenario: Scenario, error: BaseException, greenlet_errors: list[str]
) -> None:
    points = 0
    while scenario(clients, points + 1, error):
        points += 1
        assert points < MANY
    assert points >= 3, "the victim was thrown out somewhere"
    if not isinstance(error, gevent.GreenletExit):  # it may have ended the victim, and gevent tells
        assert len(greenlet_errors) <= points
        greenlet_errors.clear()


def test_all_callers_killed_while_the_connection_is_made(clients: Clients) -> None:
    with Server() as server:
        client = clients()
        callers = [call(client, server, b"%d" % number) for number in range(5)]
        gevent.sleep(0)
        gevent.killall(callers)
        check(client, server, [], {b"%d" % number for number in range(5)})


def test_connection_fails_while_callers_are_killed(clients: Clients) -> None:
    """The connection's end and a kill in the same turn: every caller ends once."""
    with Server(lambda peer: peer.ended.wait()) as server:
        client = clients()
        for _ in range(10):
            callers = [call(client, server, SMALL) for _ in range(6)]
            wait_for(lambda: client.in_flight() == 6)
            connection = connection_to(client, server.address)
            gevent.killall(callers[:2], block=False)
            connection.close()
            gevent.killall(callers[2:4], block=False)
            gevent.joinall(callers, timeout=5)
            assert all(isinstance(caller.value, RemotingError | gevent.GreenletExit) for caller in callers)
            assert all(isinstance(caller.value, RemotingError) for caller in callers[4:])
            assert connection._pending == {}
            assert connection._permits.counter == module.MAX_IN_FLIGHT
            wait_for(lambda: server.address not in client._peers or client._peers[server.address].connection is None)
            client._peers.clear()
