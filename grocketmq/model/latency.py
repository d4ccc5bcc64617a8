"""How long to stay away from a broker that was slow.

Source: Apache RocketMQ 5.3.3, module client, class ``MQFaultStrategy``.
"""

from __future__ import annotations

__all__ = ["ISOLATION_LATENCY", "LATENCY_STEPS", "PENALTIES", "penalty"]

#: Latencies from which on the penalty of the same index holds, in seconds.
LATENCY_STEPS = (0.05, 0.1, 0.55, 1.8, 3.0, 5.0, 15.0)
#: How long to choose other brokers, in seconds.
PENALTIES = (0.0, 0.0, 2.0, 5.0, 6.0, 10.0, 30.0)
#: A call that failed counts as one that took this many seconds.
ISOLATION_LATENCY = 10.0


def penalty(latency: float) -> float:
    """How long to choose other brokers after a call; never blocks.

    :param latency: how long the call took, in seconds.
    :returns: seconds, 0 for a call that was quick enough.
    """
    for step, seconds in zip(reversed(LATENCY_STEPS), reversed(PENALTIES), strict=True):
        if latency >= step:
            return seconds
    return 0.0
