"""The demo: send messages of all sorts, consume them, and compare each with what was sent."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from gevent.event import Event

from grocketmq import GRocketMQError, Message, MessageExt, MessageQueue, Producer, PushConsumer, RequestTimeout
from grocketmq.model.properties import RESERVED_NAMES
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["DemoReport", "DemoRun", "demo_message", "difference", "percentile"]

TOPIC = "grocketmq_demo"
QUEUES = 8
#: Seconds without any message sent or received before the demo gives up.
STALLED = 20.0
_LOOK_INTERVAL = 0.1
_RUN, _NUMBER = "demo-run", "demo-number"
_TAGS = ("created", "changed", None)
_WORDS = ("order", "Bestellung", "\u8ba2\u5355", "\u6ce8\u6587", "caf\u00e9", "\U0001f680")


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What a demo found.

    :param messages: how many were to be sent.
    :param sent: how many a broker has stored.
    :param received: how many came, those that came twice counted once.
    :param duplicates: how many came again; at least once is what a cluster promises.
    :param send_seconds: from the first send to the last answer.
    :param total_seconds: from the first send to the last message received.
    :param send_latencies: seconds of each send, sorted.
    :param delivery_latencies: seconds from the send to the listener, sorted.
    :param faults: one line for each message that was not sent, not received, or not as it was sent.
    """

    messages: int
    sent: int
    received: int
    duplicates: int
    send_seconds: float
    total_seconds: float
    send_latencies: list[float]
    delivery_latencies: list[float]
    faults: list[str]

    @property
    def passed(self) -> bool:
        """Whether every message came back exactly as it was sent."""
        return not self.faults and self.received == self.messages

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        again = f" ({self.duplicates} of them more than once)" if self.duplicates else ""
        if self.passed:
            return f"PASSED: all {self.messages} messages came back{again} exactly as sent: body, tags, keys and properties"
        return f"FAILED: {len(self.faults)} faults, {self.received} of {self.messages} messages came back{again}"


class DemoRun:
    """One run of the demo; :attr:`sent` and :attr:`received` tell how far it is.

    It uses the topic ``grocketmq_demo``, and a consumer group of its own so that several can run at the same time.

    :param namesrv: the cluster's name server.
    :param messages: how many messages to send.
    :param callers: greenlets that send.
    """

    def __init__(self, namesrv: str, *, messages: int = 10_000, callers: int = 64) -> None:
        self.messages = messages
        self.sent = 0
        self.received = 0
        self._namesrv = namesrv
        self._callers = callers
        self._run = uuid.uuid4().hex[:8]
        self._messages: list[Message | None] = [None] * messages
        self._sent_at = [0.0] * messages
        self._send_seconds: list[float] = []
        self._delivery_seconds: list[float] = []
        self._arrived: set[int] = set()
        self._duplicates = 0
        self._faults: list[str] = []
        self._last_send = self._last_arrival = 0.0
        self._all_arrived = Event()

    def run(self, watch: Callable[[], None] = lambda: None) -> DemoReport:
        """Do it all; blocks until every message has come back, or nothing has moved for 20 s.

        :param watch: called about ten times a second.
        :raises GRocketMQError: when the cluster cannot be used at all.
        """
        consumer = PushConsumer(f"{TOPIC}_{self._run}", namesrv=self._namesrv)
        consumer.subscribe(TOPIC)
        consumer.register_listener(self.receive)
        tasks = TaskGroup("demo")
        with Producer(TOPIC, namesrv=self._namesrv) as producer:
            producer.create_topic(TOPIC, QUEUES)
            with consumer:
                self._wait_for_queues(consumer, producer.fetch_publish_queues(TOPIC))
                began = perf_counter()
                numbers = iter(range(self.messages))
                for caller in range(self._callers):
                    tasks.spawn(f"caller {caller}", self._send_all, producer, numbers)
                try:
                    self._watch_until_still(watch, tasks)
                finally:
                    tasks.kill()
        return self._report(began)

    def _wait_for_queues(self, consumer: PushConsumer, queues: list[MessageQueue]) -> None:
        """A new group begins at the end of each queue, so it must have taken all of them before the first message."""
        give_up = perf_counter() + STALLED
        while not set(queues) <= set(consumer.queues()):
            if perf_counter() > give_up:
                raise RequestTimeout(f"the consumer did not get the queues of {TOPIC} within {STALLED:g} s")
            consumer.rebalance()
            self._all_arrived.wait(_LOOK_INTERVAL)

    def _send_all(self, producer: Producer, numbers: Iterator[int]) -> None:
        """What each caller does: send the next message until there is none."""
        for number in numbers:
            message = self._messages[number] = demo_message(self._run, number)
            began = self._sent_at[number] = perf_counter()
            try:
                producer.send(message)
            except GRocketMQError as error:
                self._faults.append(f"message {number} was not sent: {error}")
                continue
            self._last_send = perf_counter()
            self._send_seconds.append(self._last_send - began)
            self.sent += 1

    def receive(self, msgs: list[MessageExt]) -> None:
        """The consumer's listener."""
        now = perf_counter()
        for msg in msgs:
            if msg.properties.get(_RUN) != self._run:
                continue  # another run's
            number = int(msg.properties[_NUMBER])
            if number in self._arrived:
                self._duplicates += 1
                continue
            self._arrived.add(number)
            self._delivery_seconds.append(now - self._sent_at[number])
            self._last_arrival = now
            self.received += 1
            sent = self._messages[number]
            wrong = difference(sent, msg) if sent is not None else "it was never sent"
            if wrong:
                self._faults.append(f"message {number} was altered: {wrong}")
        if self.received == self.messages:
            self._all_arrived.set()

    def _watch_until_still(self, watch: Callable[[], None], tasks: TaskGroup) -> None:
        moved_at = perf_counter()
        seen = (0, 0)
        while not self._all_arrived.wait(_LOOK_INTERVAL) or len(tasks):
            watch()
            if (self.sent, self.received) != seen:
                seen = (self.sent, self.received)
                moved_at = perf_counter()
            elif perf_counter() - moved_at > STALLED:
                return

    def _report(self, began: float) -> DemoReport:
        missing = [number for number in range(self.messages) if number not in self._arrived]
        return DemoReport(
            messages=self.messages,
            sent=self.sent,
            received=self.received,
            duplicates=self._duplicates,
            send_seconds=max(self._last_send - began, 1e-9),
            total_seconds=max(self._last_arrival - began, 1e-9),
            send_latencies=sorted(self._send_seconds),
            delivery_latencies=sorted(self._delivery_seconds),
            faults=self._faults + [f"message {number} did not come back" for number in missing],
        )


def demo_message(run: str, number: int) -> Message:
    """A message of the sort that its number decides: short or long, text or bytes, with and without tag and keys.

    :param run: what all messages of one run have in common.
    :param number: its place in the run.
    """
    chance = random.Random(f"{run} {number}")
    word = chance.choice(_WORDS)
    body: bytes | str
    if number % 10 == 0:
        body = f"{word} {number} " * chance.randrange(400, 600)  # long enough to be compressed
    elif number % 2:
        body = chance.randbytes(chance.randrange(1, 1024))
    else:
        body = f"{word} {number}"
    return Message(
        TOPIC,
        body,
        tags=chance.choice(_TAGS),
        keys=[f"{run}-{number}", word][: number % 3],
        properties={_RUN: run, _NUMBER: str(number), "word": word, word: "a = b; c:d"},
    )


def difference(sent: Message, received: MessageExt) -> str | None:
    """How a received message differs from the one that was sent; None when it does not.

    Properties that brokers and clients add under the protocol's own names do not count.

    :param sent: as the producer left it, its id among its properties.
    :param received: as the listener got it.
    """
    for name in ("topic", "body", "tags", "keys", "flag"):
        before, after = getattr(sent, name), getattr(received, name)
        if before != after:
            return f"{name} {before!r:.60} became {after!r:.60}"
    names = sent.properties.keys() | (received.properties.keys() - RESERVED_NAMES)
    for name in sorted(names):
        before, after = sent.properties.get(name), received.properties.get(name)
        if before != after:
            return f"property {name!r} {before!r:.60} became {after!r:.60}"
    return None


def percentile(ordered: list[float], percent: float) -> float:
    """The value below which so many per cent lie; not a number without values.

    :param ordered: sorted.
    :param percent: 0 to 100.
    """
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
