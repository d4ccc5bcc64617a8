"""Real brokers that ask who is there: by certificates, by signatures."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grocketmq import (
    ConnectError,
    ConnectionLostError,
    Credentials,
    Message,
    NoPermissionError,
    RemotingError,
    TLSConfig,
    TLSError,
)
from tests.certificates import Authority

from .clients import Inbox, consuming, producing
from .cluster import RealCluster
from .conftest import ADMIN
from .java_driver import JavaDriver

#: Small, of more than one TLS record, and larger than a socket's buffer.
BODIES = [b"hello", bytes(range(256)) * 400, b"again and again " * 1000, bytes(range(255)) * 12_000]


def tls_of(cluster: RealCluster, **other: Any) -> TLSConfig:
    files = cluster.tls
    assert files is not None
    settings = {"ca_file": files.ca_file, "cert_file": str(files.client.cert), "key_file": str(files.client.key), **other}
    return TLSConfig(**settings)


@pytest.fixture(scope="module")
def admin() -> Credentials:
    return Credentials(*ADMIN)


@pytest.fixture(scope="module")
def secure_java(secure_cluster: RealCluster) -> Iterator[JavaDriver]:
    files = secure_cluster.tls
    assert files is not None
    options = (*files.jvm_options(), f"-Ddriver.accessKey={ADMIN[0]}", f"-Ddriver.secretKey={ADMIN[1]}")
    with JavaDriver(secure_cluster.version, secure_cluster.namesrv, options) as driver:
        yield driver


def test_both_ways_with_java(
    secure_cluster: RealCluster, secure_java: JavaDriver, admin: Credentials, unique_name: Any, topic_name: str
) -> None:
    secured = {"tls": tls_of(secure_cluster), "credentials": admin}
    inbox = Inbox()
    with producing(secure_cluster, compress_above=1 << 30, **secured) as producer:
        producer.create_topic(topic_name, queues=2)
        for body in BODIES:
            producer.send(Message(topic_name, body))
    secure_java.send(topic_name, BODIES, compress_over=1 << 30)
    with (
        secure_java.consume(unique_name("group"), topic_name) as consumer,
        consuming(secure_cluster, unique_name("group"), topic_name, inbox, **secured),
    ):
        assert sorted(message.body for message in inbox.wait(8)) == sorted(BODIES * 2)
        assert sorted(message.body for message in consumer.wait(8)) == sorted(BODIES * 2)


def test_without_tls(secure_cluster: RealCluster) -> None:
    with producing(secure_cluster) as producer, pytest.raises((ConnectionLostError, ConnectError)):
        producer.topic_list()


def test_without_a_client_certificate(secure_cluster: RealCluster) -> None:
    tls = tls_of(secure_cluster, cert_file=None, key_file=None)
    with producing(secure_cluster, tls=tls) as producer, pytest.raises(RemotingError):
        producer.topic_list()


@pytest.mark.parametrize(
    ("kind", "words"), [("wrong name", "for another host"), ("unknown authority", "authority is not trusted")]
)
def test_the_brokers_certificate_is_refused(secure_cluster: RealCluster, tmp_path: Path, kind: str, words: str) -> None:
    if kind == "wrong name":
        tls = tls_of(secure_cluster, server_name="elsewhere.example")
    else:
        tls = tls_of(secure_cluster, ca_file=Authority().write(tmp_path))
    with producing(secure_cluster, tls=tls) as producer, pytest.raises(TLSError, match=words):
        producer.topic_list()


@pytest.mark.parametrize(
    "credentials",
    [None, Credentials(ADMIN[0], "not-the-secret"), Credentials("nobody", "not-the-secret")],
    ids=["none", "wrong secret", "unknown account"],
)
def test_wrong_keys(
    secure_cluster: RealCluster, caplog: pytest.LogCaptureFixture, topic_name: str, credentials: Credentials | None
) -> None:
    caplog.set_level(logging.DEBUG)
    with producing(secure_cluster, tls=tls_of(secure_cluster), credentials=credentials, retries=0) as producer:
        refused(producer, topic_name)
    assert "not-the-secret" not in caplog.text


def refused(producer: Any, topic: str) -> None:
    """Everything that it tries, and nothing that is raised holds the secret."""
    with pytest.raises(NoPermissionError) as sending:
        producer.send(Message(topic, b"hello"))
    with pytest.raises(NoPermissionError) as creating:
        producer.create_topic(topic)
    for caught in (sending, creating):
        assert "not-the-secret" not in "".join(traceback.format_exception(caught.value))
    assert "not-the-secret" not in repr(producer) + repr(producer.config) + repr(producer._instance)


# Release 4.9


def test_signed_for_an_old_broker(acl_cluster_497: RealCluster, admin: Credentials, topic_name: str, group_name: str) -> None:
    inbox = Inbox()
    with producing(acl_cluster_497, credentials=admin) as producer:
        producer.create_topic(topic_name, queues=2)
        for number, body in enumerate(BODIES):
            producer.send(Message(topic_name, body, tags="t", keys=[str(number)], properties={"名": "值"}))
        producer.send_oneway(Message(topic_name, b"oneway"))
        producer.send_batch([Message(topic_name, b"one"), Message(topic_name, b"two")])
        with consuming(acl_cluster_497, group_name, topic_name, inbox, credentials=admin):
            assert sorted(message.body for message in inbox.wait(7)) == sorted([*BODIES, b"oneway", b"one", b"two"])


@pytest.mark.parametrize(
    "credentials",
    [None, Credentials(ADMIN[0], "not-the-secret"), Credentials("nobody-known", "not-the-secret")],
    ids=["none", "wrong secret", "unknown account"],
)
def test_wrong_keys_at_an_old_broker(
    acl_cluster_497: RealCluster, caplog: pytest.LogCaptureFixture, topic_name: str, credentials: Credentials | None
) -> None:
    caplog.set_level(logging.DEBUG)
    with producing(acl_cluster_497, credentials=credentials, retries=0) as producer:
        refused(producer, topic_name)
    assert "not-the-secret" not in caplog.text


def test_an_account_with_a_topic_of_its_own(acl_cluster_497: RealCluster, admin: Credentials, topic_name: str) -> None:
    with producing(acl_cluster_497, credentials=admin) as producer:
        producer.create_topic("clerks-topic", queues=1)
        producer.create_topic(topic_name, queues=1)
    clerk = Credentials("clerk-account", "secret-of-the-clerk")
    with producing(acl_cluster_497, credentials=clerk, retries=0) as producer:
        producer.send(Message("clerks-topic", b"allowed"))
        with pytest.raises(NoPermissionError):
            producer.send(Message(topic_name, b"not allowed"))
