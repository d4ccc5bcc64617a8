from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer

from tests.faults import FaultProxy
from tests.helpers import wait_for


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, and on an end of stream says ``bye``."""

    def serve(conn: socket.socket, address: object) -> None:
        try:
            while data := conn.recv(65536):
                conn.sendall(data)
            conn.sendall(b"bye")
        except OSError:
            pass

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    yield server.address
    server.stop(timeout=0)


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, timeout=5) as client:
        yield client


def receive(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = conn.recv(size - len(data))
        assert chunk, f"the stream ended after {data!r}"
        data += chunk
    return data


def assert_silent(conn: socket.socket, seconds: float = 0.05) -> None:
    conn.settimeout(seconds)
    with pytest.raises(TimeoutError):
        conn.recv(1)
    conn.settimeout(5)


def test_forwards_both_ways_and_counts(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"hello")
    assert receive(client, 5) == b"hello"
    assert proxy.connections == len(proxy.links) == 1
    assert proxy.received == {"client": 5, "target": 5}
    assert proxy.forwarded == {"client": 5, "target": 5}
    assert proxy.addr == f"127.0.0.1:{proxy.address[1]}"


def test_large_data_arrive_whole(client: socket.socket) -> None:
    data = bytes(range(256)) * 8192
    sender = gevent.spawn(client.sendall, data)
    assert receive(client, len(data)) == data
    sender.get(timeout=5)


def test_end_of_stream_passes_in_one_direction_only(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    assert receive(client, 4) == b"xbye"
    assert client.recv(1) == b""
    wait_for(lambda: not proxy.links)


def test_cut_resets_and_later_connections_work(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert not proxy.links
    with socket.create_connection(proxy.address, timeout=5) as second:
        second.sendall(b"y")
        assert receive(second, 1) == b"y"
    assert proxy.connections == 2


def test_cut_while_stalled(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"x")
    wait_for(lambda: proxy.received["client"] == 1)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_half_close_to_the_client_keeps_the_other_direction(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    proxy.half_close("client")
    assert client.recv(1) == b""
    client.sendall(b"still heard")
    wait_for(lambda: proxy.forwarded["target"] == 12)


def test_half_close_to_the_target(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    proxy.half_close("target")
    assert receive(client, 3) == b"bye"


def test_stall_and_resume(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"a")
    assert receive(client, 1) == b"a"
    proxy.stall()
    client.sendall(b"b")
    assert_silent(client)
    assert proxy.forwarded["target"] == 1
    proxy.resume()
    assert receive(client, 1) == b"b"


def test_split_sends_small_pieces(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.split(3)
    client.sendall(b"0123456789")
    data, sizes = b"", []
    while len(data) < 10:
        piece = client.recv(100)
        sizes.append(len(piece))
        data += piece
    assert data == b"0123456789"
    assert len(sizes) > 1
    proxy.split(None)
    client.sendall(b"0123456789")
    assert receive(client, 10) == b"0123456789"


def test_refuse_and_accept(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"a")
    assert receive(client, 1) == b"a"
    address = proxy.address
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    client.sendall(b"b")
    assert receive(client, 1) == b"b"
    proxy.accept()
    assert proxy.address == address
    with socket.create_connection(address, timeout=5) as second:
        second.sendall(b"c")
        assert receive(second, 1) == b"c"


def test_delay(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(0.1)
    client.sendall(b"a")
    assert_silent(client)
    assert receive(client, 1) == b"a"


def test_drop_after(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.drop_after(4, to="target")
    client.sendall(b"0123456789")
    assert receive(client, 4) == b"0123"
    assert_silent(client)
    client.sendall(b"gone too")
    wait_for(lambda: proxy.received["client"] == 18)
    proxy.drop_after(None, to="target")
    client.sendall(b"heard")
    assert receive(client, 5) == b"heard"


def test_a_dead_target_resets_the_client(proxy: FaultProxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy.target = unused.getsockname()
        with (
            socket.create_connection(proxy.address, timeout=5) as client,
            pytest.raises(ConnectionResetError),
        ):
            client.recv(1)


def test_stop_refuses_and_resets(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"a")
    assert receive(client, 1) == b"a"
    proxy.stop()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, timeout=5)
