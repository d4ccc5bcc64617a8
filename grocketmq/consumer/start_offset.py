"""Where a consumer begins in a queue.

Source: Apache RocketMQ 5.3.3, module client, class ``RebalancePushImpl`` (``computePullFromWhereWithException``).
"""

from __future__ import annotations

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.config import ConsumerConfig
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere
from grocketmq.runtime.deadline import Deadline

__all__ = ["start_offset"]

_FIND_TIMEOUT = 3.0


def start_offset(
    queue: MessageQueue, store: OffsetStore, settings: ConsumerConfig, instance: ClientInstance, started: float
) -> int:
    """The offset to pull from first; blocks for one or two calls to the queue's broker.

    A stored offset counts before all.  Without one, ``FIRST_OFFSET`` begins at 0 (the broker then tells the true
    minimum), ``LAST_OFFSET`` at the end, ``TIMESTAMP`` at the first message since then; a retry topic begins at 0 for
    the first two, at the end for the last.

    :param queue: the queue.
    :param store: the group's offsets.
    :param settings: the consumer's.
    :param instance: makes the calls.
    :param started: when the consumer was started, seconds since the epoch.
    :raises GRocketMQError: when a broker cannot be asked; that is not "no offset", so the queue must wait.
    """
    stored = store.read(queue)
    if stored is not None:
        return stored
    where = settings.consume_from
    retry = is_retry_topic(queue.topic)
    if where is ConsumeFromWhere.FIRST_OFFSET or (where is ConsumeFromWhere.LAST_OFFSET and retry):
        return 0
    address = instance.master_address(queue, Deadline(_FIND_TIMEOUT))
    if where is ConsumeFromWhere.LAST_OFFSET or retry:
        return instance.api.max_offset(address, queue)
    return instance.api.search_offset(address, queue, settings.consume_timestamp_ms(started))
