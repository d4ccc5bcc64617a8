"""What operators ask of a running consumer, through its brokers.

Source: Apache RocketMQ 5.3.3, module client, classes ``DefaultMQPushConsumerImpl`` (``consumerRunningInfo``),
``ConsumeMessageConcurrentlyService`` and ``ConsumeMessageOrderlyService`` (``consumeMessageDirectly``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from time import monotonic, time
from typing import Any

import gevent

from grocketmq.client.config import ClientConfig
from grocketmq.codes import PROTOCOL_VERSION
from grocketmq.consumer.listener import ConsumeContext, OrderlyContext, consumed_of, orderly_outcome_of
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.stats import StatsRecorder, TopicRates
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.results import ConsumeOrderlyStatus
from grocketmq.model.route import MessageQueue
from grocketmq.model.version import version_name
from grocketmq.runtime.turns import in_turns
from grocketmq.wire.bodies import CMResult, ConsumeMessageDirectlyResult, ConsumeStatus, ConsumeType, ProcessQueueInfo

__all__ = [
    "client_properties",
    "consume_directly",
    "no_listener",
    "process_queue_infos",
    "reached_offsets",
    "topic_statuses",
]

_ORDERLY_RESULTS = {
    ConsumeOrderlyStatus.SUCCESS: CMResult.SUCCESS,
    ConsumeOrderlyStatus.COMMIT: CMResult.COMMIT,
    ConsumeOrderlyStatus.ROLLBACK: CMResult.ROLLBACK,
    ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT: CMResult.LATER,
}


def client_properties(config: ClientConfig, settings: object, kind: ConsumeType, started: float) -> dict[str, str]:
    """A consumer's settings as operators see them; never blocks.

    :param config: the common settings.
    :param settings: its own, a dataclass; None for none.
    :param kind: how it gets its messages.
    :param started: when, seconds since the epoch.
    """
    own = {one.name: str(getattr(settings, one.name)) for one in fields(settings)} if is_dataclass(settings) else {}
    return {
        **own,
        "PROP_NAMESERVER_ADDR": ";".join(config.namesrv_addresses),
        "PROP_CONSUME_TYPE": kind.value,
        "PROP_CONSUMEORDERLY": "false",
        "PROP_CONSUMER_START_TIMESTAMP": str(int(started * 1000)),
        "PROP_CLIENT_VERSION": version_name(PROTOCOL_VERSION),
    }


def process_queue_infos(
    queues: Mapping[MessageQueue, ProcessQueue], store: OffsetStore
) -> dict[MessageQueue, ProcessQueueInfo]:
    """A consumer's queues as operators see them; lets other greenlets run when there are many.

    :param queues: the queues.
    :param store: the offsets reached.
    """
    held = list(queues.items())
    return {queue: _process_queue_info(one, store.in_memory(queue) or 0) for queue, one in in_turns(held)}


def _process_queue_info(held: ProcessQueue, commit_offset: int) -> ProcessQueueInfo:
    waiting, taken = held.offsets(), held.taken_offsets()
    to_epoch = time() - monotonic()

    def epoch_ms(moment: float) -> int:
        return int((moment + to_epoch) * 1000)

    return ProcessQueueInfo(
        commit_offset=commit_offset,
        cached_msg_min_offset=waiting[0] if waiting else 0,
        cached_msg_max_offset=waiting[-1] if waiting else 0,
        cached_msg_count=len(waiting),
        cached_msg_size_in_mib=held.size_bytes // (1024 * 1024),
        transaction_msg_min_offset=taken[0] if taken else 0,
        transaction_msg_max_offset=taken[-1] if taken else 0,
        transaction_msg_count=len(taken),
        locked=held.locked,
        try_unlock_times=held.unlock_tries,
        last_lock_timestamp=epoch_ms(held.last_lock),
        dropped=held.dropped,
        last_pull_timestamp=epoch_ms(held.last_pull),
        last_consume_timestamp=epoch_ms(held.last_consume),
    )


def reached_offsets(queues: Iterable[MessageQueue], topic: str, store: OffsetStore) -> dict[MessageQueue, int]:
    """The offsets reached in those queues that are a topic's; lets other greenlets run when there are many.

    :param queues: a consumer's queues.
    :param topic: the topic's name.
    :param store: the offsets reached.
    """
    wanted = [queue for queue in in_turns(list(queues)) if queue.topic == topic]
    reached = ((queue, store.in_memory(queue)) for queue in in_turns(wanted))
    return {queue: offset for queue, offset in reached if offset is not None}


def topic_statuses(topics: Iterable[str], stats: StatsRecorder) -> dict[str, ConsumeStatus]:
    """Topics' rates as operators see them; never blocks.

    :param topics: their names.
    :param stats: the consumer's counts.
    """
    rates = stats.rates(monotonic())
    return {topic: _topic_status(rates.get(topic, TopicRates())) for topic in topics}


def _topic_status(rates: TopicRates) -> ConsumeStatus:
    """Times in ms."""
    return ConsumeStatus(
        pull_rt=rates.pull_seconds * 1000,
        pull_tps=rates.pulled_per_second,
        consume_rt=rates.listener_seconds * 1000,
        consume_ok_tps=rates.consumed_per_second,
        consume_failed_tps=rates.failed_per_second,
        consume_failed_msgs=rates.failed_last_hour,
    )


def no_listener(consumer: object) -> ConsumeMessageDirectlyResult:
    """The answer of a consumer without a listener to an operator who wants a message consumed; never blocks."""
    remark = f"{consumer!r} has no listener; its application asks for messages itself"
    return ConsumeMessageDirectlyResult(CMResult.THROW_EXCEPTION, False, True, remark, 0)


def consume_directly(
    listener: Callable[[list[MessageExt], Any], object], message: MessageExt, *, orderly: bool
) -> ConsumeMessageDirectlyResult:
    """Give one message to the listener because an operator asks for it; blocks as long as the listener does.

    Nothing is acknowledged and no offset moves.

    :param listener: ``(messages, context) -> answer``.
    :param message: the message.
    :param orderly: whether the listener is an orderly one.
    :returns: what it said, or what it raised.
    """
    if is_retry_topic(message.topic):
        message.topic = message.properties.get(Property.RETRY_TOPIC, message.topic)
    began = monotonic()
    remark = None
    auto_commit = True
    try:
        if orderly:
            context = OrderlyContext(message.message_queue)
            result = _ORDERLY_RESULTS[orderly_outcome_of(listener([message], context))]
            auto_commit = context.auto_commit
        else:
            plain = ConsumeContext(message.message_queue)
            consumed = consumed_of(listener([message], plain), plain, 1)
            result = CMResult.SUCCESS if consumed else CMResult.LATER
    except (Exception, gevent.Timeout) as error:
        result = CMResult.THROW_EXCEPTION
        remark = repr(error)
    return ConsumeMessageDirectlyResult(result, orderly, auto_commit, remark, int((monotonic() - began) * 1000))
