"""The parts of a push consumer that pops.

The way of a message: the rebalance asks brokers which queues are to be popped (``pop_rebalance``); a loop for each pops it
(``pop_service``, ``popper``, ``pop_decode``) and puts a consume request into the consume service's queue; a listener
greenlet (``pop_consume``) runs the listener; what is done is acknowledged (``pop_acks``).  The broker keeps the offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Any

from grocketmq.client.pop_api import PopAPI
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.consumption import Consumption
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.pop_acks import AckService, PopAcks
from grocketmq.consumer.pop_consume import PopConsumeService
from grocketmq.consumer.pop_queue import BrokerClocks, PopQueue
from grocketmq.consumer.pop_rebalance import PopRebalance
from grocketmq.consumer.pop_service import PopService
from grocketmq.consumer.popper import Popper
from grocketmq.consumer.send_back import SendBack
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.bodies import PopProcessQueueInfo

__all__ = ["PopConsumption"]


class PopConsumption(Consumption):
    """See :class:`~grocketmq.consumer.consumption.Consumption`.

    :param member: the consumer.
    :param listener: ``(messages, context) -> answer``.
    """

    def __init__(self, member: Membership[PushConsumerConfig], listener: Callable[[list[MessageExt], Any], object]) -> None:
        group, instance, settings = member.group, member.instance, member.settings
        self._await = settings.await_termination
        self._queues: dict[MessageQueue, PopQueue] = {}
        api, clocks = PopAPI(instance.remoting), BrokerClocks()
        acks = PopAcks(group, instance, api, clocks)
        ack_service = AckService(acks, member.tasks)
        send_back = SendBack(group, instance, settings.reconsume_limit)
        popper = Popper(group, instance, api, clocks, settings.consume_from, member.hooks)
        self._consuming = PopConsumeService(member, listener, acks, ack_service, send_back)
        self.fetching = self._pops = PopService(member, popper, self._consuming, ack_service)
        strategy = settings.allocate_strategy.name
        self._rebalance = PopRebalance(group, instance, api, self._queues, member.subscriptions, strategy, self._pops.begin)

    def prepare(self) -> None:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        self._rebalance.prepare()

    def rebalance(self) -> bool:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return self._rebalance.run()

    def held(self) -> dict[MessageQueue, PopQueue]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return self._queues

    def pop_infos(self) -> dict[MessageQueue, PopProcessQueueInfo]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        to_epoch = time() - monotonic()
        return {
            queue: PopProcessQueueInfo(popped.count, popped.dropped, int((popped.last_pop + to_epoch) * 1000))
            for queue, popped in self._queues.items()
        }

    def stop(self, deadline: Deadline) -> None:
        """Pops stop first, so that nothing new comes; listeners end, and what they have consumed is acknowledged.  The rest
        comes again, to another member, when its invisible time is over."""
        self._pops.stop()
        self._rebalance.stop()
        self._consuming.stop(Deadline(min(deadline.remaining(), self._await)))
