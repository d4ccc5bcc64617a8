"""A cluster that the servers under test use."""

from collections.abc import Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster
from tests.stacks.topics import DONE, JOBS, TOPIC


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        for topic in (TOPIC, JOBS, DONE):
            cluster.create_topic(topic)
        yield cluster
