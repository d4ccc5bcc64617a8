"""The clients of a load test's users in one process, and what is measured at them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from datetime import datetime
from time import monotonic, perf_counter, time
from typing import Any

import gevent
from gevent.event import AsyncResult, Event

from grocketmq import (
    ClientConfig,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    ConsumeFromWhere,
    GRocketMQError,
    Message,
    MessageExt,
    MessageQueue,
    Producer,
    PushConsumer,
    RequestReplyTimeout,
    RequestTimeout,
    RouteNotFoundError,
    SendError,
    SendResult,
    SendTryContext,
    ServiceNotAvailableError,
)
from grocketmq.codes import RequestCode
from grocketmq.contrib.load.ledger import Recorder
from grocketmq.contrib.load.outages import Outages
from grocketmq.contrib.load.reporting import Failure, fire
from grocketmq.model.namespace import is_retry_topic
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand

__all__ = ["Clients", "Watch"]

#: The property that tells when a message was sent, or should have been: seconds since the epoch.
_SENT_AT = "LOAD_SENT_AT"
#: The property that tells which message it is: see :mod:`grocketmq.contrib.load.ledger`.
_STAMP = "LOAD_STAMP"
#: Messages, the latest, that came before somebody expected them and are kept for him.
_EARLY = 10_000
#: Seconds that a consumer may take to get its queues.
_QUEUES_TIMEOUT = 20.0
#: Seconds without a change after which a consumer of several is taken to have its share of the queues.
_SETTLED = 1.0
#: Seconds between two looks at the lag.
_LAG_INTERVAL = 1.0
#: What a consumer goes back beyond its start when others of its group may have begun before: seconds.
_HEAD_START = 30.0
#: Questions for routes that wait for an answer, or never got one.
_MOST_ASKED = 1000
#: What the consumer takes of a user's options.
_COMMON = frozenset(field.name for field in fields(ClientConfig) if field.init)
#: What a broker that has stopped, or a topic without one, makes of a send.
_DOWN = (ConnectError, ConnectionLostError, RequestTimeout, RouteNotFoundError, ServiceNotAvailableError)


class Watch:
    """A hook of all clients of a test in one process: tries, connections, routes, outages of brokers.

    :param environment: Locust's.
    :param outages: of brokers and of topics.
    """

    def __init__(self, environment: Any, outages: Outages) -> None:
        self._environment = environment
        self._outages = outages
        self._asked: dict[int, float] = {}

    def after_try(self, context: SendTryContext) -> None:
        """A try of a send has ended."""
        queue, error = context.message_queue, context.error
        fire(self._environment, "RMQ-TRY", queue.topic, context.seconds, error=error)
        self.note(queue.broker_name, context.seconds, error)

    def note(self, name: str, seconds: float, error: BaseException | None) -> None:
        """A broker or a topic worked, or did not.

        :param name: its name.
        :param seconds: how long that took to see.
        :param error: why not; None if it did.
        """
        if isinstance(error, SendError):
            error = error.attempts[-1].error
        now = monotonic()
        if error is None:
            outage = self._outages.worked(name, now)
            if outage is not None:
                fire(self._environment, "RMQ-OUTAGE", name, outage)
        elif isinstance(error, _DOWN):
            self._outages.failed(name, now - seconds)

    def after_connect(self, address: str, seconds: float, error: GRocketMQError | None) -> None:
        """A connection was made, or could not be."""
        fire(self._environment, "RMQ-CONNECT", address, seconds, error=error)

    def before_request(self, address: str, request: RemotingCommand) -> None:
        """A name server is asked for a route; other requests are none of our business."""
        if request.code == RequestCode.GET_ROUTEINFO_BY_TOPIC:
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            self._asked[id(request)] = perf_counter()

    def after_response(self, address: str, request: RemotingCommand, response: RemotingCommand | None) -> None:
        """It has answered, if only that there is none."""
        if request.code == RequestCode.GET_ROUTEINFO_BY_TOPIC:
            asked, topic = self._asked.pop(id(request), None), (request.ext_fields or {}).get("topic") or ""
            if asked is not None and not is_retry_topic(topic):  # that would be another name for each group
                fire(self._environment, "RMQ-ROUTE", topic, perf_counter() - asked)


class Clients:
    """The producer, the consumer and the account of the users of one class in one process; they are started at once.

    :param user_class: its ``topics``, ``options``, ``shared``, ``one_group`` and ``handle`` are heeded.
    :param environment: Locust's.
    :param namesrv: the name server; None for that of the environment.
    :param run: the run's id.
    :param stream: this process's own.
    :param watch: the hook for all of them.
    """

    def __init__(self, user_class: Any, environment: Any, namesrv: str | None, run: str, stream: str, watch: Watch) -> None:
        name = user_class.__name__
        self._environment = environment
        self._one_group = user_class.one_group
        self._topics: Sequence[str] = user_class.topics
        self._handle: Callable[[MessageExt], object] | None = user_class.handle if user_class.handles() else None
        self._watch = watch
        self._options: Mapping[str, Any] = {
            "namesrv": namesrv,
            **user_class.options,
            "hooks": (*user_class.options.get("hooks", ()), watch),
        }
        self._group = f"locust_{run}_{name}" if self._one_group else f"locust_{run}_{name}_{stream}"
        self.recorder = Recorder(f"{run}-{name}", stream, others=self._one_group)
        self._waiting: dict[str, AsyncResult] = {}
        self._early: OrderedDict[str, float] = OrderedDict()
        self._numbers = itertools.count(1)
        #: The most messages that waited to be consumed.
        self.most_lag = 0
        self._ready = Event()
        #: Why they cannot be used; None once they have started.
        self._failure: Exception | None = Failure("the test ended before the clients had started")
        #: What users share; each has one of its own unless ``shared``.
        self.producer = Producer(self._group, **self._options) if user_class.shared else None
        self._consumer = self._make_consumer() if self._topics else None
        self._tasks = TaskGroup(self._group)
        self._tasks.spawn("start", self._start)

    def _make_consumer(self) -> PushConsumer:
        options = {name: value for name, value in self._options.items() if name in _COMMON}
        if self._one_group:
            options["consume_from"] = ConsumeFromWhere.TIMESTAMP
            options["consume_timestamp"] = datetime.fromtimestamp(time() - _HEAD_START)
        consumer = PushConsumer(self._group, **options)
        for topic in self._topics:
            consumer.subscribe(topic)
        consumer.register_listener(self._arrived)
        return consumer

    # -- start and end -------------------------------------------------------------------------------------------------------

    def wait_ready(self) -> None:
        """Wait until they have started and the consumer has its queues, else a message could pass it by.

        :raises GRocketMQError: when they did not start; its cause is why.  Each user gets one of its own.
        """
        self._ready.wait()
        if self._failure is not None:
            raise GRocketMQError(f"the clients of group {self._group} have not started") from self._failure

    def own_producer(self) -> Producer:
        """One for a single user, with connections of its own, to be started by :meth:`start`."""
        name = f"{self._options.get('instance_name', '')}user{next(self._numbers)}"  # clients of one name share connections
        return Producer(self._group, **{**self._options, "instance_name": name})

    def start(self, name: str, start: Callable[[], object]) -> None:
        """Start a client, reported as ``RMQ-START``; blocks as long as that does."""
        began = perf_counter()
        try:
            start()
        except Exception as error:
            fire(self._environment, "RMQ-START", name, perf_counter() - began, error=error)
            raise
        fire(self._environment, "RMQ-START", name, perf_counter() - began)

    def _start(self) -> None:
        try:
            if self.producer is not None:
                self.start("producer", self.producer.start)
            if self._consumer is not None:
                self.start("consumer", self._start_consumer)
                self._tasks.periodic("look at the lag", _LAG_INTERVAL, self._look_at_lag)
            self._failure = None
        except Exception as error:
            self._failure = error
        finally:
            self._ready.set()

    def _start_consumer(self) -> None:
        assert self._consumer is not None
        consumer = self._consumer
        consumer.start()
        with gevent.Timeout(_QUEUES_TIMEOUT, GRocketMQError("the consumer gets no queues; do its topics exist?")):
            while not (self._routes_known(consumer) if self._one_group else self._has_queues(consumer)):
                gevent.sleep(0.05)
        if self._one_group:  # a queue that moves to another member while there is load has some messages consumed by both
            before = None
            with gevent.Timeout(_QUEUES_TIMEOUT, False):
                while (queues := consumer.queues()) != before:
                    before = queues
                    gevent.sleep(_SETTLED)

    def _has_queues(self, consumer: PushConsumer) -> bool:
        return {queue.topic for queue in consumer.queues()}.issuperset(self._topics)

    def _routes_known(self, consumer: PushConsumer) -> bool:
        """With these, a member of a group may still have no queues: the others have them."""
        try:
            for topic in self._topics:
                consumer.topic_route(topic)
        except _DOWN:
            return False
        return True

    def _look_at_lag(self) -> None:
        assert self._consumer is not None
        self.most_lag = max(self.most_lag, sum(self._consumer.stats().lag.values()))

    def finish(self, drain_timeout: float) -> dict[str, int]:
        """Wait until the consumer has what is stored by now, reported as ``RMQ-DRAIN``, then end them.

        Blocks at most ``drain_timeout`` and as long as their own ``shutdown`` does.

        :param drain_timeout: seconds.
        :returns: how many messages waited in each queue, those with none left out.
        """
        lag: dict[str, int] = {}
        with ExitStack() as ends:  # all of them, in the reverse order, whatever the others raise
            if self.producer is not None:
                ends.callback(self.producer.shutdown)
            if self._consumer is not None:
                ends.callback(self._consumer.shutdown)
            ends.callback(self._ready.set)  # where the start was killed before it began
            ends.callback(self._tasks.kill)
            if self._consumer is not None and self._failure is None:
                lag = self._drain(self._consumer, drain_timeout)
        return lag

    def _drain(self, consumer: PushConsumer, timeout: float) -> dict[str, int]:
        began = perf_counter()
        lag: dict[str, int] = {}
        error: Exception | None = Failure("not drained in time")
        with gevent.Timeout(timeout, False):
            try:
                ends = {queue: consumer.max_offset(queue) for queue in consumer.queues()}
                left = _left(consumer, ends)
                lag = {f"{queue.topic} {queue.broker_name}/{queue.queue_id}": count for queue, count in left.items()}
                while left:
                    gevent.sleep(0.02)
                    left = _left(consumer, ends)
                error = None
            except GRocketMQError as failure:
                error = failure
        fire(self._environment, "RMQ-DRAIN", " ".join(self._topics), perf_counter() - began, error=error)
        return lag

    # -- messages ------------------------------------------------------------------------------------------------------------

    def send(self, producer: Producer, message: Message, late: float) -> SendResult:
        """Send a message with its stamp; blocks as :meth:`Producer.send` does, and raises the same.

        :param late: seconds since it should have been sent.
        """
        properties = message.properties
        properties[_SENT_AT] = f"{time() - late:.6f}"
        number = None
        if message.topic in self._topics:
            number, properties[_STAMP] = self.recorder.begin(len(message.body), ordered=not message.is_delayed)
        stored, began = False, monotonic()
        try:
            result = producer.send(message)
            stored = True
        except Exception as error:
            self._watch.note(message.topic, monotonic() - began, error)
            raise
        finally:
            if number is not None:
                self.recorder.end(number, stored=stored)
        self._watch.note(message.topic, 0.0, None)
        return result

    def expect(self, key: str, timeout: float) -> float:
        """How many seconds a message was on its way, once it has come.

        :raises RequestReplyTimeout: when it does not come in time.
        :raises ConfigError: where it may come to another process.
        """
        if self._one_group:
            raise ConfigError("with one_group a message may come to another process, so it cannot be expected in this one")
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

    def _arrived(self, msgs: list[MessageExt]) -> None:
        now = time()
        for msg in msgs:
            self._note(msg, now)
        if self._handle is not None:
            for msg in msgs:
                self._run_handle(self._handle, msg)

    def _note(self, msg: MessageExt, now: float) -> None:
        topic, origin, size = msg.topic, msg.origin, len(msg.body)
        again = msg.reconsume_times > 0
        fire(self._environment, "RMQ-CONSUME", topic, now - origin.store_timestamp / 1000, size)
        if not again:  # else it was stored anew
            fire(self._environment, "RMQ-STORE", topic, (origin.store_timestamp - origin.born_timestamp) / 1000)
        sent_at, stamp = msg.properties.get(_SENT_AT), msg.properties.get(_STAMP)
        if sent_at is None:
            return
        seconds = now - float(sent_at)
        known = stamp is not None and self.recorder.arrive(stamp, (topic, msg.broker_name, msg.queue_id), size, again=again)
        if not self._one_group:
            self._wake((msg.keys or "").partition(" ")[0], seconds)
        elif known and not again:
            fire(self._environment, "RMQ-E2E", topic, seconds, size)

    def _wake(self, key: str, seconds: float) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.set(seconds)
            return
        if len(self._early) >= _EARLY:
            self._early.popitem(last=False)
        self._early[key] = seconds

    def _run_handle(self, handle: Callable[[MessageExt], object], msg: MessageExt) -> None:
        began = perf_counter()
        try:
            handle(msg)
        except Exception as error:
            fire(self._environment, "RMQ-HANDLE", msg.topic, perf_counter() - began, error=error)
            raise  # has it delivered again
        fire(self._environment, "RMQ-HANDLE", msg.topic, perf_counter() - began)


def _left(consumer: PushConsumer, ends: Mapping[MessageQueue, int]) -> dict[MessageQueue, int]:
    """How many messages of each queue are not consumed; queues that have gone elsewhere are left out."""
    reached: dict[MessageQueue, int] = {}
    for topic in {queue.topic for queue in ends}:
        reached.update(consumer.offsets(topic))
    return {queue: end - reached[queue] for queue, end in ends.items() if queue in reached and reached[queue] < end}
