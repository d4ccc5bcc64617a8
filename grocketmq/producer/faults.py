"""Which brokers to stay away from, and for how long: by how slow they were, and by how they failed.

Source: Apache RocketMQ 5.3.3, module client, classes ``MQFaultStrategy``, ``LatencyFaultToleranceImpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from grocketmq.errors import BrokerError, GRocketMQError, RemotingError

__all__ = ["FaultTable", "penalty"]

log = logging.getLogger(__name__)

#: Latencies from which on the penalty of the same index holds, in seconds.
LATENCY_STEPS = (0.05, 0.1, 0.55, 1.8, 3.0, 5.0, 15.0)
#: How long to choose other brokers, in seconds.
PENALTIES = (0.0, 0.0, 2.0, 5.0, 6.0, 10.0, 30.0)
#: A call that failed counts as one that took this many seconds.
ISOLATION_LATENCY = 10.0
#: Seconds between two rounds of the detector, between two probes of one broker, and for the answer to one.
DETECT_ROUND = 3.0
DETECT_INTERVAL = 2.0
DETECT_TIMEOUT = 0.2


def penalty(latency: float) -> float:
    """How long to choose other brokers after a call; never blocks.

    :param latency: how long the call took, in seconds.
    :returns: seconds, 0 for a call that was quick enough.
    """
    for step, seconds in zip(reversed(LATENCY_STEPS), reversed(PENALTIES), strict=True):
        if latency >= step:
            return seconds
    return 0.0


@dataclass(slots=True)
class _Fault:
    """What is known of one broker.

    :param until: when it may be chosen again, on the monotonic clock.
    :param reachable: whether it answered last time; the detector finds out when it does again.
    :param probe_at: when to probe it next.
    """

    until: float = 0.0
    reachable: bool = True
    probe_at: float = 0.0


class FaultTable:
    """How the brokers did lately; nothing in it blocks but :meth:`detect`.

    :param detecting: whether a detector runs.  Only then is a broker that gave no answer kept out until it does: else
        nobody would find out.
    """

    def __init__(self, *, detecting: bool) -> None:
        self._detecting = detecting
        self._faults: dict[str, _Fault] = {}

    def note(self, broker_name: str, seconds: float, error: GRocketMQError | None = None) -> None:
        """Take a call's end into account.

        :param broker_name: who was called.
        :param seconds: how long it took.
        :param error: what it ended with, None for an answer that was wanted.
        """
        reachable, latency = True, seconds
        if isinstance(error, BrokerError):
            reachable, latency = False, ISOLATION_LATENCY
        elif isinstance(error, RemotingError):
            reachable, latency = not self._detecting, ISOLATION_LATENCY
        fault = self._faults.get(broker_name)
        if fault is None:
            fault = self._faults[broker_name] = _Fault()
        if fault.reachable and not reachable:
            log.info("broker %s is not chosen before it answers again: %s", broker_name, error)
        fault.reachable = reachable
        pause = penalty(latency)
        if pause:
            fault.until = max(fault.until, monotonic() + pause)

    def is_available(self, broker_name: str) -> bool:
        """Whether its penalty is over."""
        fault = self._faults.get(broker_name)
        return fault is None or monotonic() >= fault.until

    def is_reachable(self, broker_name: str) -> bool:
        """Whether it answered last time."""
        fault = self._faults.get(broker_name)
        return fault is None or fault.reachable

    def detect(self, address_of: Callable[[str], str | None], answers: Callable[[str], bool]) -> None:
        """One round of the detector: probe the brokers that are due; blocks as long as the probes do.

        :param address_of: a broker's address, None when no route names it any more: then it is forgotten.
        :param answers: whether the broker at an address answers.
        """
        for broker_name, fault in list(self._faults.items()):
            if monotonic() < fault.probe_at:
                continue
            fault.probe_at = monotonic() + DETECT_INTERVAL
            address = address_of(broker_name)
            if address is None:
                self._faults.pop(broker_name, None)
            elif not fault.reachable and answers(address):
                fault.reachable = True
                log.info("broker %s answers again", broker_name)
