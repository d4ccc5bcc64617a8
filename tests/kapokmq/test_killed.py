"""A caller is killed at its first switch, at its second, ... until its call ends: the link and everybody else go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from tests.citizen.killing import MANY, Broken, Killed, killed_at
from tests.kapokmq.server import Registry, StandIn

kapokmq = pytest.importorskip("grocketmq.kapokmq", reason="needs the extra kapokmq")

Make = Callable[..., Any]
each_kill = pytest.mark.parametrize("how", [Killed(), Broken(), gevent.GreenletExit()], ids=["timeout", "error", "kill"])

SENDS: dict[str, Callable[[Any], Any]] = {
    "send": lambda producer: producer.send("x"),
    "send_delay": lambda producer: producer.send_delay("x", 1),
    "send_async": lambda producer: producer.send_async("x").get(timeout=5),
    "ack": lambda producer: [producer.send_async("x"), producer.ack(5)],
    "flush": lambda producer: [producer.send_async("x"), producer.flush(5)],
}


@each_kill
@pytest.mark.parametrize("name", SENDS)
def test_sends(server: StandIn, new_producer: Make, name: str, how: BaseException) -> None:
    producer = new_producer(server, max_in_flight=2)
    for number in range(1, MANY):
        came_so_far = killed_at(number, lambda: SENDS[name](producer), how)
        producer.flush(5)  # no place under way is kept
        producer.send(f"after {number}", timeout=5)
        assert server.taken[-1] == f"after {number}"
        if not came_so_far:
            break
    else:
        pytest.fail("the call takes more switches than were tried")
    assert producer.connected


@each_kill
def test_receive(server: StandIn, new_producer: Make, new_consumer: Make, how: BaseException) -> None:
    """What was pushed to one that is killed goes to the next."""
    producer, consumer = new_producer(server), new_consumer(server)
    for number in range(1, MANY):
        producer.send(str(number))
        got: list[Any] = []
        came_so_far = killed_at(number, lambda got=got: got.append(consumer.receive(5)), how)
        message = got[0] if got else consumer.receive(5)
        assert message.message_data == str(number)
        message.ack()
        if not came_so_far:
            return
    pytest.fail("the call takes more switches than were tried")


@each_kill
@pytest.mark.parametrize("kind", ["Producer", "Consumer", "ClusterProducer"])
@pytest.mark.parametrize("step", ["connect", "close"])
def test_connect_and_close(registry: Registry, new_server: Make, kind: str, step: str, how: BaseException) -> None:
    """A start that was killed can be made again, and a shutdown be finished; what is left behind, the test's own rules find."""
    server = new_server()
    registry.join(server)
    address = registry.address if kind == "ClusterProducer" else server.address
    for number in range(1, MANY):
        client = getattr(kapokmq, kind)(*address, "t", f"{step} {number}", "test")
        if step == "close":
            client.connect(5)
        came_so_far = killed_at(number, getattr(client, step), how)
        if step == "connect":
            client.connect(5)
        client.close()
        if not came_so_far:
            return
    pytest.fail("the call takes more switches than were tried")
