"""The settings of a producer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grocketmq.client.config import check_ranges
from grocketmq.errors import ConfigError
from grocketmq.model.validators import MAX_MESSAGE_BYTES
from grocketmq.wire.compression import require
from grocketmq.wire.flags import CompressionType

__all__ = ["AutoBatch", "Backpressure", "ProducerConfig"]


@dataclass(frozen=True)
class Backpressure:
    """How much may be under way in async sends; who brings more waits, at most for the send's timeout.

    Oneway sends have a bound of their own, which follows from how fast the broker answers.

    :param max_messages: messages under way.
    :param max_bytes: bytes of their bodies.
    """

    max_messages: int = 10_000
    max_bytes: int = 100 * 1024 * 1024

    def __post_init__(self) -> None:
        check_ranges(self, {"max_messages": (1, 1 << 40), "max_bytes": (1, 1 << 40)})


@dataclass(frozen=True)
class AutoBatch:
    """How single messages are gathered into batches.

    :param max_delay: seconds the first message of a batch waits for others.
    :param max_bytes: bytes of a batch; one that is full goes at once, and larger messages go alone.
    :param max_pending_bytes: bytes that wait or are under way; who brings more waits, at most for the send's timeout.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``ProduceAccumulator``.
    """

    max_delay: float = 0.01
    max_bytes: int = 32 * 1024
    max_pending_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        ranges = {"max_delay": (0.0, 30.0), "max_bytes": (1, MAX_MESSAGE_BYTES), "max_pending_bytes": (1, 1 << 40)}
        check_ranges(self, ranges)


@dataclass(frozen=True, kw_only=True)
class ProducerConfig:
    """A producer's own settings.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``DefaultMQProducer``.
    """

    #: How many more tries a failed send gets.
    retries: int = 2
    #: Whether a message that was stored, but not flushed or replicated in time, is sent again to another broker.
    retry_another_broker_when_not_ok: bool = False
    #: Response codes after which another try may help, of ``send`` and ``send_batch``.  Default: those of errors that are
    #: ``retriable``, which are Java's: 1, 2, 14, 16, 17, 204, 205, 501 and 1500.
    retry_response_codes: Iterable[int] | None = None
    #: Whether to stay away from slow and failing brokers for a while: 2 s after a send that took 0.55 s, up to 30 s.
    latency_fault_tolerance: bool = False
    #: With it, whether to probe brokers that gave no answer, which are not chosen before they answer again.
    fault_detector: bool = False
    #: Bodies of at least this many bytes are compressed.
    compress_above: int = 4096
    #: ``"zlib"``, ``"lz4"`` or ``"zstd"``; the last two need their extra, here and at every consumer.
    compression: str = "zlib"
    #: 1 (fast) to 9 (small).
    compress_level: int = 5
    #: The largest body, in bytes, before compression; brokers have a limit of their own.
    max_message_size: int = MAX_MESSAGE_BYTES
    #: How many queues a topic gets that a broker creates with its first message.
    default_topic_queues: int = 4
    #: Seconds for a send, all its tries together; 1000 at most, as more are milliseconds by mistake.  The ``timeout`` of a
    #: single call takes its place and is not looked at so.
    send_timeout: float = 3.0
    #: Seconds for one try; None shares what is left of ``send_timeout`` among the tries that are left.
    try_timeout: float | None = None
    #: Gather the messages of ``send``, ``send_orderly`` and ``send_async`` into batches: True or an :class:`AutoBatch`.
    auto_batch: AutoBatch | bool | None = None
    #: The bound on async sends under way.
    backpressure: Backpressure = Backpressure()

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES)
        if not isinstance(self.backpressure, Backpressure):
            raise ConfigError(f"backpressure is {self.backpressure!r}; it must be a Backpressure")
        if not isinstance(self.auto_batch, AutoBatch):
            if self.auto_batch not in (None, False, True):
                raise ConfigError(f"auto_batch is {self.auto_batch!r}; it must be True or an AutoBatch")
            object.__setattr__(self, "auto_batch", AutoBatch() if self.auto_batch else None)
        if self.retry_response_codes is not None:
            object.__setattr__(self, "retry_response_codes", frozenset(self.retry_response_codes))
        if str(self.compression).upper() not in CompressionType.__members__:
            raise ConfigError(f"compression {self.compression!r} is none of zlib, lz4 and zstd")
        require(self.compression_type)

    @property
    def compression_type(self) -> CompressionType:
        """The compression, as the wire numbers it."""
        return CompressionType[self.compression.upper()]


#: Seconds.
_LONGEST_SEND = 1000.0
_RANGES: dict[str, tuple[float, float]] = {
    "retries": (0, 1000),
    "compress_above": (1, 1 << 31),
    "compress_level": (1, 9),
    "max_message_size": (1, 1 << 31),
    "default_topic_queues": (1, 65535),
    "send_timeout": (0.001, _LONGEST_SEND),
    "try_timeout": (0.001, _LONGEST_SEND),
}
