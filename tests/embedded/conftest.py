"""A cluster for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.embedded.raw import RawClient


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        yield cluster


@pytest.fixture
def raw(cluster: EmbeddedCluster) -> Iterator[RawClient]:
    client = RawClient(cluster.broker_address("broker-a"))
    yield client
    client.close()


@pytest.fixture
def other(cluster: EmbeddedCluster) -> Iterator[RawClient]:
    """A second client."""
    client = RawClient(cluster.broker_address("broker-a"))
    yield client
    client.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients do, or try again, after a second is done at once, for tests of what comes of it."""
    for name in ("client.instance.REBALANCE_SOON", "client.instance.FIRST_HEARTBEAT", "consumer.pull_service.AFTER_ERROR"):
        monkeypatch.setattr(f"grocketmq.{name}", 0.05)
