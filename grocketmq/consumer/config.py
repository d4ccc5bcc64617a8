"""The settings of push and lite pull consumers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from grocketmq.client.config import check_ranges
from grocketmq.consumer.allocate import AllocateAveragely, AllocateStrategy
from grocketmq.errors import ConfigError
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel

if TYPE_CHECKING:
    from grocketmq.consumer.offset_store import OffsetStore

__all__ = [
    "DEFAULT_MAX_RECONSUME_TIMES",
    "ConsumerConfig",
    "LitePullConsumerConfig",
    "PushConsumerConfig",
    "SimpleConsumerConfig",
]

#: Times a message is delivered again before it goes to the dead letters.
DEFAULT_MAX_RECONSUME_TIMES = 16

_TIMESTAMP_FORMAT = "%Y%m%d%H%M%S"
_FIRST_LOOK_BACK = timedelta(minutes=30)
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ConsumerConfig:
    """Settings of every consumer that is given queues and caches their messages."""

    #: Whether the members of the group share the messages.
    model: MessageModel = MessageModel.CLUSTERING
    #: Where to begin in a queue for which the group has no offset.
    consume_from: ConsumeFromWhere = ConsumeFromWhere.LAST_OFFSET
    #: For ``TIMESTAMP``: ``yyyymmddHHMMSS`` in local time, or a ``datetime``.  Default: half an hour before the start.
    consume_timestamp: str | datetime | None = None
    #: How the group's members share the queues; must be the same at all of them.
    allocate_strategy: AllocateStrategy = field(default_factory=AllocateAveragely)
    #: Messages of one queue kept here at most; above, pulling waits.
    max_cached_messages_per_queue: int = 1000
    #: MiB of bodies of one queue kept here at most.
    max_cached_mib_per_queue: int = 100
    #: Messages kept here at most, over all queues.  Default: no such bound.
    max_cached_messages: int | None = None
    #: MiB of bodies kept here at most, over all queues.  Default: no such bound.
    max_cached_mib: int | None = None
    #: Messages of one topic kept here at most, shared out among all queues of the consumer.  Default: no such bound.
    max_cached_messages_per_topic: int | None = None
    #: Most offsets between the first and the last message of a queue kept here; above, pulling waits.  It slows down a
    #: queue that one slow message holds back, and is no hard bound.
    max_span_concurrently: int = 2000
    #: Where offsets are kept.  Default: at the broker.
    offset_store: OffsetStore | None = None

    def __post_init__(self) -> None:
        check_ranges(self, {name: span for name, span in _RANGES.items() if hasattr(self, name)})
        for name, kind in (("model", MessageModel), ("consume_from", ConsumeFromWhere)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be a {kind.__name__}")
        if self.consume_from is ConsumeFromWhere.TIMESTAMP:
            self.consume_timestamp_ms(0.0)

    @property
    def max_cached_bytes_per_queue(self) -> int:
        """Bytes of bodies of one queue kept here at most."""
        return self.max_cached_mib_per_queue * _MIB

    @property
    def max_cached_bytes(self) -> int | None:
        """Bytes of bodies kept here at most, over all queues."""
        return None if self.max_cached_mib is None else self.max_cached_mib * _MIB

    def consume_timestamp_ms(self, started: float) -> int:
        """The time to begin at, ms since the epoch; never blocks.

        :param started: when the consumer was started, seconds since the epoch.
        :raises ConfigError: when ``consume_timestamp`` is not ``yyyymmddHHMMSS``.
        """
        moment = self.consume_timestamp
        if moment is None:
            moment = datetime.fromtimestamp(started) - _FIRST_LOOK_BACK
        elif isinstance(moment, str):
            try:
                moment = datetime.strptime(moment, _TIMESTAMP_FORMAT)
            except ValueError as error:
                raise ConfigError(f"consume_timestamp {moment!r} is not yyyymmddHHMMSS") from error
        return int(moment.timestamp() * 1000)


@dataclass(frozen=True, kw_only=True)
class PushConsumerConfig(ConsumerConfig):
    """A push consumer's own settings.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPushConsumer``.
    """

    #: Greenlets that run the listener.
    listener_concurrency: int = 20
    #: Messages a second given to the listener, over all its greenlets.  Default: no such bound.
    max_messages_per_second: float | None = None
    #: Messages given to one call of the listener, at most 1024.
    consume_batch_size: int = 1
    #: Messages asked for in one pull, at most 1024; brokers give at most 32 by default.
    pull_batch_size: int = 32
    #: Seconds between an answer with messages and the next pull of its queue.
    pull_interval: float = 0.0
    #: Times a message is delivered again before it goes to the dead letters.  Default: 16, for an orderly listener without end.
    max_reconsume_times: int | None = None
    #: Seconds a listener may hold a message; then it is sent back and delivered again.
    consume_timeout: float = 900.0
    #: Seconds an orderly queue waits after its listener has failed, 0.01 to 30.
    suspend_queue_time: float = 1.0
    #: Delay level of messages that are sent back: 0 grows with each time, -1 goes to the dead letters at once.
    delay_level_when_next_consume: int = 0
    #: Warn, with the stack, of a listener that keeps the event loop from turning for so many seconds; a thread of the
    #: system's looks for it.  Default: nobody looks.
    hub_hold_limit: float | None = None
    #: Seconds that ``shutdown`` waits for listeners, within its own timeout.
    await_termination: float = 10.0
    #: Whether each pull carries the subscription, for brokers that should not rely on the heartbeat's.
    post_subscription_when_pull: bool = False
    #: Whether to pop messages instead of pulling them: brokers share single messages out instead of queues, and keep the
    #: offsets.  For concurrent listeners; needs brokers of release 5.0 or later.
    pop: bool = False
    #: Seconds for which nobody else gets a popped message, 5 to 300; a listener that takes longer has it delivered again.
    pop_invisible_time: float = 60.0
    #: Messages asked for in one pop, at most 32.
    pop_batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pop:
            self._check_pop()

    def _check_pop(self) -> None:
        if self.model is not MessageModel.CLUSTERING:
            raise ConfigError("pop=True shares messages among the group's members; broadcasting needs pop=False")
        if self.consume_from is ConsumeFromWhere.TIMESTAMP:
            raise ConfigError("pop=True begins at the first or the last message; consume_from=TIMESTAMP needs pop=False")
        if self.allocate_strategy.name not in _BROKER_STRATEGIES:
            raise ConfigError(
                f"with pop=True brokers share out the queues, and know the strategies {', '.join(_BROKER_STRATEGIES)} only, "
                f"not {self.allocate_strategy.name}"
            )

    @property
    def reconsume_limit(self) -> int:
        """Times a message is delivered again."""
        return DEFAULT_MAX_RECONSUME_TIMES if self.max_reconsume_times is None else self.max_reconsume_times

    @property
    def orderly_reconsume_limit(self) -> int:
        """Times an orderly message is given again before it goes to the dead letters."""
        return _ENDLESS if self.max_reconsume_times is None else self.max_reconsume_times


@dataclass(frozen=True, kw_only=True)
class LitePullConsumerConfig(ConsumerConfig):
    """A lite pull consumer's own settings.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``DefaultLitePullConsumer``.
    """

    #: Whether polls commit what earlier polls have handed out.
    auto_commit: bool = True
    #: Seconds between two automatic commits.
    auto_commit_interval: float = 5.0
    #: Called with a topic, all its queues and those that are this consumer's now, whenever the latter have changed; in a
    #: greenlet of its own.  Default: nothing.
    on_rebalance: Callable[[str, list[MessageQueue], list[MessageQueue]], object] | None = None
    #: Messages asked for in one pull, and handed out by one poll, at most 1024; brokers give at most 32 by default.
    pull_batch_size: int = 10
    #: Messages kept here at most, over all queues.  None: no such bound.
    max_cached_messages: int | None = 10_000


@dataclass(frozen=True, kw_only=True)
class SimpleConsumerConfig:
    """A simple consumer's own settings."""

    #: Where to begin in a queue for which the group has no offset: at its first message or at its last one.
    consume_from: ConsumeFromWhere = ConsumeFromWhere.LAST_OFFSET

    def __post_init__(self) -> None:
        if self.consume_from not in (ConsumeFromWhere.FIRST_OFFSET, ConsumeFromWhere.LAST_OFFSET):
            raise ConfigError(f"consume_from is {self.consume_from!r}; a simple consumer knows FIRST_OFFSET and LAST_OFFSET")


#: Source: Apache RocketMQ 5.3.3, module broker, class ``QueryAssignmentProcessor``.
_BROKER_STRATEGIES = ("AVG", "AVG_BY_CIRCLE")
_MAX_COUNT = 65535
#: What Java writes for "without end".
_ENDLESS = (1 << 31) - 1
_MAX_SECONDS = 365 * 24 * 3600.0
_RANGES: dict[str, tuple[float, float]] = {
    "listener_concurrency": (1, 10_000),
    "max_messages_per_second": (0.001, 1e9),
    "consume_batch_size": (1, 1024),
    "pull_batch_size": (1, 1024),
    "pull_interval": (0.0, _MAX_SECONDS),
    "max_cached_messages_per_queue": (1, _MAX_COUNT),
    "max_cached_mib_per_queue": (1, 1024),
    "max_cached_messages_per_topic": (1, 6_553_500),
    "max_cached_messages": (1, 6_553_500),
    "max_cached_mib": (1, 1024 * 1024),
    "suspend_queue_time": (0.01, 30.0),
    "max_span_concurrently": (1, _MAX_COUNT),
    "max_reconsume_times": (0, 10_000),
    "consume_timeout": (0.01, _MAX_SECONDS),
    "delay_level_when_next_consume": (-1, 18),
    "await_termination": (0.0, _MAX_SECONDS),
    "hub_hold_limit": (0.001, _MAX_SECONDS),
    "pop_invisible_time": (5.0, 300.0),
    "pop_batch_size": (1, 32),
    "auto_commit_interval": (0.0, _MAX_SECONDS),
}
