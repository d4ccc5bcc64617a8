"""Stand-ins for name servers and brokers, and the routes they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.client.routes import RouteTable
from grocketmq.errors import ConnectError, RouteNotFoundError
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.route import BrokerData, MessageQueue, Permission, QueueData, TopicPublishInfo, TopicRouteData
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.bodies import ConsumerData
from grocketmq.wire.command import RemotingCommand

NAMESRV = "127.0.0.1:9876"
#: An answer: a value, an error to raise, or a function of the call's arguments.
Answer = Any


def route(*brokers: str, queues: int = 2, perm: int = Permission.READ | Permission.WRITE) -> TopicRouteData:
    """A route over brokers, each with a master at ``<name>:10911``."""
    return TopicRouteData(
        tuple(QueueData(name, queues, queues, perm) for name in brokers),
        tuple(BrokerData(name, {0: f"{name}:10911"}, "C") for name in brokers),
    )


def give(answer: Answer, *args: Any) -> Any:
    """Hand out a scripted answer."""
    if callable(answer):
        answer = answer(*args)
    if isinstance(answer, BaseException):
        raise answer
    return answer


class FakeRemoting:
    """Answers by address; who is not listed cannot be reached."""

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[tuple[str, int, float]] = []
        self.connected: list[str] = []

    def addresses(self) -> list[str]:
        return self.connected

    def invoke(self, address: str, request: RemotingCommand, timeout: float) -> RemotingCommand:
        self.calls.append((address, request.code, timeout))
        return give(self.answers.get(address, ConnectError(f"{address} refused")), request)

    def forget(self, address: str) -> None:
        self.connected = [one for one in self.connected if one != address]

    def asked(self) -> list[str]:
        return [address for address, _, _ in self.calls]


class FakeAPI:
    """The calls of ``ClientAPI``: each is noted, and answered from ``answers`` by the call's name.

    ``routes`` answers ``topic_route``.
    """

    def __init__(self, **answers: Answer) -> None:
        self.routes: dict[str, TopicRouteData] = {}
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []
        self.pause = 0.0

    def topic_route(self, topic: str, timeout: float = 3.0) -> TopicRouteData:
        self.calls.append(("topic_route", topic))
        gevent.sleep(self.pause)
        if "topic_route" in self.answers:
            return give(self.answers["topic_route"], topic)
        if topic not in self.routes:
            raise RouteNotFoundError(topic)
        return self.routes[topic]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, *args, *kwargs.values()))
            return give(self.answers.get(name), *args)

        return call

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The calls of one name, without it."""
        return [call[1:] for call in self.calls if call[0] == name]


class FakeInstance:
    """An instance with a fixed route for each topic, no tasks of its own, and calls that go to the fake."""

    client_id = "me"
    namespace = None

    def __init__(self, api: FakeAPI | None = None, **routes: TopicRouteData) -> None:
        self.api = api or FakeAPI()
        self.routes = RouteTable()
        for topic, known in routes.items():
            self.routes.update(topic, known)
        self.tasks = TaskGroup("instance")
        self.unique_ids = UniqueIdGenerator(b"\x7f\0\0\1", 1, 1)
        self.members: list[Any] = []
        self.events: list[str] = []

    def publish_info(self, topic: str, default_queues: int, deadline: Deadline) -> TopicPublishInfo:
        info = self.routes.publish.get(topic)
        if info is None or not info.queues:
            raise RouteNotFoundError(topic)
        return info

    def master_address(self, queue: MessageQueue, deadline: Deadline) -> str:
        deadline.check(f"find broker {queue.broker_name}")
        address = self.routes.master(queue.broker_name)
        if address is None:
            raise RouteNotFoundError(queue.topic, "no master")
        return address

    send_address = master_address

    def refresh_route(self, topic: str, timeout: float = 3.0) -> bool:
        self.events.append(f"refresh {topic}")
        return False

    def find_routes(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self.refresh_route(topic)

    def register_producer(self, member: Any) -> None:
        self.members.append(member)

    unregister_producer = unregister_consumer = lambda self, member: self.members.remove(member)
    register_consumer = register_producer

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name not in ("heartbeat_now", "heartbeat_soon", "rebalance_soon", "refresh_routes_soon"):
            raise AttributeError(name)
        return lambda: self.events.append(name)


class FakeManager:
    """Gives every client the same instance."""

    def __init__(self, instance: FakeInstance) -> None:
        self._instance = instance
        self.released = 0

    def instance(self, config: ClientConfig) -> FakeInstance:
        return self._instance

    def release(self, instance: FakeInstance) -> None:
        self.released += 1


class FakeMember:
    """A producer or consumer, as an instance sees it."""

    def __init__(self, group: str, topics: Iterable[str] = (), data: ConsumerData | None = None) -> None:
        self.group = group
        self.wanted = list(topics)
        self.data = data or ConsumerData(group)
        self.rebalances = 0
        self.persists = 0
        self.rebalance_answer: Answer = True

    def topics(self) -> list[str]:
        return self.wanted

    def heartbeat_data(self) -> ConsumerData:
        return self.data

    def rebalance(self) -> bool:
        self.rebalances += 1
        return give(self.rebalance_answer)

    def persist_offsets(self) -> None:
        self.persists += 1


@contextmanager
def instance_with(api: FakeAPI, **options: Any) -> Iterator[ClientInstance]:
    """An instance whose calls go to the fake; its scheduled tasks sleep unless they are woken."""
    instance = ClientInstance(ClientConfig(namesrv=NAMESRV, **options))
    instance.api = instance.heartbeats.api = api  # type: ignore[assignment]
    try:
        yield instance
    finally:
        instance.shutdown(0.5)
