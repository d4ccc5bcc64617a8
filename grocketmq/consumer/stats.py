"""What a consumer has done, is doing, and has left to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from grocketmq.model.route import MessageQueue
from grocketmq.runtime.turns import in_turns

__all__ = ["ConsumerStats", "Held", "StatsRecorder", "TopicCounts", "TopicRates"]

#: Seconds between two samples of the counts, from which rates are made.
SAMPLE_INTERVAL = 10.0
#: Rates are those of the last minute, failures those of the last hour.
_RATE_SAMPLES = 6
_HOUR_SAMPLES = 360


@dataclass(slots=True)
class TopicCounts:
    """Counts of one topic since the consumer was started.

    :param pulls: pulls that found messages.
    :param pull_seconds: how long those took, all together.
    :param pulled: messages pulled and wanted.
    :param listener_calls: calls of the listener.
    :param listener_seconds: how long those took, all together.
    :param consumed: messages the listener consumed.
    :param failed: messages the listener did not consume.
    :param sent_back: messages a broker took back, to deliver them again.
    :param expired: messages sent back because a listener held them too long.
    """

    pulls: int = 0
    pull_seconds: float = 0.0
    pulled: int = 0
    listener_calls: int = 0
    listener_seconds: float = 0.0
    consumed: int = 0
    failed: int = 0
    sent_back: int = 0
    expired: int = 0


@dataclass(frozen=True)
class TopicRates:
    """Rates of one topic over the last minute.

    :param pull_seconds: what a pull that found messages took on average.
    :param pulled_per_second: messages pulled.
    :param listener_seconds: what a call of the listener took on average.
    :param consumed_per_second: messages consumed.
    :param failed_per_second: messages that failed.
    :param failed_last_hour: messages that failed within the last hour.
    """

    pull_seconds: float = 0.0
    pulled_per_second: float = 0.0
    listener_seconds: float = 0.0
    consumed_per_second: float = 0.0
    failed_per_second: float = 0.0
    failed_last_hour: int = 0


@dataclass(frozen=True)
class ConsumerStats:
    """A consumer at one moment.

    :param topics: the counts of each topic; those of retried messages stand under the retry topic.
    :param rates: the rates of each topic.
    :param flow_controlled: pulls put off because too much was cached.
    :param cached_messages: messages pulled and not done.
    :param cached_bytes: bytes of their bodies.
    :param lag: for each queue, how many messages the broker had beyond the last pull, plus those cached.
    """

    topics: Mapping[str, TopicCounts] = field(default_factory=dict)
    rates: Mapping[str, TopicRates] = field(default_factory=dict)
    flow_controlled: int = 0
    cached_messages: int = 0
    cached_bytes: int = 0
    lag: Mapping[MessageQueue, int] = field(default_factory=dict)

    @property
    def pulled(self) -> int:
        """Messages pulled and wanted, over all topics."""
        return sum(one.pulled for one in self.topics.values())

    @property
    def consumed(self) -> int:
        """Messages the listener consumed, over all topics."""
        return sum(one.consumed for one in self.topics.values())

    @property
    def failed(self) -> int:
        """Messages the listener did not consume, over all topics."""
        return sum(one.failed for one in self.topics.values())

    @property
    def sent_back(self) -> int:
        """Messages a broker took back, over all topics."""
        return sum(one.sent_back for one in self.topics.values())

    @property
    def expired(self) -> int:
        """Messages sent back because a listener held them too long, over all topics."""
        return sum(one.expired for one in self.topics.values())

    @property
    def listener_calls(self) -> int:
        """Calls of the listener, over all topics."""
        return sum(one.listener_calls for one in self.topics.values())

    @property
    def listener_seconds(self) -> float:
        """Seconds spent in the listener, over all topics and greenlets."""
        return sum(one.listener_seconds for one in self.topics.values())


class Held(Protocol):
    """What a consumer holds of one queue."""

    @property
    def count(self) -> int:
        """Messages fetched and not done."""

    @property
    def size_bytes(self) -> int:
        """Bytes of their bodies."""

    @property
    def accumulated(self) -> int:
        """How many messages the broker had beyond those fetched last."""

    @property
    def dropped(self) -> bool:
        """Whether the queue is no longer this consumer's."""


class StatsRecorder:
    """Counts; only a snapshot may switch."""

    def __init__(self) -> None:
        self.flow_controlled = 0
        self._topics: dict[str, TopicCounts] = {}
        self._samples: deque[tuple[float, dict[str, TopicCounts]]] = deque(maxlen=_HOUR_SAMPLES + 1)

    def topic(self, name: str) -> TopicCounts:
        """The counts of a topic, to add to."""
        counts = self._topics.get(name)
        if counts is None:
            counts = self._topics[name] = TopicCounts()
        return counts

    def sample(self, now: float) -> None:
        """Note the counts; called every ``SAMPLE_INTERVAL``.

        :param now: monotonic seconds.
        """
        self._samples.append((now, self._copy()))

    def rates(self, now: float) -> dict[str, TopicRates]:
        """The rates at this moment."""
        return {topic: self._rate(topic, counts, now) for topic, counts in self._topics.items()}

    def snapshot(self, now: float, queues: Mapping[MessageQueue, Held]) -> ConsumerStats:
        """Everything at this moment, as far as other greenlets that run when there are many queues allow.

        :param now: monotonic seconds.
        :param queues: the consumer's queues.
        """
        count = size_bytes = 0
        lag: dict[MessageQueue, int] = {}
        for queue, held in in_turns(list(queues.items())):
            count += held.count
            size_bytes += held.size_bytes
            # ``accumulated`` counts from the last message pulled to one past the queue's last.
            lag[queue] = max(0, held.accumulated - 1) + held.count
        return ConsumerStats(self._copy(), self.rates(now), self.flow_controlled, count, size_bytes, lag)

    def _copy(self) -> dict[str, TopicCounts]:
        return {topic: replace(counts) for topic, counts in self._topics.items()}

    def _rate(self, topic: str, counts: TopicCounts, now: float) -> TopicRates:
        if not self._samples:
            return TopicRates(failed_last_hour=counts.failed)
        since, samples = self._samples[max(0, len(self._samples) - _RATE_SAMPLES)]
        before = samples.get(topic) or TopicCounts()
        hour_ago = self._samples[0][1].get(topic) or TopicCounts()
        seconds = max(now - since, 1e-3)
        pulls = counts.pulls - before.pulls
        calls = counts.listener_calls - before.listener_calls
        return TopicRates(
            (counts.pull_seconds - before.pull_seconds) / pulls if pulls else 0.0,
            (counts.pulled - before.pulled) / seconds,
            (counts.listener_seconds - before.listener_seconds) / calls if calls else 0.0,
            (counts.consumed - before.consumed) / seconds,
            (counts.failed - before.failed) / seconds,
            counts.failed - hour_ago.failed,
        )
