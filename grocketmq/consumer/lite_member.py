"""``LiteMember``: a lite pull consumer as its instance sees it: start and stop, heartbeats, queues, offsets.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultLitePullConsumerImpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic, time
from typing import Any

from gevent.lock import RLock

from grocketmq.client.config import split_options
from grocketmq.consumer.assignment import Assignment
from grocketmq.consumer.config import LitePullConsumerConfig
from grocketmq.consumer.introspection import (
    client_properties,
    no_listener,
    process_queue_infos,
    reached_offsets,
    topic_statuses,
)
from grocketmq.consumer.lite_pulls import LitePulls
from grocketmq.consumer.lite_queues import AssignedQueues
from grocketmq.consumer.local_offset_store import LocalFileOffsetStore
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.offset_store import OffsetStore, RemoteBrokerOffsetStore
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.puller import HELD_TIMEOUT, HOLD, Puller, PullOptions
from grocketmq.consumer.start_offset import start_offset
from grocketmq.consumer.stats import SAMPLE_INTERVAL, StatsRecorder
from grocketmq.consumer.subscription_check import CHECK_INTERVAL, SubscriptionCheck
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.trace import TracedClient
from grocketmq.wire.bodies import ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo, ConsumeType

__all__ = ["LiteMember"]


class LiteMember(TracedClient):
    """The part of a lite pull consumer that its users need not know.

    :param group: the consumer group's name.
    :param options: fields of :class:`~grocketmq.consumer.config.LitePullConsumerConfig` and
        :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    _WORKS_UNASKED = True

    def __init__(self, group: str, **options: Any) -> None:
        common, self.settings = split_options(type(self).__name__, options, LitePullConsumerConfig)
        self._broadcasting = self.settings.model is MessageModel.BROADCASTING
        super().__init__(group, common)
        self._subscriptions = Subscriptions()
        #: The queues it was told to take; None unless it was.
        self._wanted: frozenset[MessageQueue] | None = None
        self._started_at = 0.0
        self._next_auto_commit = 0.0

    def _renew(self) -> None:
        super()._renew()
        self._tasks = self._new_tasks()
        self._stats = StatsRecorder()
        default_store = LocalFileOffsetStore if self._broadcasting else RemoteBrokerOffsetStore
        self._store: OffsetStore = self.settings.offset_store or default_store()
        self._process_queues: dict[MessageQueue, ProcessQueue] = {}
        self._told: dict[str, set[MessageQueue]] = {}

    def _debug(self) -> dict[str, Any]:
        return {**super()._debug(), "queues": {str(queue): repr(one) for queue, one in self._process_queues.items()}}

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._started_at = time()
        self._next_auto_commit = monotonic() + self.settings.auto_commit_interval
        instance = self._join_instance()
        self._start_hooks(instance)
        self._store.open(instance, self.group)
        self._compose()
        instance.register_consumer(self)
        instance.find_routes(self._subscriptions.topics())
        self._check.compile()
        instance.heartbeat_now()
        self._assignment.start()
        if not self.rebalance():
            instance.rebalance_soon()

    def _compose(self) -> None:
        instance, settings, tasks = self._instance, self.settings, self._tasks
        self._gate = FairGate()
        self._committing = RLock()
        self._check = SubscriptionCheck(self.group, instance, self._subscriptions)
        self._queues = AssignedQueues(settings, self._process_queues)
        options = PullOptions(
            max_nums=settings.pull_batch_size, hold=HOLD, timeout=HELD_TIMEOUT, send_subscription=True, lite=True
        )
        puller = Puller(self.group, instance, self._hooks)
        member = Membership(self.group, instance, settings, self._subscriptions, tasks, self._stats, self._hooks)
        self._pulls = LitePulls(member, puller, options, self._queues)
        self._assignment = Assignment(
            self.group,
            instance,
            self._process_queues,
            self._subscriptions,
            None if self._broadcasting else settings.allocate_strategy,
            self._store,
            self._pulls,
            lambda queue: start_offset(queue, self._store, settings, instance, self._started_at),
            self._pulls.begin,
        )
        self._assignment.wanted = self._wanted
        tasks.periodic("sample stats", SAMPLE_INTERVAL, lambda: self._stats.sample(monotonic()))
        tasks.periodic("check subscriptions", CHECK_INTERVAL, self._check_agreement, CHECK_INTERVAL)

    def _shutdown(self, timeout: float) -> None:
        """Polls end first, so that nothing more is handed out; what was committed is stored while the group is still ours."""
        if self._shared is None:
            return
        if hasattr(self, "_assignment"):
            self._queues.close()
            self._assignment.stop()
            self.persist_offsets()
            self._gate.close()
        self._stop_trace(Deadline(timeout))
        self._tasks.kill()
        self._instance.unregister_consumer(self)
        self._leave_instance()

    def _check_agreement(self) -> None:
        if self._wanted is None:
            self._check.agreement()

    def _subscribed(self, topics: Iterable[str]) -> None:
        """Put changed subscriptions to work, if it runs."""
        if self.state is ServiceState.RUNNING:
            self._check_running()
            self._assignment.wanted = self._wanted
            self._instance.find_routes(topics)
            self._check.compile()
            self._instance.heartbeat_now()
            if not self.rebalance():
                self._instance.rebalance_soon()

    # -- for the instance ----------------------------------------------------------------------------------------------------

    def topics(self) -> Iterable[str]:
        """The topics whose routes it needs."""
        return self._subscriptions.topics()

    def heartbeat_data(self) -> ConsumerData:
        """What brokers are told of it; of assigned queues nothing, since no other member has to know."""
        return ConsumerData(
            self.group,
            ConsumeType.ACTIVELY,
            self.settings.model,
            self.settings.consume_from,
            self._subscriptions.all() if self._wanted is None else (),
            unit_mode=self.config.unit_name is not None,
        )

    def rebalance(self) -> bool:
        """Take its share of the queues, or those assigned, now; blocks for calls to brokers.  It also happens by itself.

        :returns: whether it has exactly those.
        """
        self._check_started()
        balanced = self._assignment.run()
        self._tell_changes()
        return balanced

    def _tell_changes(self) -> None:
        """Call ``on_rebalance`` for every topic whose queues are others than at the last time."""
        if self.settings.on_rebalance is None:
            return
        mine: dict[str, set[MessageQueue]] = {}
        for queue in self._process_queues:
            mine.setdefault(queue.topic, set()).add(queue)
        for topic in sorted(mine.keys() | self._told.keys()):
            queues = mine.get(topic, set())
            if queues != self._told.get(topic, set()):
                everyone = list(self._instance.routes.subscribe.get(topic, ()))
                self._tasks.spawn("on rebalance", self.settings.on_rebalance, topic, everyone, sorted(queues))
        self._told = mine

    def persist_offsets(self) -> None:
        """Store the positions committed so far; blocks for calls to brokers.  It also happens by itself."""
        self._check_started()
        self._store.persist(list(self._process_queues))

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The positions committed in a topic's queues that it has at present; lets other greenlets run when there are many.

        :param topic: the topic's name.
        """
        self._check_started()
        return reached_offsets(self._process_queues, topic, self._store)

    def reset_offsets(self, offsets: Mapping[MessageQueue, int]) -> None:
        """Go on at these offsets, and store them; queues it does not have are passed over.  Blocks for calls to brokers.

        :param offsets: where to go on in which queue.
        """
        self._check_started()
        for queue, offset in offsets.items():
            assigned = self._queues.get(queue)
            if assigned is not None:
                self._pulls.move(assigned, offset)
                self._store.update(queue, offset, increase_only=False)
        self.persist_offsets()

    def running_info(self) -> ConsumerRunningInfo:
        """Its state as operators see it: settings, subscriptions, queues, rates.  Lets other greenlets run when it has many
        queues."""
        self._check_started()
        properties = client_properties(self.config, self.settings, ConsumeType.ACTIVELY, self._started_at)
        queues = process_queue_infos(self._process_queues, self._store)
        status = topic_statuses(self._subscriptions.topics(), self._stats)
        return ConsumerRunningInfo(properties, self._subscriptions.all(), queues, status_table=status)

    def consume_directly(self, message: MessageExt) -> ConsumeMessageDirectlyResult:
        """Refuse an operator's message: there is no listener that could consume it."""
        return no_listener(self)
