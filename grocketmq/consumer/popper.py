"""One pop: ask a broker for messages, and make its answer ready for use."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from grocketmq.client.instance import ClientInstance
from grocketmq.client.packing import unpack
from grocketmq.client.pop_api import PopAPI, PopStatus
from grocketmq.consumer.pop_decode import decode_popped
from grocketmq.consumer.pop_queue import BrokerClocks
from grocketmq.errors import ConfigError, RemoteProtocolError
from grocketmq.hooks import Hooks
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, SubscriptionData
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.headers import PopMessageRequestHeader

__all__ = ["MAX_POP_MESSAGES", "Popped", "Popper"]

log = logging.getLogger(__name__)

#: Brokers refuse to give more messages in one answer.
MAX_POP_MESSAGES = 32

_FIND_TIMEOUT = 3.0
#: Where a group that has no offset begins: a broker's word for the oldest message and for the newest.
_INIT_OLDEST, _INIT_NEWEST = 0, 1
#: A request without a time gets the broker's own when it arrives, so that clocks need not agree.
_NO_BORN_TIME = 0


@dataclass(slots=True)
class Popped:
    """What a pop found.

    :param status: whether it found anything.
    :param wanted: the messages.
    :param unwanted: messages whose tags only look alike by hash, and those a filter hook left out; to be acknowledged.
    :param broken: messages whose bodies cannot be unpacked.
    :param rest: how many messages the broker has beyond those.
    """

    status: PopStatus
    wanted: list[MessageExt] = field(default_factory=list)
    unwanted: list[MessageExt] = field(default_factory=list)
    broken: list[MessageExt] = field(default_factory=list)
    rest: int = 0


class Popper:
    """Pops for one group.

    :param group: the consumer group.
    :param instance: its instance.
    :param api: makes the calls.
    :param clocks: the brokers' clocks, set by each answer.
    :param consume_from: where the group begins in a queue for which it has no offset yet.
    :param hooks: may keep messages from the consumer, which count as consumed.
    """

    def __init__(
        self,
        group: str,
        instance: ClientInstance,
        api: PopAPI,
        clocks: BrokerClocks,
        consume_from: ConsumeFromWhere,
        hooks: Hooks,
    ) -> None:
        self._hooks = hooks
        self._group = group
        self._instance = instance
        self._api = api
        self._clocks = clocks
        self._init_mode = _INIT_OLDEST if consume_from is ConsumeFromWhere.FIRST_OFFSET else _INIT_NEWEST

    def pop(self, queue: MessageQueue, subscription: SubscriptionData, count: int, invisible: float, hold: float) -> Popped:
        """Pop once; blocks at most for ``hold`` and 10 s, and while large bodies are unpacked in the thread pool.

        :param queue: what to pop; id -1 for any queue of its broker.
        :param subscription: what is wanted of it.
        :param count: messages at most, 32 or fewer.
        :param invisible: seconds for which nobody else gets them.
        :param hold: seconds the broker may hold the request while it finds nothing.
        :raises RouteNotFoundError: when the broker has no master now.
        :raises RemotingError: no answer.
        :raises BrokerError: an answer with an error code.
        :raises RemoteProtocolError: an answer that cannot be read; its messages come again.
        """
        header = PopMessageRequestHeader(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            max_msg_nums=count,
            invisible_time=int(invisible * 1000),
            poll_time=int(hold * 1000),
            born_time=_NO_BORN_TIME,
            init_mode=self._init_mode,
            exp_type=subscription.expression_type,
            exp=subscription.sub_string,
            bname=queue.broker_name,
        )
        answer = self._api.pop(self._instance.master_address(queue, Deadline(_FIND_TIMEOUT)), header)
        if answer.header is None:
            return Popped(answer.status)
        self._clocks.note(queue.broker_name, answer.header.pop_time)
        found = Popped(answer.status, rest=answer.header.rest_num)
        messages = decode_popped(queue.topic, queue.broker_name, answer.header, answer.body)
        if (namespace := self._instance.namespace) is not None:
            namespace.received(messages)
        for message in messages:
            if not subscription.matches(message.tags):
                found.unwanted.append(message)
            elif _unpacked(message):
                found.wanted.append(message)
            else:
                found.broken.append(message)
        if self._hooks.filter_messages:
            kept = self._hooks.kept(self._group, queue, found.wanted)
            found.unwanted += [message for message in found.wanted if message not in kept]
            found.wanted = kept
        return found


def _unpacked(message: MessageExt) -> bool:
    try:
        unpack(message)
    except (RemoteProtocolError, ConfigError) as error:
        log.error("%s cannot be unpacked, so it counts as not consumed: %s", message, error)
        return False
    return True
