"""One name server is kept as long as it answers."""

from __future__ import annotations

import gevent
import pytest

from grocketmq.client.namesrv import NameServers
from grocketmq.codes import RequestCode
from grocketmq.errors import ConnectError, ConnectionLostError, GRocketMQError, RequestTimeout
from grocketmq.wire.command import RemotingCommand
from tests.unit.client.fakes import FakeRemoting

ADDRESSES = ["a:1", "b:1", "c:1"]
OK = RemotingCommand(0)


def request() -> RemotingCommand:
    return RemotingCommand(RequestCode.GET_ROUTEINFO_BY_TOPIC)


def test_the_one_that_answers_is_kept() -> None:
    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, OK))
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    chosen = servers.addresses[0]
    for _ in range(5):
        assert servers.invoke(request(), 3.0) == (OK, chosen)
    assert remoting.asked() == [chosen] * 5


def test_clients_spread_over_the_servers() -> None:
    chosen = {NameServers(FakeRemoting(), ADDRESSES).addresses[0] for _ in range(200)}  # type: ignore[arg-type]
    assert chosen == set(ADDRESSES)


def test_the_next_one_takes_over_and_stays() -> None:
    """Given that the chosen server does not answer, when a call is made, then the next one answers it and all later ones."""
    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, OK))
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    first, second, third = servers.addresses
    del remoting.answers[first]
    assert servers.invoke(request(), 3.0)[1] == second
    assert servers.invoke(request(), 3.0)[1] == second
    assert remoting.asked() == [first, second, second]
    assert servers.addresses == [second, third, first]


def test_every_server_is_tried_once() -> None:
    remoting = FakeRemoting({"b:1": RequestTimeout("b is silent")})
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    order = servers.addresses
    with pytest.raises((ConnectError, RequestTimeout)) as caught:
        servers.invoke(request(), 3.0)
    assert remoting.asked() == order
    assert order[-1].partition(":")[0] in str(caught.value)
    assert servers.addresses == order


def test_no_server_takes_the_time_of_those_after_it() -> None:
    def silent(_: RemotingCommand) -> GRocketMQError:
        gevent.sleep(remoting.calls[-1][2])
        return RequestTimeout("silent")

    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, silent))
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    with pytest.raises(RequestTimeout):
        servers.invoke(request(), 0.3)
    assert [timeout for _, _, timeout in remoting.calls] == pytest.approx([0.1, 0.1, 0.1], abs=0.05)


def test_a_host_that_swallows_everything_is_passed_soon() -> None:
    """Who was never reached gets half a second, who is connected or the last one its share."""

    def silent(_: RemotingCommand) -> GRocketMQError:
        return RequestTimeout("silent")

    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, silent))
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    remoting.connected = servers.addresses[1:2]
    with pytest.raises(RequestTimeout):
        servers.invoke(request(), 12.0)
    assert [timeout for _, _, timeout in remoting.calls] == pytest.approx([0.5, 6.0, 12.0], abs=0.5)


def test_servers_that_are_new_are_asked_when_the_old_ones_go_during_a_call() -> None:
    def leaves(_: RemotingCommand) -> GRocketMQError:
        servers.update(["b:1"])
        return ConnectionLostError("it is not wanted any more")

    remoting = FakeRemoting({"a:1": leaves, "b:1": OK})
    servers = NameServers(remoting, ["a:1"])  # type: ignore[arg-type]
    assert servers.invoke(request(), 3.0) == (OK, "b:1")
    assert remoting.asked() == ["a:1", "b:1"]


def test_an_answer_with_an_error_code_is_an_answer() -> None:
    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, RemotingCommand(17)))
    servers = NameServers(remoting, ADDRESSES)  # type: ignore[arg-type]
    assert servers.invoke(request(), 3.0)[0].code == 17
    assert len(remoting.calls) == 1


def test_an_error_that_is_no_silence_is_not_covered_up() -> None:
    remoting = FakeRemoting(dict.fromkeys(ADDRESSES, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        NameServers(remoting, ADDRESSES).invoke(request(), 3.0)  # type: ignore[arg-type]
    assert len(remoting.calls) == 1
