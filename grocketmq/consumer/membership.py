"""``Membership``: what all parts of one consumer have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.config import ConsumerConfig
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.hooks import Hooks
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["Membership"]

S = TypeVar("S", bound=ConsumerConfig, covariant=True)


@dataclass(frozen=True)
class Membership(Generic[S]):
    """One consumer's place in its group; made at its start.

    :param group: the group.
    :param instance: the consumer's instance.
    :param settings: its settings.
    :param subscriptions: what it is subscribed to.
    :param tasks: owns its greenlets.
    :param stats: counts.
    :param hooks: what looks at its messages.
    """

    group: str
    instance: ClientInstance
    settings: S
    subscriptions: Subscriptions
    tasks: TaskGroup
    stats: StatsRecorder
    hooks: Hooks = field(default_factory=Hooks)
