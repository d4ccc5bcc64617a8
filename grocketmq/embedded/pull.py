"""Pulls, and those that wait for messages.

Source: Apache RocketMQ 5.3.3, module broker, classes ``PullMessageProcessor``, ``DefaultPullMessageResultHandler``; module
store, class ``DefaultMessageStore``.
"""

from __future__ import annotations

from dataclasses import replace

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import no_such_queue
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.clock import Timers
from grocketmq.embedded.filters import EVERYTHING, MessageFilter, check_property_filter, filter_of, is_tag_type
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.store import GetStatus, Got, MessageStore
from grocketmq.embedded.topics import TopicTable
from grocketmq.embedded.waiting import Waiting
from grocketmq.errors import ConfigError
from grocketmq.model.route import MASTER_ID, Permission
from grocketmq.model.subscription import Sql, SubscriptionData, subscription
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.bodies import SubscriptionGroupConfig, TopicConfig
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import PullSysFlag

__all__ = ["Pulls"]

#: What a broker gives in one answer while messages are in memory, whatever the client asks for.
MAX_MESSAGES = 32
MAX_BYTES = 256 * 1024

_CODES = {
    GetStatus.FOUND: ResponseCode.SUCCESS,
    GetStatus.NO_MATCHED: ResponseCode.PULL_RETRY_IMMEDIATELY,
    GetStatus.OVERFLOW_ONE: ResponseCode.PULL_NOT_FOUND,
    GetStatus.OVERFLOW_BADLY: ResponseCode.PULL_OFFSET_MOVED,
    GetStatus.TOO_SMALL: ResponseCode.PULL_OFFSET_MOVED,
    GetStatus.RESET: ResponseCode.PULL_OFFSET_MOVED,
}
_TOPIC_FORBIDDEN, _GROUP_FORBIDDEN, _BROADCASTING_FORBIDDEN = "3", "2", "4"


class Pulls:
    """Answers pulls, at once or when there is something.

    :param store: the broker's messages.
    :param topics: its topics.
    :param clients: its clients and their subscriptions.
    :param offsets: its offsets.
    :param timers: end long polls.
    """

    def __init__(
        self, store: MessageStore, topics: TopicTable, clients: ClientTable, offsets: OffsetTable, timers: Timers
    ) -> None:
        self._store = store
        self._topics = topics
        self._clients = clients
        self._offsets = offsets
        #: Pulls that wait for a message of ``(topic, queue id)``.
        self.waiting = Waiting(timers)

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.PULL_MESSAGE: self._pull, RequestCode.LITE_PULL_MESSAGE: self._pull}

    def held(self) -> int:
        """How many pulls wait."""
        return self.waiting.count()

    def _pull(self, request: RemotingCommand, channel: Channel) -> RemotingCommand | None:
        return self._answer(request, channel, may_hold=True)

    def _answer(self, request: RemotingCommand, channel: Channel, *, may_hold: bool) -> RemotingCommand | None:
        header = headers.PullMessageRequestHeader.parse(request.ext_fields)
        group = self._clients.group_config(header.consumer_group)
        config = self._check(header, group)
        wanted = self._filter(header, group)
        got = self._get(header, wanted)
        if may_hold and header.sys_flag & PullSysFlag.COMMIT_OFFSET:
            self._offsets.offsets[header.consumer_group, header.topic, header.queue_id] = header.commit_offset
        code = _CODES.get(got.status)
        if code is None:  # an empty queue
            code = ResponseCode.PULL_OFFSET_MOVED if header.queue_offset else ResponseCode.PULL_NOT_FOUND
        holds = may_hold and header.sys_flag & PullSysFlag.SUSPEND and self.waiting.has_room(channel)
        if code == ResponseCode.PULL_NOT_FOUND and holds:
            self._hold(request, channel, header, wanted)
            return None
        answer = headers.PullMessageResponseHeader(
            suggest_which_broker_id=MASTER_ID,
            next_begin_offset=got.next_offset,
            min_offset=got.min_offset,
            max_offset=got.max_offset,
            topic_sys_flag=config.topic_sys_flag,
            group_sys_flag=group.group_sys_flag,
        )
        body = b"".join(got.frames) if got.frames else None
        return RemotingCommand.response_to(request, code, got.status.value, answer.to_ext(), body)

    def _check(self, header: headers.PullMessageRequestHeader, group: SubscriptionGroupConfig) -> TopicConfig:
        """Refuse what may not be pulled."""
        if not group.consume_enable:
            remark = f"subscription group no permission, {header.consumer_group}"
            raise Refused(ResponseCode.NO_PERMISSION, remark, {"forbiddenType": _GROUP_FORBIDDEN})
        config = self._topics.get(header.topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist, apply first please!", {})
        if not config.perm & Permission.READ:
            remark = f"the topic[{header.topic}] pulling message is forbidden"
            raise Refused(ResponseCode.NO_PERMISSION, remark, {"forbiddenType": _TOPIC_FORBIDDEN})
        if not 0 <= header.queue_id < config.read_queue_nums:
            raise Refused(ResponseCode.INVALID_PARAMETER, no_such_queue(header.queue_id, config), {})
        return config

    def _filter(self, header: headers.PullMessageRequestHeader, config: SubscriptionGroupConfig) -> MessageFilter:
        """What the group wants of the topic: as the request says, or else as its last heartbeat said."""
        if header.sys_flag & PullSysFlag.SUBSCRIPTION:
            return self._requested_filter(header)
        subscribed = self._subscription(header, config)
        try:
            wanted = filter_of(subscribed)
        except ConfigError as error:
            remark = "The broker's consumer filter data is not exist!Your expression may be wrong!"
            raise Refused(ResponseCode.FILTER_DATA_NOT_EXIST, remark, {}) from error
        check_property_filter(subscribed.expression_type, self._clients.property_filter)
        return wanted

    def _requested_filter(self, header: headers.PullMessageRequestHeader) -> MessageFilter:
        """A filter that came with the pull; a condition that cannot be read filters nothing, as in a real broker."""
        text, kind = header.subscription, header.expression_type
        by_tag = is_tag_type(kind)
        try:
            subscribed = subscription(header.topic, text if by_tag else Sql(text or ""))
        except ConfigError as error:
            remark = "parse the consumer's subscription failed"
            raise Refused(ResponseCode.SUBSCRIPTION_PARSE_FAILED, remark, {}) from error
        check_property_filter(kind, self._clients.property_filter)
        try:
            return filter_of(subscribed if by_tag else replace(subscribed, expression_type=kind or ""))
        except ConfigError:
            return EVERYTHING

    def _subscription(self, header: headers.PullMessageRequestHeader, config: SubscriptionGroupConfig) -> SubscriptionData:
        """What the group's last heartbeat said of the topic."""
        group = self._clients.consumers.get(header.consumer_group)
        if group is None:
            raise Refused(ResponseCode.SUBSCRIPTION_NOT_EXIST, "the consumer's group info not exist", {})
        if group.broadcasting and not config.consume_broadcast_enable:
            remark = f"the consumer group[{group.name}] can not consume by broadcast way"
            raise Refused(ResponseCode.NO_PERMISSION, remark, {"forbiddenType": _BROADCASTING_FORBIDDEN})
        subscribed = group.subscriptions.get(header.topic)
        if subscribed is None:
            raise Refused(ResponseCode.SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist", {})
        if subscribed.sub_version < header.sub_version:
            raise Refused(ResponseCode.SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest", {})
        return subscribed

    def _get(self, header: headers.PullMessageRequestHeader, wanted: MessageFilter) -> Got:
        queue = self._store.queue(header.topic, header.queue_id)
        reset = self._offsets.take_reset(header.consumer_group, header.topic, header.queue_id)
        if reset is not None:
            return Got(GetStatus.RESET, reset, queue.min_offset, queue.max_offset, [])
        return queue.get(header.queue_offset, min(header.max_msg_nums, MAX_MESSAGES), MAX_BYTES, wanted)

    def _hold(
        self, request: RemotingCommand, channel: Channel, header: headers.PullMessageRequestHeader, wanted: MessageFilter
    ) -> None:
        key = (header.topic, header.queue_id)
        checked = header.queue_offset

        def answer(at_its_end: bool) -> RemotingCommand | None:
            nonlocal checked
            queue = self._store.queue(*key)
            if at_its_end or queue.holds(wanted, checked):
                return self._answer(request, channel, may_hold=False)
            checked = queue.max_offset
            return None

        self.waiting.hold(request, channel, (key,), header.suspend_timeout_millis / 1000, answer)
