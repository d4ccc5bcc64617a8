"""A Locust user that produces, consumes and asks, and reports each step by its own name.

==================  ======================================================================================
type                what it measures, from when to when
==================  ======================================================================================
``RMQ-START``       starting a producer, or a consumer until it has its queues; by that name
``RMQ-CONNECT``     making a connection, name resolution and TLS included; by the address
``RMQ-ROUTE``       from a question for a topic's route to the name server's answer
``RMQ-SEND``        :meth:`RocketMQUser.send`, all its tries
``RMQ-TRY``         each try of a send; one that fails is a failure here though the send may succeed
``RMQ-STORE``       from the send to the broker's storing of a message, by two machines' clocks
``RMQ-CONSUME``     from then to the listener, by two machines' clocks
``RMQ-E2E``         from the send to the listener, for messages that :meth:`RocketMQUser.expect` waited for
``RMQ-HANDLE``      :meth:`RocketMQUser.handle`, where a class has one
``RMQ-REQUEST``     :meth:`RocketMQUser.request`, until its reply has come
``RMQ-OUTAGE``      while a broker did not answer: from the first try at it to the first good one; and while a topic
                    could not be sent to, whatever was tried; by the broker's and by the topic's name
``RMQ-DRAIN``       from the end of the test until consumers had all that was stored
``RMQ-LOST``        a failure when messages were lost
==================  ======================================================================================

The name is the topic unless the table says another, or a call gives one.  In each process the users of one class share a
consumer, and a producer unless ``shared`` is off; the consumer's group is new with each test.

A step that fails is reported by the kind of its error and the broker's code (:class:`Failure`), so that Locust's table of
failures stays short, and ends the user's task; the user goes on with the next one.

When a test stops, the process that reports, of several the master, prints what became of the messages that
:meth:`RocketMQUser.send` sent to ``topics``: lost, duplicates, out of order, and lag (:func:`report`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType
from typing import Any

from locust import User, events

from grocketmq import ConfigError, Message, MessageExt, Producer, SendStatus
from grocketmq.contrib.load.reporting import Failure, fire, measured
from grocketmq.contrib.load.run import Report, clients_of, report, watch

__all__ = ["Failure", "Report", "RocketMQUser", "arrivals", "fire", "measured", "report"]

events.init.add_listener(watch)


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
    #: Whether all users of this class in a process share one producer and its connections; else each has its own.
    shared = True
    #: Whether the consumers of all processes are one group, so that each message comes to one of them only.  Else each of *n*
    #: workers gets all messages.  :meth:`expect` cannot be used then; every message that comes is reported as ``RMQ-E2E``.
    one_group = False
    #: Seconds that consumers may take, when the users have stopped, for what is stored by then.
    drain_timeout = 10.0
    #: Statuses of a send that are no failure.
    good_statuses: Collection[SendStatus] = frozenset(SendStatus)
    #: With :func:`arrivals`: when the last task was due, and the same until it has sent something, on ``perf_counter``'s clock.
    _timetable: float | None = None
    _due: float | None = None

    @classmethod
    def handle(cls, msg: MessageExt) -> None:
        """What to do with each message that comes; a subclass may have its own, which is reported as ``RMQ-HANDLE``.

        It may block.  An exception is a failure, and has the message delivered again.

        :param msg: the message.
        """

    @classmethod
    def handles(cls) -> bool:
        """Whether this class has a :meth:`handle` of its own."""
        return cls.handle.__func__ is not RocketMQUser.handle.__func__  # type: ignore[attr-defined]

    def on_start(self) -> None:
        """Wait for the clients."""
        self._clients = clients_of(self)
        self._producer = self._clients.producer or self._clients.own_producer()
        self._clients.wait_ready()
        if not self.shared:
            self._clients.start("producer", self._producer.start)

    def on_stop(self) -> None:
        """End clients that are this user's own."""
        if not self.shared and hasattr(self, "_producer"):  # else it was stopped while it waited for the clients
            self._producer.shutdown()

    @property
    def producer(self) -> Producer:
        """The producer, for what is not wrapped here; only its tries are reported."""
        return self._producer

    def send(self, topic: str, body: bytes | str, *, name: str | None = None, **options: Any) -> str:
        """Send a message, reported as ``RMQ-SEND``.

        With :func:`arrivals` the first one of a task counts from when the task should have begun.

        :param topic: the topic.
        :param body: the body.
        :param name: in the report; None for the topic.
        :param options: further arguments of :class:`~grocketmq.model.message.Message`.
        :returns: the message's key, for :meth:`expect`.
        """
        key = uuid.uuid4().hex
        keys = options.pop("keys", ())
        message = Message(topic, body, keys=[key, *(keys.split() if isinstance(keys, str) else keys)], **options)
        late = self._take_lateness()
        with measured(self.environment, "RMQ-SEND", name or topic, len(message.body), self.context(), late):
            status = self._clients.send(self._producer, message, late).status
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
        with measured(self.environment, "RMQ-E2E", name or topic, context=self.context()) as told:
            told["response_time"] = self._clients.expect(key, timeout) * 1000

    def request(
        self, topic: str, body: bytes | str, timeout: float = 10.0, *, name: str | None = None, **options: Any
    ) -> MessageExt:
        """Send a message and wait for the reply to it, reported as ``RMQ-REQUEST`` with the reply's length.

        With :func:`arrivals` as :meth:`send`.

        :param topic: the topic.
        :param body: the body.
        :param timeout: seconds, for the send and the reply together.
        :param name: in the report; None for the topic.
        :param options: further arguments of :class:`~grocketmq.model.message.Message`.
        :returns: the reply.
        """
        late = self._take_lateness()
        with measured(self.environment, "RMQ-REQUEST", name or topic, context=self.context(), late=late) as told:
            reply = self._producer.request(Message(topic, body, **options), timeout)
            told["response_length"] = len(reply.body)
        return reply

    def _take_lateness(self) -> float:
        """Seconds that the task began late; once a task."""
        due, self._due = self._due, None
        return 0.0 if due is None else max(0.0, perf_counter() - due)


def arrivals(per_second: float) -> Callable[[Any], float]:
    """A ``wait_time`` by a timetable: a user's tasks are due at equal intervals, however long each takes.

    One that took too long makes the next ones begin late, at once after each other, until the timetable is kept again; and
    what they report counts from when they were due.  So a broker that stands still for 5 s shows in as many measurements as
    there would have been users at it, and not as one slow send and a lower rate (coordinated omission).

    ::

        class Shop(RocketMQUser):
            wait_time = arrivals(0.1)

    :param per_second: tasks of each user a second.
    """
    if not per_second > 0:
        raise ConfigError(f"arrivals of {per_second!r} tasks a second; it must be more than 0")

    def wait_time(self: Any) -> float:
        user = getattr(self, "user", self)  # of a task set
        now = perf_counter()
        user._due = user._timetable = (now if user._timetable is None else user._timetable) + 1 / per_second
        return max(0.0, float(user._due) - now)

    return wait_time
