"""What a consumer has done so far, as plain counts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConsumerStats"]


@dataclass(slots=True)
class ConsumerStats:
    """Counts since the consumer was started.

    :param pulled: messages pulled and wanted.
    :param consumed: messages the listener consumed.
    :param failed: messages the listener did not consume.
    :param sent_back: messages a broker took back, to deliver them again.
    :param expired: messages sent back because a listener held them too long.
    :param flow_controlled: pulls put off because too much was cached.
    :param listener_calls: calls of the listener.
    :param listener_seconds: seconds the listener has taken, over all calls.
    """

    pulled: int = 0
    consumed: int = 0
    failed: int = 0
    sent_back: int = 0
    expired: int = 0
    flow_controlled: int = 0
    listener_calls: int = 0
    listener_seconds: float = 0.0
