"""The settings of a push consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from grocketmq.consumer.allocate import AllocateAveragely, AllocateStrategy
from grocketmq.errors import ConfigError
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel

if TYPE_CHECKING:
    from grocketmq.consumer.offset_store import OffsetStore

__all__ = ["DEFAULT_MAX_RECONSUME_TIMES", "PushConsumerConfig"]

#: Times a message is delivered again before it goes to the dead letters.
DEFAULT_MAX_RECONSUME_TIMES = 16

_TIMESTAMP_FORMAT = "%Y%m%d%H%M%S"
_FIRST_LOOK_BACK = timedelta(minutes=30)
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class PushConsumerConfig:
    """A push consumer's own settings.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPushConsumer``.
    """

    #: Whether the members of the group share the messages.
    model: MessageModel = MessageModel.CLUSTERING
    #: Where to begin in a queue for which the group has no offset.
    consume_from: ConsumeFromWhere = ConsumeFromWhere.LAST_OFFSET
    #: For ``TIMESTAMP``: ``yyyymmddHHMMSS`` in local time, or a ``datetime``.  Default: half an hour before the start.
    consume_timestamp: str | datetime | None = None
    #: How the group's members share the queues; must be the same at all of them.
    allocate_strategy: AllocateStrategy = field(default_factory=AllocateAveragely)
    #: Greenlets that run the listener.
    listener_concurrency: int = 20
    #: Messages given to one call of the listener, at most 1024.
    consume_batch_size: int = 1
    #: Messages asked for in one pull, at most 1024; brokers give at most 32 by default.
    pull_batch_size: int = 32
    #: Seconds between an answer with messages and the next pull of its queue.
    pull_interval: float = 0.0
    #: Messages of one queue kept here at most; above, pulling waits.
    max_cached_messages_per_queue: int = 1000
    #: MiB of bodies of one queue kept here at most.
    max_cached_mib_per_queue: int = 100
    #: Messages of one topic kept here at most, shared out among its queues.  Default: no such bound.
    max_cached_messages_per_topic: int | None = None
    #: Most offsets between the first and the last message of a queue kept here: a slow message cannot be outrun by more.
    max_span_concurrently: int = 2000
    #: Times a message is delivered again before it goes to the dead letters.  Default: 16.
    max_reconsume_times: int | None = None
    #: Seconds a listener may hold a message; then it is sent back and delivered again.
    consume_timeout: float = 900.0
    #: Delay level of messages that are sent back: 0 grows with each time, -1 goes to the dead letters at once.
    delay_level_when_next_consume: int = 0
    #: Seconds that ``shutdown`` waits for listeners, within its own timeout.
    await_termination: float = 10.0
    #: Where offsets are kept.  Default: at the broker.
    offset_store: OffsetStore | None = None
    #: Whether each pull carries the subscription, for brokers that should not rely on the heartbeat's.
    post_subscription_when_pull: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{name} is {value!r}; it must be within {least}..{most}")
        for name, kind in (("model", MessageModel), ("consume_from", ConsumeFromWhere)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be a {kind.__name__}")
        if self.consume_from is ConsumeFromWhere.TIMESTAMP:
            self.consume_timestamp_ms(0.0)

    @property
    def reconsume_limit(self) -> int:
        """Times a message is delivered again."""
        return DEFAULT_MAX_RECONSUME_TIMES if self.max_reconsume_times is None else self.max_reconsume_times

    @property
    def max_cached_bytes_per_queue(self) -> int:
        """Bytes of bodies of one queue kept here at most."""
        return self.max_cached_mib_per_queue * _MIB

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


_MAX_COUNT = 65535
_MAX_SECONDS = 365 * 24 * 3600.0
_RANGES: dict[str, tuple[float, float]] = {
    "listener_concurrency": (1, 10_000),
    "consume_batch_size": (1, 1024),
    "pull_batch_size": (1, 1024),
    "pull_interval": (0, _MAX_SECONDS),
    "max_cached_messages_per_queue": (1, _MAX_COUNT),
    "max_cached_mib_per_queue": (1, 1024),
    "max_cached_messages_per_topic": (1, 6_553_500),
    "max_span_concurrently": (1, _MAX_COUNT),
    "max_reconsume_times": (-1, 10_000),
    "consume_timeout": (0.01, _MAX_SECONDS),
    "delay_level_when_next_consume": (-1, 18),
    "await_termination": (0, _MAX_SECONDS),
}
