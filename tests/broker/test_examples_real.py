"""Every example, on a real cluster."""

import pytest

from tests.examples.cases import EXPECTED, check_example

from .cluster import RealCluster


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, real_cluster: RealCluster) -> None:
    check_example(name, real_cluster.namesrv)
