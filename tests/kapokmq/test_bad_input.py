"""Bad input from the application, and servers that do not do as they should: an error in time, and nothing hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import errors
from tests.helpers import wait_for
from tests.kapokmq.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, accept_token, frame
from tests.kapokmq.server import LOGGED_IN, PROMPT, HttpServer, Peer, Registry, StandIn

kapokmq = pytest.importorskip("grocketmq.kapokmq", reason="needs the extra kapokmq")

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("kind", ["Producer", "Consumer"])


# -- the application ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["\ud800", "x\udfff", b"bytes", None, 7, ["x"]])
def test_what_is_no_text_is_refused(data: Any, server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    for send in (producer.send, producer.send_async):
        with pytest.raises(errors.MessageError):
            send(data)
    producer.send("good")
    assert server.taken == ["good"]


@pytest.mark.parametrize("delay", [-1, 1.5, 0.0, "3", None, True, False, 1 << 63, float("nan")])
def test_a_delay_that_is_no_whole_number_is_refused(delay: Any, server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    with pytest.raises(errors.MessageError, match="whole number of seconds"):
        producer.send("x", delay)
    with pytest.raises(errors.MessageError, match="whole number of seconds"):
        producer.send_delay("x", delay)
    producer.send("x", (1 << 63) - 1)
    assert server.taken == ["x"]


@BOTH
@pytest.mark.parametrize("name", ["", "/", "a/b", ".", "..", "\ud800", None, 3])
def test_topics_and_ids_that_are_no_part_of_a_path_are_refused(kind: str, name: Any) -> None:
    make = getattr(kapokmq, kind)
    with pytest.raises(errors.ConfigError, match="topic"):
        make("127.0.0.1", 8011, name, "id", "test")
    with pytest.raises(errors.ConfigError, match=f"{kind.lower()}_id"):
        make("127.0.0.1", 8011, "topic", name, "test")


@pytest.mark.parametrize(
    ("addr", "port"), [("", 1), ("a b", 1), ("h/x", 1), ("h", 0), ("h", 65536), ("h", "80"), (None, 1), ("..", 1)]
)
def test_addresses_that_are_none_are_refused(addr: Any, port: Any) -> None:
    with pytest.raises(errors.ConfigError):
        kapokmq.Producer(addr, port, "t", "id", "test")
    with pytest.raises(errors.ConfigError):
        kapokmq.Console(addr, port, "test")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Producer", {"protocol": "http"}),
        ("Producer", {"check_time": 0}),
        ("Producer", {"check_time": float("nan")}),
        ("Producer", {"connect_timeout": "5"}),
        ("Producer", {"max_in_flight": 0}),
        ("Producer", {"ssl_context": "cert.pem"}),
        ("Producer", {"ack_timeout": -1}),
        ("ClusterProducer", {"registry_protocol": "ws"}),
        ("Consumer", {"overflow": "block"}),
        ("Consumer", {"max_buffered": 0}),
        ("Consumer", {"dedup": -1}),
        ("Consumer", {"on_message": 3}),
    ],
)
def test_options_that_cannot_work_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError):
        getattr(kapokmq, kind)("127.0.0.1", 8011, "t", "id", "test", **options)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        kapokmq.Producer("127.0.0.1", 8011, "t", "id", "test", chek_time=3)


@BOTH
def test_a_secret_key_is_never_shown(kind: str) -> None:
    client = getattr(kapokmq, kind)("127.0.0.1", 8011, "t", "id", "hush-hush")
    assert "hush" not in repr(client)
    for key in ("hush\ud800", 7):
        with pytest.raises(errors.ConfigError) as caught:
            getattr(kapokmq, kind)("127.0.0.1", 8011, "t", "id", key)
        assert "hush" not in str(caught.value)
    with pytest.raises(errors.ConfigError) as caught:
        kapokmq.Console("127.0.0.1", 8011, "hush\r\nX-Evil: 1")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("what", ["", None, 3, "\ud800"])
def test_what_is_no_message_is_not_acknowledged(what: Any, server: StandIn, new_consumer: Make) -> None:
    consumer = new_consumer(server)
    with pytest.raises(errors.ConfigError):
        consumer.ack(what)
    consumer.ack("of nobody")
    wait_for(lambda: server.acked == ["of nobody"])


def test_a_client_that_does_not_run_says_so(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server, start=False), new_consumer(server, start=False)
    for call in (lambda: producer.send("x"), producer.ack, producer.flush, consumer.receive, lambda: consumer.ack("x")):
        with pytest.raises(errors.ClientStateError, match=r"start\(\) first"):
            call()
    producer.close()
    producer.close()
    with pytest.raises(errors.ClientStateError):
        producer.start()
    with pytest.raises(ValueError, match="did not come from a consumer"):
        kapokmq.KapokMessage("c", "d", "t", 0, 0, 0, -1).ack()


def test_calls_from_another_thread(server: StandIn, new_producer: Make, new_consumer: Make) -> None:
    producer, consumer = new_producer(server), new_consumer(server)
    elsewhere = gevent.get_hub().threadpool.apply
    elsewhere(producer.send, ("x",))
    message = elsewhere(consumer.receive, (5,))
    elsewhere(message.ack)
    wait_for(lambda: server.acked == [message.message_code])


def test_the_console_refuses_what_the_server_would_not_understand(server: StandIn) -> None:
    console = kapokmq.Console(server.host, server.port, "test")
    with pytest.raises(errors.MessageError, match="no empty text"):
        console.send("t", "")
    with pytest.raises(errors.MessageError):
        console.send("t", "\ud800")
    with pytest.raises(errors.MessageError):
        console.send("t", "x", -1)
    with pytest.raises(errors.ConfigError):
        console.send("", "x")
    with pytest.raises(errors.ConfigError):
        console.messages(status=3)
    with pytest.raises(errors.ConfigError):
        console.message("")


# -- servers -----------------------------------------------------------------------------------------------------------------


class BadServer(HttpServer):
    """Does what the test says after the handshake, and with ``login`` after a good login."""

    def __init__(self, behave: Callable[[Peer], None], login: bool = False) -> None:
        super().__init__()
        self._behave = behave
        self._login = login
        self.held = Event()

    def serve(self, peer: Peer) -> None:
        _, _, headers, _ = peer.read_head()
        token = accept_token(headers["sec-websocket-key"])
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        peer.sock.sendall(f"{head}{token}\r\n\r\n".encode())
        if self._login:
            peer.send_text(PROMPT)
            peer.message()
            peer.send_text(LOGGED_IN)
        self._behave(peer)
        self.held.wait()


def serve_then_close(*data: bytes) -> Callable[[Peer], None]:
    def behave(peer: Peer) -> None:
        for piece in data:
            peer.sock.sendall(piece)
            gevent.sleep(0.01)
        peer.close()

    return behave


def send_all(*data: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.sock.sendall(b"".join(data))


LOGIN_FAULTS: dict[str, tuple[Callable[[Peer], None], type[Exception]]] = {
    "never prompts": (lambda peer: None, errors.ConnectError),
    "never answers the key": (send_all(frame(TEXT, PROMPT)), errors.ConnectError),
    "prompts for ever": (send_all(frame(TEXT, PROMPT) * 3), errors.RemoteProtocolError),
    "another text": (send_all(frame(TEXT, b"Welcome!")), errors.RemoteProtocolError),
    "success before the key": (send_all(frame(TEXT, LOGGED_IN)), errors.RemoteProtocolError),
    "junk": (send_all(b"\xff" * 40), errors.RemoteProtocolError),
    "masked": (send_all(frame(TEXT, PROMPT, mask=True)), errors.RemoteProtocolError),
    "binary": (send_all(frame(BINARY, PROMPT)), errors.RemoteProtocolError),
    "not UTF-8": (send_all(frame(TEXT, b"Please \xff\xfe")), errors.RemoteProtocolError),
    "continuation of nothing": (send_all(frame(CONTINUATION, b"x")), errors.RemoteProtocolError),
    "closes in the middle of a frame": (serve_then_close(frame(TEXT, PROMPT)[:9]), errors.ConnectionLostError),
    "closes at once": (serve_then_close(), errors.ConnectionLostError),
    "close frame": (send_all(frame(CLOSE, b"\x03\xe8bye")), errors.ConnectionLostError),
}


@BOTH
@pytest.mark.parametrize("fault", LOGIN_FAULTS)
def test_a_server_that_does_not_let_log_in(fault: str, kind: str) -> None:
    behave, error = LOGIN_FAULTS[fault]
    with BadServer(behave) as server:
        client = getattr(kapokmq, kind)(server.host, server.port, "t", "id", "test", connect_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(error):
            client.start()
        assert time.monotonic() - began < 1.0
        client.close()
        wait_for(lambda: len(client._tasks) == 0, timeout=0.5)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", errors.ConnectError),
        (b"\x00\x01\x02 what?\r\n\r\n", errors.RemoteProtocolError),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\nBad Request\n", errors.ConnectError),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", errors.ConnectError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", errors.ConnectError),
        (
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            errors.RemoteProtocolError,
        ),
        (b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", errors.RemoteProtocolError),
        (b"x" * 1_000_000, errors.RemoteProtocolError),
    ],
    ids=["silence", "junk", "400", "404", "200", "bad token", "another upgrade", "endless"],
)
def test_a_server_that_speaks_no_websocket(answer: bytes, error: type[Exception]) -> None:
    held = Event()

    def instead(peer: Peer) -> None:
        peer.sock.sendall(answer)
        held.wait()

    with HttpServer() as server:
        server.instead = instead
        client = kapokmq.Producer(server.host, server.port, "t", "id", "test", connect_timeout=0.3)
        with pytest.raises(error, match=f"127.0.0.1:{server.port}"):
            client.start()
        client.close()


def test_nobody_listens() -> None:
    with HttpServer() as server:
        pass
    client = kapokmq.Consumer(server.host, server.port, "t", "id", "test")
    with pytest.raises(errors.ConnectError, match="cannot connect"):
        client.start()
    with pytest.raises(errors.ConnectError):
        client.connect(0.3)
    client.close()


def test_connect_tries_again_until_its_timeout(server: StandIn) -> None:
    server.kill()
    client = kapokmq.Producer(server.host, server.port, "t", "id", "test", check_time=0.2)
    connecting = gevent.spawn(client.connect, 10)
    gevent.sleep(0.5)
    server.start()
    connecting.get(timeout=5)
    client.send("x")
    client.close()


PUSH = b'{"MessageCode":"c","MessageData":"d","Topic":"t","CreateTime":1,"ConsumedTime":0,"DelayTime":0,"Status":-1}\n'
PUSH_FAULTS = {
    "no JSON": b"hello",
    "a list": b"[]",
    "no code": PUSH.replace(b'"MessageCode":"c",', b""),
    "text as time": PUSH.replace(b'"CreateTime":1', b'"CreateTime":"1"'),
    "number as text": PUSH.replace(b'"d"', b"3"),
    "true as status": PUSH.replace(b"-1", b"true"),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("fault", PUSH_FAULTS)
def test_a_push_that_is_no_message_ends_the_link(fault: str) -> None:
    with (
        BadServer(send_all(frame(TEXT, PUSH), frame(TEXT, PUSH_FAULTS[fault])), login=True) as server,
        kapokmq.Consumer(server.host, server.port, "t", "id", "test", check_time=0.1) as consumer,
    ):
        assert consumer.receive(1).message_data == "d"  # what came before it is good
        wait_for(lambda: isinstance(consumer._server.error, errors.RemoteProtocolError))
        if fault == "no JSON":  # once is enough
            assert consumer.receive(5).message_data == "d"  # of the next link


@pytest.mark.parametrize("said", [b"ok", b"fail", b'{"code":0}'])
def test_an_acknowledgement_of_nothing_ends_the_link(said: bytes) -> None:
    with (
        BadServer(send_all(frame(TEXT, said)), login=True) as server,
        kapokmq.Producer(server.host, server.port, "t", "id", "test") as producer,
    ):
        wait_for(lambda: isinstance(producer._server.error, errors.RemoteProtocolError))


AFTER_LOGIN = {
    "junk": send_all(b"\xff" * 10),
    "closes in the middle of a frame": serve_then_close(frame(TEXT, b"ok")[:3]),
    "close frame": send_all(frame(CLOSE, b"\x03\xeaincorrect mask flag")),
    "drops": serve_then_close(),
}


@pytest.mark.parametrize("fault", AFTER_LOGIN)
def test_a_server_that_breaks_the_link_leaves_sends_unknown(fault: str) -> None:
    def behave(peer: Peer) -> None:
        peer.message()
        AFTER_LOGIN[fault](peer)

    with BadServer(behave, login=True) as server:
        producer = kapokmq.Producer(server.host, server.port, "t", "id", "test")
        producer.start()
        began = time.monotonic()
        with pytest.raises(errors.SendOutcomeUnknown):
            producer.send("x", timeout=3)
        assert time.monotonic() - began < 1.0
        producer.close()


def test_a_server_that_stops_reading(new_producer: Make) -> None:
    with BadServer(lambda peer: None, login=True) as server:
        producer = new_producer(server, ack_timeout=0.3)
        results = [producer.send_async("x" * 1_000_000) for _ in range(20)]
        for result in results:
            with pytest.raises(errors.AckTimeout):
                result.get(timeout=2)
        began = time.monotonic()
        with pytest.raises(errors.TooManyRequestsError):
            for _ in range(20):
                producer.send_async("x" * 1_000_000, timeout=0.1)
        producer.close(0.5)
        assert time.monotonic() - began < 3.0


def test_acks_to_a_server_that_stops_reading(new_consumer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grocketmq.kapokmq.consumer.ACK_TIMEOUT", 0.1)
    with BadServer(lambda peer: None, login=True) as server:
        consumer = new_consumer(server)
        with pytest.raises(errors.TooManyRequestsError, match="does not read"):
            for _ in range(300):
                consumer.ack("x" * 100_000)
        consumer.close(0.5)


def test_pings_are_answered_and_sent() -> None:
    seen: list[int] = []

    def behave(peer: Peer) -> None:
        peer.sock.sendall(frame(PING, b"are you there"))
        while True:
            for one in peer.frames.feed(peer.sock.recv(65536)):
                seen.append(one.opcode)
                if one.opcode == PONG:
                    assert one.payload == b"are you there"
                if one.opcode == PING:
                    peer.sock.sendall(frame(PONG, one.payload))

    with BadServer(behave, login=True) as server:
        producer = kapokmq.Producer(server.host, server.port, "t", "id", "test", ping_interval=0.05)
        producer.start()
        wait_for(lambda: PONG in seen and seen.count(PING) > 5)
        assert producer.connected
        producer.close()


def test_a_half_open_link_is_noticed(server: StandIn, fault_proxy: Any) -> None:
    proxy = fault_proxy(server.address)
    producer = kapokmq.Producer(*proxy.address, "t", "id", "test", ping_interval=0.1, check_time=0.2)
    producer.start()
    proxy.stall()
    wait_for(lambda: not producer.connected, timeout=2)
    proxy.resume()
    producer.send("x", timeout=10)
    producer.close()


def test_bytes_come_one_by_one(server: StandIn, fault_proxy: Any) -> None:
    proxy = fault_proxy(server.address)
    proxy.split(1, pause=0.0)
    with (
        kapokmq.Producer(*proxy.address, "t", "id", "test") as producer,
        kapokmq.Consumer(*proxy.address, "t", "id", "test") as consumer,
    ):
        producer.send("caf\u00e9 \U0001f680")
        assert consumer.receive(5).message_data == "caf\u00e9 \U0001f680"


def test_a_killed_sender_leaves_the_link_in_order(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server)
    victims = [gevent.spawn(producer.send, f"{number} " + "x" * 500_000) for number in range(5)]
    gevent.sleep(0)
    gevent.killall(victims)
    with gevent.Timeout(0.001, False):
        producer.send("5 " + "x" * 500_000)
    server.acking.clear()
    last = producer.send_async("6", timeout=0.3)
    wait_for(lambda: [text[0] for text in server.taken] == list("0123456"))
    with pytest.raises(errors.AckTimeout):
        last.get()  # it was not taken for acknowledged by the ok of another
    assert producer.connected


def test_unsent_messages_of_killed_senders_are_not_sent(server: StandIn, new_producer: Make) -> None:
    producer = new_producer(server, check_time=0.3)
    server.kill()
    wait_for(lambda: not producer.connected)
    victim = gevent.spawn(producer.send, "victim")
    gevent.sleep(0.05)
    victim.kill()
    with pytest.raises(errors.RequestTimeout, match="was not sent") as caught:
        producer.send("late", timeout=0.2)
    assert not isinstance(caught.value, errors.SendOutcomeUnknown)
    server.start()
    producer.send("good", timeout=10)
    assert server.taken == ["good"]


# -- HTTP --------------------------------------------------------------------------------------------------------------------

HTTP_FAULTS: dict[str, tuple[bytes, type[Exception]]] = {
    "silence": (b"", errors.RequestTimeout),
    "junk": (b"\x00\x01\r\n\r\n", errors.RemoteProtocolError),
    "404": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", errors.KapokMQError),
    "no JSON": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", errors.RemoteProtocolError),
    "too short": (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{", errors.RequestTimeout),
    "a text": (b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"x"', errors.RemoteProtocolError),
    "other nodes": (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n[{"Name":1}]', errors.RemoteProtocolError),
}


@pytest.mark.parametrize("fault", HTTP_FAULTS)
def test_http_servers_that_answer_badly(fault: str) -> None:
    answer, error = HTTP_FAULTS[fault]
    held = Event()

    def instead(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(answer)
        held.wait()

    with HttpServer() as server:
        server.instead = instead
        began = time.monotonic()
        with pytest.raises(error, match=f"127.0.0.1:{server.port}"):
            kapokmq.get_nodes("http", server.host, server.port, "test", timeout=0.3)
        with pytest.raises(error):
            kapokmq.Console(server.host, server.port, "test", timeout=0.3).count()
        assert time.monotonic() - began < 1.5


def test_a_chunked_answer_is_read(registry: Registry) -> None:
    def instead(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nnu\r\n")
        gevent.sleep(0.01)
        peer.sock.sendall(b"2\r\nll\r\n0\r\n\r\n")

    registry.instead = instead
    assert kapokmq.get_nodes("http", registry.host, registry.port, "test") == []
