"""One pull: ask a broker for messages of a queue, and make its answer ready for use.

Source: Apache RocketMQ 5.3.3, module client, class ``PullAPIWrapper``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from grocketmq.client.instance import ClientInstance
from grocketmq.client.packing import unpack
from grocketmq.codes import RequestCode
from grocketmq.errors import RemoteProtocolError, UnsupportedRequestError
from grocketmq.hooks import Hooks
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import MASTER_ID, MessageQueue
from grocketmq.model.subscription import SubscriptionData
from grocketmq.wire.flags import MessageSysFlag, pull_sys_flag
from grocketmq.wire.headers import PullMessageRequestHeader
from grocketmq.wire.message_codec import decode_messages
from grocketmq.wire.pull_command import PullFields, PullTemplate

__all__ = [
    "ANSWER_TIMEOUT",
    "HELD_TIMEOUT",
    "HOLD",
    "PULL_MAX_BYTES",
    "PUSH_HOLD",
    "PullOptions",
    "Puller",
]

log = logging.getLogger(__name__)

#: Seconds a broker may hold a request that finds nothing: a push consumer's, and one of a consumer that is asked for messages.
PUSH_HOLD = 15.0
HOLD = 20.0
#: Seconds to wait for the answer to a request that may be held, and to one that may not.
HELD_TIMEOUT = 30.0
ANSWER_TIMEOUT = 10.0
#: Bytes of messages in one answer at most.
PULL_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class PullOptions:
    """How to pull.

    :param max_nums: messages at most; brokers give at most 32 by default.
    :param hold: seconds a broker may hold the request while it finds nothing; 0 for an answer at once.
    :param timeout: seconds to wait for the answer; a held one may be 5 s late.
    :param send_subscription: whether the request carries the expression, instead of relying on the heartbeat's.
    :param store_offset: whether the broker is to store the offset reached so far, on the way.
    :param lite: whether it is a lite pull consumer's.
    """

    max_nums: int
    hold: float
    timeout: float
    send_subscription: bool = False
    store_offset: bool = False
    lite: bool = False


class Puller:
    """Pulls for one group.

    :param group: the consumer group.
    :param instance: its instance.
    :param hooks: may leave messages out.
    """

    def __init__(self, group: str, instance: ClientInstance, hooks: Hooks) -> None:
        self._hooks = hooks
        self._group = group
        self._instance = instance
        #: Which member of each queue's broker to ask, as it suggested last; a master is not noted.
        self._suggested: dict[MessageQueue, int] = {}
        #: Queues at brokers before 5.0, which know no pulls of lite pull consumers but serve them as common ones.
        self._without_lite: set[MessageQueue] = set()
        #: The constant part of each queue's requests, and what it was made from.
        self._templates: dict[MessageQueue, tuple[SubscriptionData, PullOptions, PullTemplate]] = {}

    def pull(
        self, queue: MessageQueue, subscription: SubscriptionData, offset: int, options: PullOptions, reached: int | None
    ) -> PullResult:
        """Pull once; blocks at most for the options' timeout, and while large bodies are unpacked in the thread pool.

        :param queue: what to pull.
        :param subscription: what is wanted of it.
        :param offset: where to begin.
        :param options: how.
        :param reached: an offset for the broker to store on the way, None for none; only masters do.
        :returns: what was found; messages whose tags only look alike by hash are left out, and
            those that a filter hook does not keep.
        :raises RouteNotFoundError: when no address of the broker is known.
        :raises RemotingError: no answer.
        :raises BrokerError: an answer with an error code.
        :raises RemoteProtocolError: messages that cannot be read.
        """
        suggested = self._suggested.get(queue, MASTER_ID)
        address, broker_id = self._instance.routes.broker_for_pull(queue, suggested)
        if broker_id != MASTER_ID:
            reached = None
        request = self._template(queue, subscription, options).command(offset, _sys_flag(options, reached), reached or 0)
        try:
            status, fields, body = self._instance.api.pull(address, request, options.timeout)
        except UnsupportedRequestError:
            if not options.lite or queue in self._without_lite:
                raise
            self._without_lite.add(queue)
            self._templates.pop(queue, None)
            return self.pull(queue, subscription, offset, options, reached)
        self._note_suggestion(queue, fields.suggest_which_broker_id)
        messages = []
        if status is PullStatus.FOUND:
            messages = _read(queue, fields, body)
            if (namespace := self._instance.namespace) is not None:
                namespace.received(messages)
            if subscription.tags:  # the broker compares hashes only
                messages = [message for message in messages if subscription.matches(message.tags)]
            if self._hooks.filter_messages:
                messages = self._hooks.kept(self._group, queue, messages)
        return PullResult(status, messages, fields.next_begin_offset, fields.min_offset, fields.max_offset)

    def _template(self, queue: MessageQueue, subscription: SubscriptionData, options: PullOptions) -> PullTemplate:
        known = self._templates.get(queue)
        if known is not None and known[0] is subscription and known[1] is options:
            return known[2]
        header = PullMessageRequestHeader(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            queue_offset=0,
            max_msg_nums=options.max_nums,
            sys_flag=0,
            commit_offset=0,
            suspend_timeout_millis=int(options.hold * 1000),
            subscription=subscription.sub_string if options.send_subscription else None,
            sub_version=subscription.sub_version,
            expression_type=subscription.expression_type,
            max_msg_bytes=PULL_MAX_BYTES,
            bname=queue.broker_name,
        )
        lite = options.lite and queue not in self._without_lite
        code = RequestCode.LITE_PULL_MESSAGE if lite else RequestCode.PULL_MESSAGE
        template = PullTemplate(header, code)
        self._templates[queue] = (subscription, options, template)
        return template

    def forget(self, queue: MessageQueue) -> None:
        """Forget what is kept for a queue; never blocks."""
        self._suggested.pop(queue, None)
        self._templates.pop(queue, None)
        self._without_lite.discard(queue)

    def _note_suggestion(self, queue: MessageQueue, broker_id: int) -> None:
        if broker_id != MASTER_ID:
            self._suggested[queue] = broker_id
        elif queue in self._suggested:
            del self._suggested[queue]


def _sys_flag(options: PullOptions, reached: int | None) -> int:
    return pull_sys_flag(
        commit_offset=bool(reached),
        suspend=options.hold > 0,
        subscription=options.send_subscription,
        lite_pull=options.lite,
    )


def _read(queue: MessageQueue, fields: PullFields, body: bytes) -> list[MessageExt]:
    overlay = {Property.MIN_OFFSET: str(fields.min_offset), Property.MAX_OFFSET: str(fields.max_offset)}
    messages = decode_messages(body, broker_name=queue.broker_name, decompress=False, overlay=overlay)
    for message in messages:
        if message.sys_flag & MessageSysFlag.COMPRESSED:
            try:
                unpack(message)
            except RemoteProtocolError as error:  # handed on as it is, and still marked: the queue must not stand still for it
                log.error("the body of %s cannot be unpacked, so the listener gets it packed: %s", message, error)
        message.queue_id = queue.queue_id
    if fields.offset_delta:
        for message in messages:
            message.queue_offset += fields.offset_delta
    return messages
