"""Name servers found by HTTP, and found again when they move."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.pywsgi import WSGIServer

from grocketmq import ConfigError, ConnectError, Message, Producer, RemoteProtocolError
from grocketmq.client import instance as module
from grocketmq.embedded import EmbeddedCluster
from tests.helpers import wait_for


class AddressBook:
    """An address server: path and query -> what it answers there, 404 for others."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        self._server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)

    def __enter__(self) -> AddressBook:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/rocketmq/nsaddr"

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked = environ["PATH_INFO"] + (f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else "")
        self.asked.append(asked)
        page = self.pages.get(asked)
        start_response("404 Not Found" if page is None else "200 OK", [("Content-Type", "text/plain")])
        return [(page or "").encode()]


@pytest.fixture
def book() -> Iterator[AddressBook]:
    with AddressBook() as book:
        yield book


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMESRV_FETCH_INTERVAL", 0.05)


def test_found_at_the_start(cluster: EmbeddedCluster, book: AddressBook) -> None:
    book.pages["/rocketmq/nsaddr"] = f"{cluster.namesrv}\r\n"
    with Producer("writers", namesrv=book.url) as producer:
        producer.send(Message("found", b"hello"))
    assert book.asked == ["/rocketmq/nsaddr"]


def test_by_the_environment(cluster: EmbeddedCluster, book: AddressBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book.pages["/rocketmq/nsaddr"] = cluster.namesrv
    monkeypatch.setenv("GROCKETMQ_NAMESRV", book.url)
    with Producer("writers") as producer:
        producer.send(Message("found", b"hello"))


def test_a_unit_has_its_own(cluster: EmbeddedCluster, book: AddressBook) -> None:
    book.pages["/rocketmq/nsaddr-eu?nofix=1"] = cluster.namesrv
    with Producer("writers", namesrv=book.url, unit_name="eu") as producer:
        producer.send(Message("found", b"hello"))
        assert str(producer.client_id).endswith("@eu")


@pytest.mark.usefixtures("_often")
def test_name_servers_that_move(cluster: EmbeddedCluster, book: AddressBook) -> None:
    book.pages["/rocketmq/nsaddr"] = cluster.namesrv
    with EmbeddedCluster() as other, Producer("writers", namesrv=book.url) as producer:
        other.create_topic("moved")
        assert "moved" not in producer.topic_list()
        book.pages["/rocketmq/nsaddr"] = other.namesrv
        wait_for(lambda: "moved" in producer.topic_list())
        wait_for(lambda: cluster.namesrv not in producer._instance.remoting.addresses(), message="the old one is left")
        producer.send(Message("moved", b"hello"))


@pytest.mark.usefixtures("_often")
def test_what_is_known_stays(cluster: EmbeddedCluster, book: AddressBook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    book.pages["/rocketmq/nsaddr"] = cluster.namesrv
    with Producer("writers", namesrv=book.url) as producer:
        for page in (None, "", "no address"):
            if page is None:
                del book.pages["/rocketmq/nsaddr"]
            else:
                book.pages["/rocketmq/nsaddr"] = page
            seen = len(book.asked)
            wait_for(lambda seen=seen: len(book.asked) > seen + 1)
        producer.send(Message("found", b"still"))
    assert "those that are known stay" in caplog.text


def test_nothing_to_begin_with(book: AddressBook) -> None:
    with pytest.raises(RemoteProtocolError, match="answered HTTP 404"):
        Producer("writers", namesrv=book.url).start()
    book.pages["/rocketmq/nsaddr"] = "\n"
    with pytest.raises(RemoteProtocolError, match="does not tell name servers"):
        Producer("writers", namesrv=book.url).start()
    with pytest.raises(ConnectError):
        Producer("writers", namesrv="http://127.0.0.1:1/").start()


@pytest.mark.parametrize("namesrv", ["http://", "http://a b/", "http://host:1/;b:2", ["a:1", "http://host/"]])
def test_what_is_no_address_server(namesrv: Any) -> None:
    with pytest.raises(ConfigError):
        Producer("writers", namesrv=namesrv)
