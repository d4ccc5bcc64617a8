"""Whole clients over TLS, with the embedded cluster at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent.event import Event

from grocketmq import ConfigError, ConsumeFromWhere, Message, Producer, PushConsumer, RemotingError, TLSConfig, TLSError
from grocketmq.embedded import EmbeddedCluster
from tests.certificates import Authority
from tests.helpers import wait_for

TOPIC = "secured"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def cluster(authority: Authority) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tls=authority.demand(authority.issue().server_context())) as cluster:
        yield cluster


def test_send_and_consume(cluster: EmbeddedCluster, authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("client.example").write(tmp_path, "client")
    tls = TLSConfig(ca_file=authority.write(tmp_path), cert_file=str(own.cert), key_file=str(own.key))
    seen, complete = [], Event()

    def listener(msgs: list[Message]) -> None:
        seen.extend(len(msg.body) for msg in msgs)
        if len(seen) == 20:
            complete.set()

    consumer = PushConsumer("readers", namesrv=cluster.namesrv, tls=tls, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(TOPIC)
    consumer.register_listener(listener)
    with Producer("writers", namesrv=cluster.namesrv, tls=tls, compress_above=1 << 30) as producer:
        for number in range(20):
            producer.send(Message(TOPIC, bytes(1 + number * 100_000)))
        with consumer:
            assert complete.wait(10)
            assert consumer.client_id == producer.client_id, "equal settings share an instance"
    assert sorted(seen) == [1 + number * 100_000 for number in range(20)]


def test_a_context_of_ones_own(cluster: EmbeddedCluster, authority: Authority) -> None:
    context = authority.client_context()
    authority.issue("client.example").certificate.configure_cert(context)
    with Producer("writers", namesrv=cluster.namesrv, tls=context) as producer:
        producer.send(Message(TOPIC, b"hello"))
        assert TOPIC in producer.topic_list()


def test_who_is_not_trusted(cluster: EmbeddedCluster) -> None:
    words = r"cannot connect to .* over TLS: its certificate is refused"
    with Producer("writers", namesrv=cluster.namesrv, tls=True) as producer, pytest.raises(TLSError, match=words):
        producer.topic_list()


def test_who_is_not_trusted_stays_a_tls_error(cluster: EmbeddedCluster) -> None:
    """Also while no new connection is made, since the last one failed a moment ago."""
    with Producer("writers", namesrv=cluster.namesrv, tls=True) as producer:

        def failure() -> str:
            with pytest.raises(TLSError, match="its certificate is refused") as caught:
                producer.topic_list()
            return str(caught.value)

        wait_for(lambda: "the next try may be in" in failure())


def test_without_tls(cluster: EmbeddedCluster) -> None:
    with Producer("writers", namesrv=cluster.namesrv, send_timeout=2) as producer, pytest.raises(RemotingError):
        producer.topic_list()


def test_a_file_that_is_not_there(cluster: EmbeddedCluster) -> None:
    producer = Producer("writers", namesrv=cluster.namesrv, tls=TLSConfig(ca_file="not-there.pem"))
    with pytest.raises(ConfigError, match=r"not-there.pem"):
        producer.start()
