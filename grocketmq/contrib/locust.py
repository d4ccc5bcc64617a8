"""A Locust user that produces, consumes and asks, and reports each step by its own name.

==================  ======================================================================================
type                what it measures, from when to when
==================  ======================================================================================
``RMQ-CONNECT``     starting the clients, until the consumer has its queues
``RMQ-SEND``        :meth:`RocketMQUser.send`, all its tries
``RMQ-CONSUME``     from the broker's storing of a message to the listener (by two machines' clocks)
``RMQ-E2E``         from the send to the listener, for messages that :meth:`RocketMQUser.expect` waited for
``RMQ-REQUEST``     :meth:`RocketMQUser.request`, until its reply has come
==================  ======================================================================================

The name is the topic, unless a call gives another.  The users of one class share a producer and a consumer in each process, and
the consumer has a group of its own, new with each test.

A step that fails is reported by the kind of its error and the broker's code (:class:`Failure`), so that Locust's table of
failures stays short, and ends the user's task; the user goes on with the next one.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from time import perf_counter, time
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult, Event
from locust import User
from locust.exception import RescheduleTask

from grocketmq import (
    BrokerError,
    ClientConfig,
    GRocketMQError,
    Message,
    MessageExt,
    Producer,
    PushConsumer,
    RequestReplyTimeout,
    SendError,
    SendStatus,
)
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["Failure", "RocketMQUser", "fire", "measured"]

#: The property that tells when a message was sent, seconds since the epoch.
_SENT_AT = "LOAD_SENT_AT"
#: Messages, the latest, that came before somebody expected them and are kept for him.
_EARLY = 10_000
#: Seconds that a consumer may take to get its queues.
_QUEUES_TIMEOUT = 20.0
#: What the consumer takes of a user's options.
_COMMON = frozenset(field.name for field in fields(ClientConfig) if field.init)


class Failure(Exception):
    """What Locust counts failures by: no ids, times or addresses, which would make each of them another one.

    ``__cause__`` is the error, for listeners of Locust's ``request`` event.
    """

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that an error is."""
        if isinstance(error, Failure):
            return error
        failure = cls(_kind(error))
        failure.__cause__ = error
        return failure


def _kind(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, SendError):
        return f"{name}: {_kind(error.attempts[-1].error)}"
    return f"{name} {error.code}" if isinstance(error, BrokerError) else name


class _Clients:
    """A producer and a consumer, for the users of one class in one process or for a single one."""

    def __init__(self, environment: Any, namesrv: str | None, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        self._environment = environment
        self._waiting: dict[str, AsyncResult] = {}
        self._early: dict[str, float] = {}
        self._ready = Event()
        self._failure: Exception | None = None
        group = f"locust_{uuid.uuid4().hex[:8]}"
        options = {"namesrv": namesrv, **options}
        self.producer = Producer(group, **options)
        self._consumer: PushConsumer | None = None
        if topics:
            self._consumer = PushConsumer(group, **{name: value for name, value in options.items() if name in _COMMON})
            for topic in topics:
                self._consumer.subscribe(topic)
            self._consumer.register_listener(self._arrived)
        self._tasks = TaskGroup(group)
        self._tasks.spawn("start", self._start)

    def wait_ready(self) -> None:
        """Wait until both have started and the consumer has queues, else a message could pass it by."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def expect(self, key: str, timeout: float) -> float:
        """How many seconds a message was on its way, once it has come.

        :raises RequestReplyTimeout: when it does not come in time.
        """
        early = self._early.pop(key, None)
        if early is not None:
            return early
        arrival = self._waiting[key] = AsyncResult()
        try:
            with gevent.Timeout(timeout, RequestReplyTimeout(f"no message with key {key!r} within {timeout:g} s")):
                seconds: float = arrival.get()
                return seconds
        finally:
            self._waiting.pop(key, None)

    def shutdown(self) -> None:
        """End both; blocks as their own ``shutdown`` does."""
        self._tasks.kill()
        if self._consumer is not None:
            self._consumer.shutdown()
        self.producer.shutdown()

    def _start(self) -> None:
        began = perf_counter()
        try:
            self.producer.start()
            if self._consumer is not None:
                self._consumer.start()
                with gevent.Timeout(_QUEUES_TIMEOUT, GRocketMQError("the consumer gets no queues; do its topics exist?")):
                    while not self._consumer.queues():
                        gevent.sleep(0.05)
        except Exception as error:
            self._failure = error
        finally:
            self._ready.set()
        fire(self._environment, "RMQ-CONNECT", "start", perf_counter() - began, error=self._failure)

    def _arrived(self, msgs: list[MessageExt]) -> None:
        now = time()
        for msg in msgs:
            fire(self._environment, "RMQ-CONSUME", msg.topic, now - msg.store_timestamp / 1000, len(msg.body))
            sent_at = msg.properties.get(_SENT_AT)
            if sent_at is not None:
                self._note((msg.keys or "").partition(" ")[0], now - float(sent_at))

    def _note(self, key: str, seconds: float) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.set(seconds)
            return
        if len(self._early) >= _EARLY:
            del self._early[next(iter(self._early))]
        self._early[key] = seconds


#: What the test under way has in each environment, by the class of its users.
_shared: WeakKeyDictionary[Any, dict[type[User], _Clients]] = WeakKeyDictionary()


def _shared_in(environment: Any) -> dict[type[User], _Clients]:
    found = _shared.get(environment)
    if found is None:
        found = _shared[environment] = {}
        environment.events.test_stop.add_listener(_stop)  # not quitting, which comes while users are at work
    return found


def _stop(environment: Any, **kwargs: Any) -> None:
    shared = _shared_in(environment)
    while shared:
        shared.popitem()[1].shutdown()


class RocketMQUser(User):
    """A user with a client; ``host`` is the name server (``--host``), by default that of the environment.

    A subclass with ``on_start`` or ``on_stop`` of its own calls those of this class too.

    ::

        class Shop(RocketMQUser):
            topics = ["orders"]

            @task
            def order(self):
                key = self.send("orders", b"...")
                self.expect("orders", key, timeout=5)

            @task
            def ask(self):
                price = self.request("prices", b"apple", timeout=5).body
    """

    abstract = True
    #: What the consumer subscribes to; none: there is no consumer.
    topics: Sequence[str] = ()
    #: Options of the producer; those that all clients have are the consumer's too.
    options: Mapping[str, Any] = MappingProxyType({})
    #: Whether all users of this class in a process share one producer and consumer; else each has its own.
    shared = True
    #: Statuses of a send that are no failure.
    good_statuses: Collection[SendStatus] = frozenset(SendStatus)

    def on_start(self) -> None:
        """Wait for the clients."""
        if not self.shared:
            self._clients = self._make()
        else:
            shared = _shared_in(self.environment)
            if type(self) not in shared:
                shared[type(self)] = self._make()
            self._clients = shared[type(self)]
        self._clients.wait_ready()

    def on_stop(self) -> None:
        """End clients that are this user's own."""
        if not self.shared:
            self._clients.shutdown()

    @property
    def producer(self) -> Producer:
        """The producer, for what is not wrapped here; nothing is reported for it."""
        return self._clients.producer

    def send(self, topic: str, body: bytes | str, *, name: str | None = None, **options: Any) -> str:
        """Send a message, reported as ``RMQ-SEND``.

        :param topic: the topic.
        :param body: the body.
        :param name: in the report; None for the topic.
        :param options: further arguments of :class:`~grocketmq.model.message.Message`.
        :returns: the message's key, for :meth:`expect`.
        """
        key = uuid.uuid4().hex
        keys = options.pop("keys", ())
        message = Message(topic, body, keys=[key, *(keys.split() if isinstance(keys, str) else keys)], **options)
        with measured(self.environment, "RMQ-SEND", name or topic, len(message.body), self.context()):
            message.properties[_SENT_AT] = f"{time():.6f}"
            status = self.producer.send(message).status
            if status not in self.good_statuses:
                raise Failure(status.name)
        return key

    def expect(self, topic: str, key: str, timeout: float = 10.0, *, name: str | None = None) -> None:
        """Wait for a message that was sent, by this process or another, reported as ``RMQ-E2E``.

        :param topic: the topic, for the report.
        :param key: what :meth:`send` returned.
        :param timeout: seconds.
        :param name: in the report; None for the topic.
        """
        with measured(self.environment, "RMQ-E2E", name or topic, context=self.context()) as report:
            report["response_time"] = self._clients.expect(key, timeout) * 1000

    def request(
        self, topic: str, body: bytes | str, timeout: float = 10.0, *, name: str | None = None, **options: Any
    ) -> MessageExt:
        """Send a message and wait for the reply to it, reported as ``RMQ-REQUEST`` with the reply's length.

        :param topic: the topic.
        :param body: the body.
        :param timeout: seconds, for the send and the reply together.
        :param name: in the report; None for the topic.
        :param options: further arguments of :class:`~grocketmq.model.message.Message`.
        :returns: the reply.
        """
        with measured(self.environment, "RMQ-REQUEST", name or topic, context=self.context()) as report:
            reply = self.producer.request(Message(topic, body, **options), timeout)
            report["response_length"] = len(reply.body)
        return reply

    def _make(self) -> _Clients:
        return _Clients(self.environment, self.host, self.topics, self.options)


@contextmanager
def measured(environment: Any, kind: str, name: str, length: int = 0, context: Any = None) -> Iterator[dict[str, Any]]:
    """Report how long the block takes.

    An ``Exception`` in it is reported as a failure and ends the task, by Locust's ``RescheduleTask``.

    :param environment: the user's.
    :param kind: the type in the report.
    :param name: the name in the report.
    :param length: bytes.
    :param context: what :meth:`User.context` gave.
    :returns: what is reported; the block may set ``response_time`` (ms) and ``response_length``.
    """
    report = {"response_length": length}
    began = perf_counter()
    try:
        yield report
    except Exception as error:
        fire(environment, kind, name, perf_counter() - began, 0, error, context)
        raise RescheduleTask from error
    seconds = report.get("response_time", (perf_counter() - began) * 1000) / 1000
    fire(environment, kind, name, seconds, report["response_length"], None, context)


def fire(
    environment: Any, kind: str, name: str, seconds: float, length: int = 0, error: Exception | None = None, context: Any = None
) -> None:
    """Tell Locust of one step.

    :param environment: the user's.
    :param kind: the type in the report.
    :param name: the name in the report.
    :param seconds: how long it took; below 0, by the clocks of two machines, counts as 0.
    :param length: bytes.
    :param error: why it failed; None if it did not.
    :param context: what :meth:`User.context` gave.
    """
    environment.events.request.fire(
        request_type=kind,
        name=name,
        response_time=max(0.0, seconds * 1000),
        response_length=length,
        exception=None if error is None else Failure.of(error),
        context=context or {},
        start_time=time() - seconds,
        url=None,
        response=None,
    )
