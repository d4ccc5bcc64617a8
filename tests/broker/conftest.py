"""Fixtures for tests against real brokers; every test below this directory is marked ``broker``."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .cluster import DEFAULT_VERSION, UPDATE_BROKER_CONFIG, RealCluster, Unavailable
from .java_driver import JavaDriver

OLD_VERSION = "4.9.7"

#: Clusters that are not left running for the whole session: an idle broker takes a tenth of a processor.  Their tests come
#: first, and each ends with the last test that wants it.
PASSING = ("_fault_cluster", "small_cluster", "secure_cluster", "acl_cluster_497")

_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.broker)
    items.sort(
        key=lambda item: min((number for number, name in enumerate(PASSING) if _wants(item, name)), default=len(PASSING))
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    left = item.session.items[item.session.items.index(item) + 1 :]
    for name in PASSING:
        if name in _passing and not any(_wants(other, name) for other in left):
            _passing.pop(name).stop()


def _wants(item: pytest.Item, name: str) -> bool:
    return name in getattr(item, "fixturenames", ())


#: Those of ``PASSING`` that run.
_passing: dict[str, RealCluster] = {}


def _until_last(request: pytest.FixtureRequest, cluster: RealCluster) -> Iterator[RealCluster]:
    _passing[str(request.fixturename)] = cluster
    yield from _started(cluster)


def _started(cluster: RealCluster) -> Iterator[RealCluster]:
    """Start, hand out and stop a cluster; skip, or with GROCKETMQ_REQUIRE_BROKER=1 fail, where that cannot be."""
    reason = None
    try:
        cluster.start()
    except Unavailable as unavailable:
        reason = str(unavailable)
    if reason and os.environ.get("GROCKETMQ_REQUIRE_BROKER") == "1":
        pytest.fail(f"a real broker is required: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no real broker: {reason}")
    try:
        yield cluster
    finally:
        cluster.stop()


def _driver(cluster: RealCluster) -> Iterator[JavaDriver]:
    with JavaDriver(cluster.version, cluster.namesrv) as driver:
        yield driver


@pytest.fixture(scope="session")
def broker_version() -> str:
    """The release under test: ``GROCKETMQ_BROKER_VERSION``, or the newest that the suite is written for."""
    return os.environ.get("GROCKETMQ_BROKER_VERSION") or DEFAULT_VERSION


@pytest.fixture(scope="session")
def real_cluster(broker_version: str) -> Iterator[RealCluster]:
    """Two brokers shared by all tests, which leave it running; for faults there is ``own_cluster``."""
    yield from _started(RealCluster(broker_version))


@pytest.fixture(scope="session")
def real_cluster_497() -> Iterator[RealCluster]:
    """As ``real_cluster``, of the last 4.9 release that many still run."""
    yield from _started(RealCluster(OLD_VERSION))


@pytest.fixture(scope="session")
def _fault_cluster(request: pytest.FixtureRequest, broker_version: str) -> Iterator[RealCluster]:
    yield from _until_last(request, RealCluster(broker_version))


@pytest.fixture
def own_cluster(_fault_cluster: RealCluster) -> RealCluster:
    """Two brokers that a test may stop, kill and pause; whole again before the next one."""
    _fault_cluster.heal()
    return _fault_cluster


@pytest.fixture(scope="session")
def small_cluster(request: pytest.FixtureRequest, broker_version: str) -> Iterator[RealCluster]:
    """One broker that makes no topic by itself, delays 1 s at every level, asks for transactions of 2 s, takes timer
    messages back, and stores in files of 1 MiB."""
    settings = {
        "autoCreateTopicEnable": False,
        "messageDelayLevel": " ".join(["1s"] * 18),
        "transactionTimeOut": 2000,
        "transactionCheckInterval": 1000,
        "recallMessageEnable": True,
        "mappedFileSizeCommitLog": 1 << 20,
    }
    yield from _until_last(request, RealCluster(broker_version, brokers=1, settings=settings))


#: The account that may do everything, and its secret.
ADMIN = ("admin-account", "secret-of-the-admin")

PLAIN_ACL = f"""
accounts:
  - accessKey: {ADMIN[0]}
    secretKey: {ADMIN[1]}
    admin: true
  - accessKey: clerk-account
    secretKey: secret-of-the-clerk
    admin: false
    defaultTopicPerm: DENY
    defaultGroupPerm: SUB
    topicPerms:
      - clerks-topic=PUB|SUB
"""


@pytest.fixture(scope="session")
def secure_cluster(request: pytest.FixtureRequest, broker_version: str) -> Iterator[RealCluster]:
    """One broker that takes TLS only, and only from known clients who sign their requests."""
    auth = "org.apache.rocketmq.auth"
    settings = {
        "authenticationEnabled": True,
        "authenticationMetadataProvider": f"{auth}.authentication.provider.LocalAuthenticationMetadataProvider",
        "authorizationEnabled": True,
        "authorizationMetadataProvider": f"{auth}.authorization.provider.LocalAuthorizationMetadataProvider",
        "initAuthenticationUser": json.dumps({"username": ADMIN[0], "password": ADMIN[1]}),
        "innerClientAuthenticationCredentials": json.dumps({"accessKey": ADMIN[0], "secretKey": ADMIN[1]}),
        "authenticationWhitelist": str(UPDATE_BROKER_CONFIG),  # the harness makes brokers register by it
        "authorizationWhitelist": str(UPDATE_BROKER_CONFIG),
    }
    yield from _until_last(request, RealCluster(broker_version, brokers=1, settings=settings, tls=True))


@pytest.fixture(scope="session")
def acl_cluster_497(request: pytest.FixtureRequest) -> Iterator[RealCluster]:
    """One broker of 4.9 with the access control of that time."""
    settings = {"aclEnable": True}
    yield from _until_last(request, RealCluster(OLD_VERSION, brokers=1, settings=settings, files={"plain_acl.yml": PLAIN_ACL}))


@pytest.fixture(scope="session")
def java(real_cluster: RealCluster) -> Iterator[JavaDriver]:
    """The Java client at ``real_cluster``."""
    yield from _driver(real_cluster)


@pytest.fixture(scope="session")
def java_497(real_cluster_497: RealCluster) -> Iterator[JavaDriver]:
    """The Java client at ``real_cluster_497``."""
    yield from _driver(real_cluster_497)


@dataclass(frozen=True)
class Pair:
    """A cluster, and the Java client of its release."""

    cluster: RealCluster
    java: JavaDriver


@pytest.fixture(scope="session", params=[("real_cluster", "java"), ("real_cluster_497", "java_497")], ids=["", "497"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Both releases, one after the other."""
    cluster, java = request.param
    return Pair(request.getfixturevalue(cluster), request.getfixturevalue(java))


@pytest.fixture(params=["real_cluster", "real_cluster_497"], ids=["", "497"])
def either_cluster(request: pytest.FixtureRequest) -> RealCluster:
    """Both releases, one after the other, for a test that needs no Java client."""
    cluster: RealCluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(scope="session")
def unique_name() -> Callable[[str], str]:
    """A function that makes names no other test or run uses, valid for topics and groups."""
    run = uuid.uuid4().hex[:6]
    return lambda prefix: f"{prefix}_{run}_{next(_numbers)}"


@pytest.fixture
def topic_name(unique_name: Callable[[str], str]) -> str:
    """A topic's name for this test; ``cluster.create_topic(topic_name)`` makes the topic on all brokers."""
    return unique_name("topic")


@pytest.fixture
def group_name(unique_name: Callable[[str], str]) -> str:
    """A consumer group's name for this test."""
    return unique_name("group")
