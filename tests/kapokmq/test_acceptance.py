"""The acceptance list for a KapokMQ client, line by line, on the stand-in; each test is named after what its line asks."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from grocketmq import errors
from tests.certificates import Authority, serve_gevent
from tests.helpers import wait_for
from tests.kapokmq.frames import RawClient
from tests.kapokmq.server import Registry, StandIn
from tests.programs import run_program

kapokmq = pytest.importorskip("grocketmq.kapokmq", reason="needs the extra kapokmq")

#: What survives JSON and UTF-8 only when both are done right.
DIFFICULT = [
    "",
    '\x00\t"\\/\r\n',
    "<script>&amp;</script>\u2028\u2029",
    "caf\u00e9 \u8ba2\u5355 \U0001f680\U0001f1e9",
    "\ufffd\ufeff",
]

Make = Callable[..., Any]


def received(consumer: Any, count: int, timeout: float = 5.0) -> list[str]:
    return [consumer.receive(timeout).message_data for _ in range(count)]


def error_of(run: Callable[..., Any], *args: Any) -> Exception | None:
    """The error that a call raises."""
    try:
        run(*args)
    except Exception as error:
        return error
    return None


# [ ] send + ack, pipelined acks, send_delay within tick, >4 KiB and 16 MiB, escapes/emoji/empty


def test_send_and_ack(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    assert producer.send("one") is None
    producer.send_and_wait_ack("two")
    assert producer.send_async("three").get(timeout=5) is True
    assert server.taken == ["one", "two", "three"]


def test_pipelined_acks(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    texts = [str(number) for number in range(500)]
    server.acking.clear()
    results = [producer.send_async(text) for text in texts]
    wait_for(lambda: len(server.taken) == 500)
    assert not any(result.ready() for result in results)
    server.acking.set()
    for peer in server.peers:
        peer.sock.sendall(b"\x81\x02ok" * 500)
    assert [producer.ack(5) for _ in texts] == [True] * 500
    with pytest.raises(errors.ClientStateError, match="no send_async is left"):
        producer.ack(0.1)
    assert server.taken == texts
    producer.send_async("last")
    producer.flush(5)
    assert producer.ack(0) is True


def test_acks_are_matched_by_order(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    server.acking.clear()
    first, second = producer.send_async("first", timeout=0.2), producer.send_async("second")
    with pytest.raises(errors.AckTimeout):
        first.get()
    peer = next(iter(server.peers))
    peer.send_text(b"ok")  # the first one's, which is late
    gevent.sleep(0.05)
    assert not second.ready()
    peer.send_text(b"ok")
    assert second.get(timeout=5) is True


def test_send_delay_within_tick(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=10.0, check=1)
    producer, consumer = new_producer(server), new_consumer(server)
    began = time.monotonic()
    producer.send_delay("later", 4)
    producer.send("at once")
    assert received(consumer, 2) == ["at once", "later"]
    # A second of the stand-in takes 0.1 s; it counts in whole ones.
    assert 0.29 < time.monotonic() - began < 2.0


@pytest.mark.parametrize("size", [4_047, 4_247, 10_147, 70_000])
def test_over_4_kib(size: int, server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server), new_consumer(server)
    text = "\u00e4" + "x" * size
    producer.send(text)
    assert received(consumer, 1) == [text]


def test_16_mib(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server), new_consumer(server)
    text = "0123456789abcdef" * (1024 * 1024)
    producer.send(text, timeout=30)
    assert consumer.receive(30).message_data == text
    producer.send("and on")
    assert received(consumer, 1) == ["and on"]


@pytest.mark.parametrize("text", DIFFICULT)
def test_escapes_emoji_empty(text: str, server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    topic = "t \u8ba2?%&#+"
    producer, consumer = new_producer(server, topic=topic), new_consumer(server, "c \u00e9", topic=topic)
    producer.send(text)
    message = consumer.receive(5)
    assert (message.message_data, message.topic) == (text, topic)


# [ ] receive, ack, re-push when unacked, dedup


def test_receive(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server), new_consumer(server)
    producer.send("hello")
    message = consumer.receive(5)
    assert isinstance(message, kapokmq.KapokMessage)
    assert (message.message_data, message.topic, message.delay_time, message.status) == ("hello", "t", 0, -1)
    assert len(message.message_code) == 32
    assert abs(message.create_time - time.time()) < 3
    with pytest.raises(errors.RequestTimeout):
        consumer.receive(0.05)


def test_receive_by_iteration(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server), new_consumer(server)
    for number in range(5):
        producer.send(str(number))
    found = []
    for message in consumer:
        found.append(message.message_data)
        message.ack()
        if len(found) == 5:
            consumer.close()  # ends the iteration
    assert found == list("01234")


def test_ack(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=20.0, retry_time=2)
    producer, consumer = new_producer(server), new_consumer(server)
    for text in ("by method", "by message", "by code"):
        producer.send(text)
    first, second, third = (consumer.receive(5) for _ in range(3))
    first.ack()
    consumer.ack(second)
    consumer.ack(third.message_code)
    wait_for(lambda: len(server.acked) == 3)
    assert {message.Status for message in server.messages.values()} == {1}
    with pytest.raises(errors.RequestTimeout):
        consumer.receive(0.5)  # ten seconds of the stand-in


def test_re_push_when_unacked(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=10.0, retry_time=3)
    producer, consumer = new_producer(server), new_consumer(server)
    producer.send("again")
    pushes = [consumer.receive(5) for _ in range(3)]
    assert len({push.message_code for push in pushes}) == 1
    assert pushes[0].delay_time == 0
    assert 3 < pushes[1].delay_time < pushes[2].delay_time
    pushes[2].ack()
    with pytest.raises(errors.RequestTimeout):
        consumer.receive(1.0)


def test_dedup(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=20.0, retry_time=2)
    producer, consumer = new_producer(server), new_consumer(server, dedup=100)
    producer.send("once")
    message = consumer.receive(5)
    age = server.messages[message.message_code]
    wait_for(lambda: age.DelayTime > 0, message="it is pushed again")
    with pytest.raises(errors.RequestTimeout):
        consumer.receive(0.3)
    consumer.release(message)
    assert consumer.receive(5).message_code == message.message_code
    message.ack()
    wait_for(lambda: age.Status == 1)
    age.Status = -1  # as if the acknowledgement had been lost
    wait_for(lambda: age.Status == 1, message="it is acknowledged again by itself")
    with pytest.raises(errors.RequestTimeout):
        consumer.receive(0.1)


def test_on_message(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=20.0, retry_time=2)
    consumer = new_consumer(server, start=False, dedup=10)
    seen: list[str] = []

    @consumer.on_message
    def handle(message: Any) -> None:
        seen.append(message.message_data)
        gevent.sleep(0.001)
        if seen.count("bad") == 1 and message.message_data == "bad":
            raise ValueError("the first time it fails")

    consumer.start()
    producer = new_producer(server)
    for text in ("good", "bad", "last"):
        producer.send(text)
    wait_for(lambda: Counter(seen) == {"good": 1, "bad": 2, "last": 1})
    wait_for(lambda: {message.Status for message in server.messages.values()} == {1})
    with pytest.raises(errors.ClientStateError, match="on_message"):
        consumer.receive()


# [ ] pub/sub and p2p with 2 ids, same id refused locally, reconnect obeys the 1.1 s rule


def test_pub_sub_with_2_ids(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(push_type=2)
    consumers = [new_consumer(server, name) for name in ("a", "b")]
    producer = new_producer(server)
    texts = [str(number) for number in range(50)]
    for text in texts:
        producer.send(text)
    assert [received(consumer, 50) for consumer in consumers] == [texts, texts]


def test_p2p_with_2_ids(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(push_type=1)
    consumers = [new_consumer(server, name) for name in ("a", "b")]
    producer = new_producer(server)
    for number in range(100):
        producer.send(str(number))
    wait_for(lambda: sum(consumer.buffered for consumer in consumers) == 100)
    found = [text for consumer in consumers for text in received(consumer, consumer.buffered)]
    assert sorted(found, key=int) == [str(number) for number in range(100)]


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_same_id_refused_locally(kind: str, server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    make = new_producer if kind == "producer" else new_consumer
    first = make(server, "mine")
    with pytest.raises(errors.ConfigError, match=f"{kind}_id 'mine' is in use"):
        make(server, "mine", topic="another")
    assert len(server.logins) == 1
    first.close()
    make(server, "mine")  # free again
    (before, *_), (after, *_) = server.logins
    assert after - before >= 1.1


def test_a_producer_and_a_consumer_may_share_an_id(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server, "both"), new_consumer(server, "both")
    producer.send("x")
    assert received(consumer, 1) == ["x"]


def test_reconnect_obeys_the_login_gap(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    clients = [new_producer(server, check_time=0.1), new_consumer(server, check_time=0.1)]
    for count in (1, 2):
        server.cut()
        wait_for(lambda: not any(client.connected for client in clients), timeout=1, message="the end is noticed at once")
        wait_for(lambda count=count: len(server.logins) == 2 * count + 2)
        wait_for(lambda: all(client.connected for client in clients))
    for kind in ("producer", "consumer"):
        times = [at for at, one, *_ in server.logins if one == kind]
        assert all(1.1 <= later - earlier < 2.0 for earlier, later in itertools.pairwise(times))


def test_the_survivor_of_two_logins_in_one_second_goes_deaf(server: StandIn) -> None:
    """The trap that the gap is for; also a check of the stand-in."""
    gevent.sleep(1.0 - time.time() % 1.0)
    first, second = (RawClient(server.address, "/Consumers/Conn/t/x", "test") for _ in range(2))
    first.close()
    wait_for(lambda: not server.consumers)
    server.put("t", "lost")
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.2):
        second.read()
    second.close()


# [ ] wrong key -> AuthError, process lives, no retry storm


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_wrong_key(kind: str, server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    make = new_producer if kind == "producer" else new_consumer
    with pytest.raises(errors.AuthError, match="refused the secret key") as caught:
        make(server, key="hush-hush", check_time=0.05)
    assert "hush" not in str(caught.value)
    gevent.sleep(1.5)
    assert server.attempts == ["hush-hush"]
    assert server.connections == 1
    wait_for(lambda: not server.peers, message="the client has closed its connection")


@pytest.mark.slow
def test_wrong_key_at_a_reconnect(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server, check_time=0.1), new_consumer(server, check_time=0.1)
    waiting = gevent.spawn(error_of, consumer.receive, 10)
    server.key = "changed"
    server.cut()
    wait_for(lambda: not producer.connected)
    for _ in range(2):
        with pytest.raises(errors.AuthError):
            producer.send("x")
    with pytest.raises(errors.AuthError):
        producer.send_async("x")
    assert isinstance(waiting.get(timeout=10), errors.AuthError)
    with pytest.raises(errors.AuthError):
        consumer.receive(1)
    gevent.sleep(1.5)
    assert len(server.attempts) == 4  # one more each


# [ ] kill -9 + restart: producer and consumer come back, exactly one link each in GetClients, pending acks delivered,
#     unknown sends reported


@pytest.mark.parametrize("reset", [pytest.param(False, id="EOF"), pytest.param(True, id="RST", marks=pytest.mark.slow)])
def test_kill_and_restart(reset: bool, new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(persistence=2, speed=10.0, retry_time=3)
    producer, consumer = new_producer(server, check_time=0.5), new_consumer(server, check_time=0.5)
    producer.send("before")
    message = consumer.receive(5)
    server.kill(reset)
    wait_for(lambda: not producer.connected and not consumer.connected)
    message.ack()  # kept for the next link
    during = gevent.spawn(producer.send, "during")
    gevent.sleep(0.5)
    server.start()
    during.get(timeout=10)
    producer.send("after")
    wait_for(lambda: message.message_code in server.acked, message="the pending acknowledgement is delivered")
    wait_for(lambda: consumer.connected)
    assert {*received(consumer, 2)} == {"during", "after"}
    gevent.sleep(1.5)  # two turns of check_time, in which one more link could come
    clients = kapokmq.Console(server.host, server.port, "test").clients()
    assert ([one.id for one in clients.producers], [one.id for one in clients.consumers]) == (["one"], ["one"])
    assert len(server.peers) == 2


def test_unknown_sends_reported(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server, check_time=0.2)
    server.acking.clear()
    waiting = gevent.spawn(error_of, producer.send, "x")
    results = [producer.send_async(str(number)) for number in range(3)]
    wait_for(lambda: len(server.taken) == 4)
    server.cut()
    for result in results:
        with pytest.raises(errors.SendOutcomeUnknown, match="link was lost before the acknowledgement"):
            result.get(timeout=5)
    assert type(waiting.get(timeout=5)) is errors.SendOutcomeUnknown
    server.acking.set()
    producer.send("and on")
    assert Counter(server.taken) == Counter(["x", "0", "1", "2", "and on"])


def test_unknown_sends_are_sent_again_with_retry(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server, check_time=0.2, retry=True)
    server.acking.clear()
    results = [producer.send_async(str(number)) for number in range(3)]
    wait_for(lambda: len(server.taken) == 3)
    server.acking.set()
    server.cut()
    assert [result.get(timeout=5) for result in results] == [True] * 3
    assert server.taken == ["0", "1", "2", "0", "1", "2"]


@pytest.mark.slow
def test_drop_during_login(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server, check_time=0.2)
    for where in ("prompt", "key"):
        server.drop_logins, server.drop_at = 2, where
        server.cut()
        wait_for(lambda: server.drop_logins == 0, timeout=8)
        producer.send(where)
    assert server.taken == ["prompt", "key"]


# [ ] cluster: discovery, join, death, registry death/`null`/bad key, acks per node


def cluster(registry: Registry, new_server: Make, count: int) -> list[StandIn]:
    servers = [new_server() for _ in range(count)]
    for server in servers:
        registry.join(server)
    return servers


def test_cluster_discovery_and_acks_per_node(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    servers = cluster(registry, new_server, 3)
    assert [node.port for node in kapokmq.get_nodes("http", registry.host, registry.port, "test")] == sorted(
        server.port for server in servers
    )
    producer = new_cluster_producer(registry)
    wait_for(lambda: len(producer.connected_nodes) == 3)
    results = [producer.send_async(str(number)) for number in range(200)]
    assert [producer.ack(5) for _ in results] == [True] * 200
    assert all(len(server.taken) > 20 for server in servers)
    assert sum(len(server.taken) for server in servers) == 200
    servers[0].acking.clear()  # the others' acknowledgements are nothing to its messages
    before = len(servers[0].taken)
    results = [producer.send_async(str(number)) for number in range(60)]
    wait_for(lambda: sum(len(server.taken) for server in servers) == 260)
    missing = len(servers[0].taken) - before
    assert 0 < missing < 60
    wait_for(lambda: sum(result.ready() for result in results) == 60 - missing)


def test_cluster_join(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    cluster(registry, new_server, 1)
    producer = new_cluster_producer(registry, check_time=0.3)
    assert len(producer.nodes) == 1
    added = new_server()
    registry.join(added)
    wait_for(lambda: len(producer.connected_nodes) == 2, timeout=2, message="it is found within check_time")
    for number in range(50):
        producer.send(str(number))
    assert added.taken


def test_cluster_death(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    servers = cluster(registry, new_server, 2)
    producer = new_cluster_producer(registry, check_time=0.2)
    wait_for(lambda: len(producer.connected_nodes) == 2)
    servers[0].kill()
    wait_for(lambda: len(producer.connected_nodes) == 1, timeout=1)
    assert len(producer.nodes) == 2  # it is listed still
    for number in range(50):
        producer.send(str(number))
    assert len(servers[1].taken) == 50
    wait_for(lambda: len(producer.nodes) == 1, message="it is dropped when it is unlisted and down")
    servers[0].start()
    wait_for(lambda: len(producer.connected_nodes) == 2, timeout=5)


def test_cluster_unknown_sends_go_elsewhere_with_retry(
    registry: Registry, new_server: Make, new_cluster_producer: Make
) -> None:
    servers = cluster(registry, new_server, 2)
    producer = new_cluster_producer(registry, check_time=5, retry=True)
    wait_for(lambda: len(producer.connected_nodes) == 2)
    servers[0].acking.clear()
    results = [producer.send_async(str(number)) for number in range(60)]
    wait_for(lambda: sum(len(server.taken) for server in servers) == 60)
    assert servers[0].taken
    servers[0].kill()
    assert [result.get(timeout=5) for result in results] == [True] * 60
    assert {*servers[1].taken} == {str(number) for number in range(60)}


def test_cluster_one_dead_node_does_not_matter(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    servers = cluster(registry, new_server, 3)
    servers[1].kill()
    producer = new_cluster_producer(registry)
    producer.send("x")
    assert len(producer.nodes) == 3


def test_cluster_registry_death(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    servers = cluster(registry, new_server, 2)
    producer = new_cluster_producer(registry, check_time=0.2)
    wait_for(lambda: len(producer.connected_nodes) == 2)
    registry.kill()
    gevent.sleep(0.7)
    for number in range(20):
        producer.send(str(number))
    assert len(producer.nodes) == 2
    # A server that joins meanwhile is known to the others.
    added = new_server()
    registry.join(added)
    wait_for(lambda: len(producer.connected_nodes) == 3)
    assert sum(len(server.taken) for server in servers) == 20


def test_cluster_registry_null(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    servers = cluster(registry, new_server, 2)
    producer = new_cluster_producer(registry, check_time=0.1)
    wait_for(lambda: len(producer.connected_nodes) == 2)
    registry.restart()
    servers[0].registry = servers[1].registry = None
    assert kapokmq.get_nodes("http", registry.host, registry.port, "test") == []
    seen = registry.requests
    wait_for(lambda: registry.requests > seen + 2)
    assert len(producer.connected_nodes) == 2
    producer.send("x")


def test_cluster_registry_bad_key(registry: Registry, new_server: Make, new_cluster_producer: Make) -> None:
    cluster(registry, new_server, 1)
    with pytest.raises(errors.AuthError):
        kapokmq.get_nodes("http", registry.host, registry.port, "wrong")
    with pytest.raises(errors.AuthError):
        new_cluster_producer(registry, key="wrong")
    producer = new_cluster_producer(registry, check_time=0.1)
    registry.key = "changed"
    gevent.sleep(0.3)
    producer.send("x")
    assert len(producer.nodes) == 1


@pytest.mark.slow
def test_cluster_of_nobody(registry: Registry, new_cluster_producer: Make) -> None:
    with pytest.raises(errors.ConnectError, match="lists no node"):
        new_cluster_producer(registry, connect_timeout=0.1)


# [ ] wss through a TLS proxy, bad certificate refused


def test_wss(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    authority = Authority()
    server = new_server(tls=serve_gevent(authority.issue()))
    secure = {"protocol": "wss", "ssl_context": authority.client_context()}
    producer, consumer = new_producer(server, **secure, check_time=0.2), new_consumer(server, **secure, check_time=0.2)
    for text in (*DIFFICULT, "x" * 1_000_000):
        producer.send(text)
        message = consumer.receive(5)
        assert message.message_data == text
        message.ack()
    server.cut()
    wait_for(lambda: not producer.connected and not consumer.connected)
    producer.send("again", timeout=10)
    wait_for(lambda: consumer.connected)
    console = kapokmq.Console(server.host, server.port, "test", protocol="https", ssl_context=authority.client_context())
    assert len(console.clients().producers) == 1


def test_wss_cluster(stack: contextlib.ExitStack, new_server: Make, new_cluster_producer: Make) -> None:
    authority = Authority()
    registry = stack.enter_context(Registry(tls=serve_gevent(authority.issue())))
    registry.join(new_server(tls=serve_gevent(authority.issue())))
    context = authority.client_context()
    producer = new_cluster_producer(registry, registry_protocol="https", protocol="wss", ssl_context=context)
    producer.send("x")
    assert len(kapokmq.get_nodes("https", registry.host, registry.port, "test", ssl_context=context)) == 1


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another host"])
def test_bad_certificate_refused(fault: str, new_server: Make, new_producer: Make) -> None:
    authority = Authority()
    issued = {
        "unknown authority": Authority().issue(),
        "expired": authority.issue(expired=True),
        "another host": authority.issue("example.org"),
    }[fault]
    server = new_server(tls=serve_gevent(issued))
    with pytest.raises(errors.TLSError, match="certificate is refused"):
        new_producer(server, protocol="wss", ssl_context=authority.client_context())
    with pytest.raises(errors.TLSError):
        kapokmq.Console(server.host, server.port, "test", protocol="https", ssl_context=authority.client_context()).ping()
    assert server.attempts == []


def test_wss_to_a_server_without_tls(server: StandIn, new_producer: Make) -> None:
    with pytest.raises(errors.TLSError):
        new_producer(server, protocol="wss", ssl_context=Authority().client_context())


# [ ] stalled consumer and full channel: send times out, nothing hangs; close() returns with greenlets gone


def test_stalled_consumer(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    """One that does not read holds up everybody; the buffer that is full with "pause" is such a one."""
    stalled = new_consumer(server, "stalled", topic="a", max_buffered=5)
    other = new_consumer(server, "other", topic="b")
    producers = {topic: new_producer(server, topic, topic=topic) for topic in "ab"}
    for _ in range(60):
        producers["a"].send("x" * 100_000)
    producers["b"].send("held up")
    with pytest.raises(errors.RequestTimeout):
        other.receive(0.3)
    assert received(stalled, 60) == ["x" * 100_000] * 60
    assert received(other, 1) == ["held up"]


def test_overflow_drop(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=10.0, retry_time=3)
    consumer = new_consumer(server, max_buffered=5, overflow="drop")
    producer = new_producer(server)
    for number in range(8):
        producer.send(str(number))
    wait_for(lambda: consumer.dropped == 3)
    found = Counter()
    while len(found) < 8:
        message = consumer.receive(5)
        found[message.message_data] += 1
        message.ack()
    assert set(found) == {str(number) for number in range(8)}


def test_full_channel(new_server: Make, new_producer: Make) -> None:
    server = new_server(channel=3)
    server.pushing.clear()
    producer = new_producer(server, ack_timeout=0.3)
    for _ in range(5):  # one is in the pusher's hand, three wait, and one more is acknowledged
        producer.send("x")
    began = time.monotonic()
    with pytest.raises(errors.AckTimeout) as caught:
        producer.send("no ok")
    assert isinstance(caught.value, errors.SendOutcomeUnknown)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - began < 1.0
    server.pushing.set()
    wait_for(lambda: server.taken.count("no ok") == 1)
    producer.send("and on")
    assert producer.connected


def test_a_master_without_a_slave(server: StandIn, new_producer: Make) -> None:
    """The first message drops the link; later ones are sent over another link and never acknowledged.  Both are told."""
    server.master_without_slave = True
    producer = new_producer(server, ack_timeout=0.3)
    with pytest.raises(errors.SendOutcomeUnknown, match="link was lost before the acknowledgement"):
        producer.send("first")
    wait_for(lambda: producer.connected)
    with pytest.raises(errors.AckTimeout):
        producer.send("second")
    assert server.taken == ["second"]
    producer.close(0.1)


def test_in_flight_is_bounded(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server, max_in_flight=3, ack_timeout=0.3)
    server.acking.clear()
    results = [producer.send_async("x") for _ in range(3)]
    with pytest.raises(errors.TooManyRequestsError, match="nothing was sent"):
        producer.send("too many")
    assert len(server.taken) == 3
    for result in results:
        with pytest.raises(errors.AckTimeout):
            result.get()


@pytest.mark.parametrize("fault", ["stalled", "full", "dead", "gone"])
def test_close_returns_with_greenlets_gone(fault: str, new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(channel=2)
    producer, consumer = new_producer(server), new_consumer(server)
    iterating = gevent.spawn(list, consumer)
    if fault == "stalled":
        server.reading.clear()
    elif fault == "full":
        server.pushing.clear()
    results = [producer.send_async("x" * 100_000) for _ in range(20)]
    if fault == "dead":
        server.kill()
    elif fault == "gone":
        server.kill()
        wait_for(lambda: not producer.connected)
    began = time.monotonic()
    producer.close(0.5)
    consumer.close(0.5)
    assert time.monotonic() - began < 4.0
    assert iterating.get(timeout=1) is not None
    for result in results:
        with contextlib.suppress(errors.SendOutcomeUnknown, errors.ConnectionLostError):
            result.get(timeout=0)
    wait_for(lambda: len(producer._tasks) == len(consumer._tasks) == 0, timeout=0.5)
    with pytest.raises(errors.ClientStateError):
        producer.send("x")


# [ ] Console calls


def test_console_calls(new_server: Make, new_producer: Make, new_consumer: Make) -> None:
    server = new_server(speed=5.0)
    console = kapokmq.Console(server.host, server.port, "test")
    console.ping()
    assert console.count() == (0, 0, 0, 0)
    assert console.clients() == ([], [])
    assert console.messages() == []
    assert console.nodes() == []
    assert console.config()["pushType"] == 1
    new_producer(server, "p")
    consumer = new_consumer(server, "c")
    code = console.send("t", "caf\u00e9 \U0001f680 & more=1")
    message = consumer.receive(5)
    assert message.message_code == code
    message.ack()
    delayed = console.send("other", "later", delay=1000)
    clients = console.clients()
    assert [(one.id, one.topic, one.ip) for one in clients.producers] == [("p", "t", "127.0.0.1")]
    assert [one.id for one in clients.consumers] == ["c"]
    wait_for(lambda: console.count() == (2, 1, 1, 0))
    assert {one.message_code for one in console.messages()} == {code, delayed}
    assert [one.message_code for one in console.messages(status=0)] == [delayed]
    assert [one.message_code for one in console.messages(topic="t")] == [code]
    assert console.messages(status=-1) == []
    assert console.message(delayed).message_data == "later"
    console.delete(delayed)
    assert console.count().all == 1
    with pytest.raises(errors.KapokMQError, match="has no message"):
        console.message(delayed)
    with pytest.raises(errors.AuthError):
        kapokmq.Console(server.host, server.port, "wrong").ping()


# [ ] bench vs section 10


@pytest.mark.slow
def test_bench() -> None:
    """It runs; how fast is for a machine with nothing else to do."""
    done = run_program("-m", "bench", "--kapokmq", "--quick", "--rounds", "1")
    assert done.status == 0, done
    for title in ("one at a time", "pipelined", "consume with ack"):
        assert re.search(rf"KapokMQ: {title} +floor .*\n +grocketmq .* >= 0\.[56]0 ", done.stdout), done.stdout
