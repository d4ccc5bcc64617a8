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
