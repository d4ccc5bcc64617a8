"""The pytest plugin, which pytest finds by itself once grocketmq is installed; ``docs/testing.rst`` shows its use.

Everything here works in a suite that is monkey-patched by gevent and in one that is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from grocketmq import Producer
    from grocketmq.embedded import EmbeddedCluster
    from grocketmq.testing import Consumption

__all__ = ["rocketmq_cluster", "rocketmq_consumer_factory", "rocketmq_producer"]

_consumptions = pytest.StashKey["list[Consumption]"]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "rocketmq(**settings): settings of rocketmq_cluster, those of grocketmq.embedded.EmbeddedCluster"
    )


@pytest.fixture
def rocketmq_cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    """A name server and a broker inside this process, new for each test; ``@pytest.mark.rocketmq(brokers=2)`` sets it up.

    ``rocketmq_cluster.namesrv`` is its address, ``rocketmq_cluster.clock.advance(seconds)`` moves its time, and
    ``rocketmq_cluster.control(...)`` makes faults.
    """
    from grocketmq.embedded import EmbeddedCluster

    marker = request.node.get_closest_marker("rocketmq")
    with EmbeddedCluster(**(marker.kwargs if marker is not None else {})) as cluster:
        yield cluster


@pytest.fixture
def rocketmq_producer(rocketmq_cluster: EmbeddedCluster) -> Iterator[Producer]:
    """A started producer at ``rocketmq_cluster``, shut down after the test."""
    from grocketmq import Producer

    with Producer("test-producer", namesrv=rocketmq_cluster.namesrv) as producer:
        yield producer


@pytest.fixture
def rocketmq_consumer_factory(
    request: pytest.FixtureRequest, rocketmq_cluster: EmbeddedCluster
) -> Iterator[Callable[..., Consumption]]:
    """A function that starts push consumers at ``rocketmq_cluster``, which are shut down after the test.

    ``rocketmq_consumer_factory(topic, listener=None, *, group=None, expression="*", orderly=False, may_fail=False, **options)``
    gives a :class:`~grocketmq.testing.Consumption`.  It creates the topic unless it is there, and begins at its first message
    unless the options of :class:`~grocketmq.PushConsumer` say otherwise.  An error in the listener fails the test, unless
    ``may_fail`` is true.
    """
    made: list[Consumption] = request.node.stash.setdefault(_consumptions, [])
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def factory(topic: str, listener: Callable[..., object] | None = None, **options: Any) -> Consumption:
            consumption = _consume(rocketmq_cluster, next(numbers), topic, listener, **options)
            made.append(consumption)
            stack.enter_context(consumption.consumer)
            return consumption

        yield factory


def _consume(
    cluster: EmbeddedCluster,
    number: int,
    topic: str,
    listener: Callable[..., object] | None,
    *,
    group: str | None = None,
    expression: Any = "*",
    orderly: bool = False,
    may_fail: bool = False,
    **options: Any,
) -> Consumption:
    """A consumer that is not started yet, in an instance of its own."""
    from grocketmq import ConsumeFromWhere, PushConsumer
    from grocketmq.testing import Consumption

    if not any(topic in broker.topic_configs for broker in cluster.brokers.values()):
        cluster.create_topic(topic)
    options.setdefault("consume_from", ConsumeFromWhere.FIRST_OFFSET)
    options.setdefault("instance_name", f"consumer-{number}")
    consumption = Consumption(listener, may_fail=may_fail)
    consumption.consumer = PushConsumer(group or f"test-{topic}", namesrv=cluster.namesrv, **options)
    consumption.consumer.subscribe(topic, expression)
    consumption.consumer.register_listener(consumption.listener(), orderly=orderly)
    return consumption


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A listener's error fails the test, even where the test itself was content; else it is shown as the cause."""
    try:
        result = yield
    except Exception as error:
        failure = _failure(item)
        if failure is not None and failure is not error and error.__cause__ is None:
            error.__cause__ = failure
        raise
    failure = _failure(item)
    if failure is not None:
        raise failure
    return result


def _failure(item: pytest.Item) -> BaseException | None:
    failures = (consumption.failure for consumption in item.stash.get(_consumptions, []))
    return next((failure for failure in failures if failure is not None), None)
