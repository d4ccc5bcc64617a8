"""A Locust user that produces and consumes, and reports each step by its own name.

==================  ======================================================================================
type                what it measures, from when to when
==================  ======================================================================================
``RMQ-CONNECT``     starting a client of this process
``RMQ-SEND``        :meth:`RocketMQUser.send`, all its tries
``RMQ-CONSUME``     from the broker's storing of a message to the listener (by two machines' clocks)
``RMQ-E2E``         from the send to the listener, for messages that :meth:`RocketMQUser.expect` waited for
==================  ======================================================================================

The name is the topic.  The users of a process share one producer and one consumer, which has a group of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter, time
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult, Event
from locust import User

from grocketmq import GRocketMQError, Message, MessageExt, Producer, PushConsumer, RequestReplyTimeout, SendResult
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["RocketMQUser"]

#: Messages, the latest, whose times are kept for who will expect them.
_REMEMBERED = 10_000
#: Seconds that a consumer may take to get its queues.
_QUEUES_TIMEOUT = 20.0


class _Process:
    """The clients that the users of one process share."""

    def __init__(self, environment: Any, namesrv: str | None, topics: Sequence[str], options: Mapping[str, Any]) -> None:
        self._environment = environment
        self._waiting: dict[str, AsyncResult] = {}
        self._early: dict[str, float] = {}
        self._ready = Event()
        self._failure: Exception | None = None
        run = uuid.uuid4().hex[:8]
        self.producer = Producer(f"locust_{run}", namesrv=namesrv, **options)
        self.consumer = PushConsumer(f"locust_{run}", namesrv=namesrv) if topics else None
        if self.consumer is not None:
            for topic in topics:
                self.consumer.subscribe(topic)
            self.consumer.register_listener(self._arrived)
        environment.events.test_stop.add_listener(self._stop)
        environment.events.quitting.add_listener(self._stop)
        TaskGroup(f"locust {run}").spawn("start", self._start)

    def wait_ready(self) -> None:
        """Wait until both have started and the consumer has queues, else a message could pass it by."""
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def expect(self, key: str, timeout: float) -> float:
        """Seconds since the epoch when a message with this key came."""
        early = self._early.pop(key, None)
        if early is not None:
            return early
        arrival = self._waiting[key] = AsyncResult()
        try:
            with gevent.Timeout(timeout, RequestReplyTimeout(f"no message with key {key!r} within {timeout:g} s")):
                at: float = arrival.get()
                return at
        finally:
            self._waiting.pop(key, None)

    def _start(self) -> None:
        try:
            with measured(self._environment, "RMQ-CONNECT", "start"):
                self.producer.start()
                if self.consumer is not None:
                    self.consumer.start()
                    with gevent.Timeout(_QUEUES_TIMEOUT, GRocketMQError("the consumer gets no queues; do its topics exist?")):
                        while not self.consumer.queues():
                            gevent.sleep(0.05)
        except Exception as error:
            self._failure = error
        finally:
            self._ready.set()

    def _stop(self, environment: Any, **kwargs: Any) -> None:
        _processes.pop(environment, None)
        if self.consumer is not None:
            self.consumer.shutdown()
        self.producer.shutdown()

    def _arrived(self, msgs: list[MessageExt]) -> None:
        now = time()
        for msg in msgs:
            fire(self._environment, "RMQ-CONSUME", msg.topic, now - msg.store_timestamp / 1000, len(msg.body))
            for key in (msg.keys or "").split():
                if (waiting := self._waiting.get(key)) is not None:
                    waiting.set(now)
                else:
                    _remember(self._early, key, now)


def _remember(times: dict[str, float], key: str, at: float) -> None:
    if len(times) >= _REMEMBERED:
        del times[next(iter(times))]
    times[key] = at


_processes: WeakKeyDictionary[Any, _Process] = WeakKeyDictionary()


class RocketMQUser(User):
    """A user with a client; ``host`` is the name server (``--host``), by default that of the environment.

    ::

        class Shop(RocketMQUser):
            topics = ["orders"]

            @task
            def order(self):
                key = self.send("orders", b"...")
                self.expect("orders", key, timeout=5)
    """

    abstract = True
    #: What the process's consumer subscribes to; none: there is no consumer.
    topics: Sequence[str] = ()
    #: Options of the producer.
    options: Mapping[str, Any] = MappingProxyType({})
    #: Whether all users of a process share one producer and consumer; else each has its own.
    shared = True

    def on_start(self) -> None:
        """Wait for the clients."""
        process = _processes.get(self.environment) if self.shared else None
        if process is None:
            process = _Process(self.environment, self.host, self.topics, self.options)
            if self.shared:
                _processes[self.environment] = process
        self._process = process
        process.wait_ready()
        self._sent: dict[str, float] = {}

    @property
    def producer(self) -> Producer:
        """The producer, for what is not wrapped here; nothing is reported for it."""
        return self._process.producer

    def send(self, topic: str, body: bytes | str, **options: Any) -> str:
        """Send a message, reported as ``RMQ-SEND``; a failure is reported, not raised.

        :param topic: the topic.
        :param body: the body.
        :param options: further arguments of :class:`~grocketmq.model.message.Message`.
        :returns: the message's key, for :meth:`expect`.
        """
        key = uuid.uuid4().hex
        _remember(self._sent, key, time())
        message = Message(topic, body, keys=[key, *options.pop("keys", [])], **options)
        with measured(self.environment, "RMQ-SEND", topic, len(message.body), self.context()):
            result: SendResult = self.producer.send(message)
            assert result.msg_id
        return key

    def expect(self, topic: str, key: str, timeout: float = 10.0) -> None:
        """Wait for a message that was sent, reported as ``RMQ-E2E``; a failure is reported, not raised.

        :param topic: the topic, for the report.
        :param key: what :meth:`send` returned.
        :param timeout: seconds.
        """
        began = self._sent.pop(key, None) or time()
        try:
            arrived = self._process.expect(key, timeout)
        except GRocketMQError as error:
            fire(self.environment, "RMQ-E2E", topic, time() - began, 0, error, self.context())
        else:
            fire(self.environment, "RMQ-E2E", topic, arrived - began, 0, None, self.context())


@contextmanager
def measured(environment: Any, kind: str, name: str, length: int = 0, context: Any = None) -> Iterator[None]:
    """Report how long the block takes; its ``Exception`` is reported, and swallowed for all but ``RMQ-CONNECT``."""
    began = perf_counter()
    try:
        yield
    except Exception as error:
        fire(environment, kind, name, perf_counter() - began, 0, error, context)
        if kind == "RMQ-CONNECT":
            raise
    else:
        fire(environment, kind, name, perf_counter() - began, length, None, context)


def fire(
    environment: Any, kind: str, name: str, seconds: float, length: int, error: Exception | None = None, context: Any = None
) -> None:
    """Tell Locust of one step."""
    environment.events.request.fire(
        request_type=kind,
        name=name,
        response_time=max(0.0, seconds * 1000),
        response_length=length,
        exception=error,
        context=context or {},
        start_time=time() - seconds,
        url=None,
        response=None,
    )
